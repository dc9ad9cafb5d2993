"""Films as they come over DICOM: stored before they are confirmed, and handed on as jobs once a study has its pair."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from pydicom.filewriter import dcmwrite

from scripts.deploy.study import ANCHOR_FILE, geometry_name
from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.study import choose_film
from scripts.io.atomic import NoRoomError
from scripts.serving.spool import STUDY, Spool, State, folders, sync

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


class Inbox:
    """Films as they come, a folder a study.

    Args:
        spool: whose ``receiving`` folder is used.
        settle_s: how long nothing must have come.
        keep_s: how long a study may lack its pair.
        geometry: geometry file of the machine that the films come from; None if headers contain it.
        anchor: a level that holds in all of its films, such as ``L5`` for the lowest vertebra; empty if none is known.
    """

    def __init__(
        self, spool: Spool, settle_s: float, keep_s: float, geometry: Path | None = None, anchor: str = ""
    ) -> None:
        self.spool, self.settle_s, self.keep_s = spool, settle_s, keep_s
        self.geometry, self.anchor = geometry, anchor
        self._lock = threading.Lock()
        # Studies without a pair: when they last changed, in ns, and what they lack. Their headers are not read again.
        self._incomplete: dict[Path, tuple[int, str]] = {}

    def store(self, event: Any) -> int:
        """Answer a C-STORE: its status."""
        try:
            film = event.dataset
            film.file_meta = event.file_meta
            uids = [str(film[key].value or "").strip(" \0") for key in ("StudyInstanceUID", "SOPInstanceUID")]
        except (KeyError, AttributeError, ValueError):
            return CANNOT_UNDERSTAND
        if not all(uids):
            # All patients of such a machine would share one study.
            return CANNOT_UNDERSTAND
        study, name = (_hash(uid) for uid in uids)
        try:
            with self._lock:
                folder = self.spool.receiving / study
                (folder / STUDY).mkdir(parents=True, exist_ok=True, mode=0o700)
                part = folder / STUDY / f".{name}.part"
                dcmwrite(part, film, enforce_file_format=True)
                part.rename(folder / STUDY / f"{name}.dcm")
                sync(folder)
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def hand_over(self) -> None:
        """Studies that have settled and hold a pair become jobs; those that never get one fail.

        Raises:
            OSError, NoRoomError: one could not be handed over, nor is it lost; the others were.
        """
        failure: OSError | NoRoomError | None = None
        found = folders(self.spool.receiving)
        self._incomplete = {folder: self._incomplete[folder] for folder in found if folder in self._incomplete}
        for folder in found:
            try:
                with self._lock:
                    self._hand_over(folder)
            except (OSError, NoRoomError) as error:
                failure = error
        if failure:
            raise failure

    def _hand_over(self, folder: Path) -> None:
        films = folder / STUDY
        if not films.is_dir():
            return
        changed_ns = films.stat().st_mtime_ns
        quiet = time.time() - changed_ns / 1e9
        if quiet < self.settle_s or self.spool.count(State.WAITING) >= self.spool.capacity:
            return
        known_ns, lacks = self._incomplete.get(folder, (-1, ""))
        if known_ns != changed_ns:
            lacks = _lack(films)
        if lacks:
            self._incomplete[folder] = changed_ns, lacks
            if quiet > self.keep_s:
                self.spool.reject(folder, lacks)
            return
        if self.geometry:
            shutil.copyfile(self.geometry, films / geometry_name(self.geometry))
        if self.anchor:
            (films / ANCHOR_FILE).write_text(self.anchor)
        self.spool.submit(folder)


def _lack(films: Path) -> str:
    """Why a study has no pair, in one line; empty if it has one."""
    try:
        for view in (Projection.FRONTAL, Projection.LATERAL):
            choose_film(films, view)
    except UserError as error:
        return str(error).replace(str(films), "the study")
    return ""


def _hash(uid: str) -> str:
    """A name of files and folders that does not identify the study."""
    return hashlib.sha256(uid.encode()).hexdigest()[:24]
