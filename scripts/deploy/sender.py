"""Results to an archive: C-STORE of a folder of DICOM files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import EncapsulatedSTLStorage, SegmentationStorage  # type: ignore[attr-defined]

from scripts.errors import UserError

ADDRESS = re.compile(r"(?P<title>[^@\s]{1,16})@(?P<host>[^:\s]+):(?P<port>\d{1,5})")
# Success, and the warnings of C-STORE: elements were coerced, or discarded, or do not match; the object is stored.
STORED = (0x0000, 0xB000, 0xB006, 0xB007)
TIMEOUT_S = 30


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
        if not found or not 0 < int(found["port"]) < 65536:
            raise UserError(f"--send-to is AETITLE@host:port, not '{text}'")
        return cls(found["title"], found["host"], int(found["port"]), own_title)


def send_folder(folder: Path, peer: Peer) -> bool:
    """Whether the peer took every file."""
    node = AE(peer.own_title)
    node.connection_timeout = node.acse_timeout = node.dimse_timeout = node.network_timeout = TIMEOUT_S
    for kind in (SegmentationStorage, EncapsulatedSTLStorage):
        node.add_requested_context(kind, ExplicitVRLittleEndian)
    try:
        association = node.associate(peer.host, peer.port, ae_title=peer.title)
        if not association.is_established:
            return False
        try:
            answers = (association.send_c_store(dcmread(path)) for path in sorted(folder.glob("*.dcm")))
            return all(getattr(answer, "Status", None) in STORED for answer in answers)
        finally:
            association.release()
    except (OSError, RuntimeError, ValueError):
        # Among them a name that nobody knows at the moment.
        return False
