"""Results to an archive: C-STORE of a folder of DICOM files, what is refused once apart from what is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import EncapsulatedSTLStorage, SegmentationStorage  # type: ignore[attr-defined]

from scripts.errors import UserError
from scripts.serving.limits import AE_TITLE, LARGEST_PORT
from scripts.serving.security import tell

ADDRESS = re.compile(r"(?P<title>[^@]*)@(?P<host>[^@:\s]+):(?P<port>\d{1,5})", re.ASCII)
# Success, and the warnings of C-STORE: elements were coerced, or discarded, or do not match; the object is stored.
STORED = (0x0000, 0xB000, 0xB006, 0xB007)
TIMEOUT_S = 30
# What makes an object worth sending, by its kind; the segmentation goes first.
PAYLOADS = {SegmentationStorage: "PixelData", EncapsulatedSTLStorage: "EncapsulatedDocument"}
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class UnreadableResultError(Exception):
    """A result is not on the disk as it was computed, as after a power failure."""


class Outcome(Enum):
    """What became of a folder that was sent."""

    STORED = "stored"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Peer:
    """A DICOM node to send to.

    Args:
        title: its AE title.
        host: its name or address.
        port: its port.
        own_title: the AE title we call it by.
    """

    title: str
    host: str
    port: int
    own_title: str

    @classmethod
    def parse(cls, text: str, own_title: str) -> Peer:
        """``AETITLE@host:port``.

        Raises:
            UserError: it is something else.
        """
        found = ADDRESS.fullmatch(text)
        if not found or not AE_TITLE.fullmatch(found["title"]) or not 0 < int(found["port"]) <= LARGEST_PORT:
            raise UserError(f"--send-to is AETITLE@host:port, not {text!r}")
        return cls(found["title"], found["host"], int(found["port"]), own_title)

    def __str__(self) -> str:
        """As it was given."""
        return f"{self.title}@{self.host}:{self.port}"


def read_results(folder: Path) -> list[Dataset]:
    """The objects of a folder, read as a whole before any is sent; the segmentation first.

    Raises:
        UnreadableResultError: there are none, or one is damaged.
        OSError: the disk does not give them now.
    """
    try:
        found = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        whole = bool(found) and all(_is_whole(data) for data in found)
    except (InvalidDicomError, EOFError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UnreadableResultError from error
    if not whole:
        raise UnreadableResultError
    return sorted(found, key=lambda data: bool(data.SOPClassUID != SegmentationStorage))


def _is_whole(data: Dataset) -> bool:
    """Whether an object has all bytes of what it carries: pydicom reads what is left of a file without a word."""
    tag = Tag(PAYLOADS[data.SOPClassUID])
    element = data.get_item(tag) if tag in data else None
    return isinstance(element, RawDataElement) and len(element.value or b"") == element.length > 0


class Sender:
    """Sends results to one peer; tells once what keeps it from taking them, and once when it takes them again.

    Args:
        peer: the node.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._told: set[str] = set()
        # Of folders that are not stored as a whole yet.
        self._stored: set[str] = set()
        self._answered = False

    def send(self, folder: Path) -> Outcome:
        """Send what the peer has not stored yet; an object that is refused does not keep back the others.

        Args:
            folder: of DICOM files.

        Raises:
            UnreadableResultError: see `read_results`; nothing was sent.
            OSError: the disk does not give them now.
        """
        objects = read_results(folder)
        reasons = list(self._send([data for data in objects if str(data.SOPInstanceUID) not in self._stored]))
        for reason in reasons:
            if reason not in self._told:
                self._told.add(reason)
                tell(f"{self.peer} {reason}; results wait in the spool and are sent again")
        uids = {str(data.SOPInstanceUID) for data in objects}
        if uids <= self._stored:
            self._stored -= uids
            return Outcome.STORED
        return Outcome.REFUSED if self._answered else Outcome.UNREACHABLE

    def tell_recovery(self) -> None:
        """To be called when all that waited was stored."""
        if self._told:
            self._told.clear()
            tell(f"{self.peer} takes results again")

    def _send(self, objects: list[Dataset]) -> Iterator[str]:
        """Reasons, in words that follow the peer's name, for which objects were not stored."""
        self._answered = False
        node = AE(self.peer.own_title)
        node.connection_timeout = node.acse_timeout = node.dimse_timeout = node.network_timeout = TIMEOUT_S
        for kind in PAYLOADS:
            node.add_requested_context(kind, SYNTAXES)
        try:
            association = node.associate(self.peer.host, self.peer.port, ae_title=self.peer.title)
        except (OSError, RuntimeError, ValueError):
            # Among them a name that nobody knows at the moment.
            yield "cannot be reached"
            return
        if not association.is_established:
            if association.is_rejected:
                yield f"refuses the association; does it know {self.peer.own_title}?"
            elif association.rejected_contexts:
                yield f"accepts neither {' nor '.join(kind.name for kind in PAYLOADS)}"
            else:
                yield "cannot be reached"
            return
        try:
            for data in objects:
                reason = self._store(association, data)
                if reason:
                    yield reason
                if not association.is_established:
                    break
        finally:
            association.release()

    def _store(self, association: Association, data: Dataset) -> str:
        kind = data.SOPClassUID
        if kind not in {context.abstract_syntax for context in association.accepted_contexts}:
            self._answered = True
            return f"does not accept {kind.name}"
        try:
            answer = association.send_c_store(data)
        except (OSError, RuntimeError, ValueError) as error:
            # What cannot be encoded says nothing of the peer, and keeps back no other job.
            self._answered = isinstance(error, ValueError) or self._answered
            return f"cannot be sent {kind.name} ({type(error).__name__})"
        status = answer.get("Status")
        if status is None:
            return f"did not answer when it was sent {kind.name}"
        self._answered = True
        if status not in STORED:
            return f"answers {kind.name} with status 0x{status:04X}"
        self._stored.add(str(data.SOPInstanceUID))
        return ""
