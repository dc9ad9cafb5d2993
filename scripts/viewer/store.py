"""Where opened cases lie while they are open: a private folder that is gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.io.locks import lock, make_locked
from scripts.serving.room import used_bytes
from scripts.serving.security import same

PREFIX = "vertebrae-viewer-"
# Of one browser, of all.
MOST_CASES, MOST_IN_ALL = 16, 64
MOST_BYTES = 8 * 2**30
# Files among which the user looks for two films, and the bytes of those that are films.
MOST_CANDIDATES, MOST_CANDIDATE_BYTES = 500, 2**30
# A case that nobody has asked for in so long may go when room is needed.
UNUSED_S = 1800.0
# The same of films from which the user has not chosen two.
LEFT_S = 120.0


class StoreFullError(Exception):
    """All room is taken by cases that are in use."""


@dataclass
class StoredCase:
    """A case's folder, and which browser it belongs to.

    Args:
        folder: mode 0700.
        owner: the browser's session.
        used: when it was last asked for.
        cancelled: set to stop the reconstruction that is running.
        names: of its files -> the user's names of them, for errors.
        candidates: files that were sent and from which the user has not chosen two yet -> his names of them; those that
            were of no use are there no more. None once two are chosen.
    """

    folder: Path
    owner: str
    used: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    names: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, str] | None = None

    @property
    def unused(self) -> bool:
        """Whether nobody has asked for it in `UNUSED_S`, or `LEFT_S` where no films were chosen."""
        return time.monotonic() - self.used > (UNUSED_S if self.candidates is None else LEFT_S)


class Store:
    """All open cases. Names are drawn by chance; none comes from a request."""

    def __init__(self) -> None:
        remove_leftovers()
        # Locked as long as this process lives. Its id says nothing to a later start, which may have the same one.
        self.root, handle = make_locked(lambda: tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._held = ExitStack()
        self._held.callback(os.close, handle)
        self.cases: dict[str, StoredCase] = {}

    def create(self, owner: str, size: int = 0) -> tuple[str, StoredCase]:
        """A new case; unused ones go if the browser has too many, the oldest first.

        Args:
            owner: the browser's session.
            size: of its files in bytes.

        Raises:
            StoreFullError: the browser has too many that are in use, or see `make_room`.
        """
        mine = [(case.used, name, case.unused) for name, case in self.cases.items() if case.owner == owner]
        unused = sorted((used, name) for used, name, unused in mine if unused)
        for _ in range(len(mine) - MOST_CASES + 1):
            if not unused:
                raise StoreFullError
            self.remove(unused.pop(0)[1])
        self.make_room(size, 1)
        name = secrets.token_urlsafe(12)
        folder = self.root / name
        folder.mkdir(mode=0o700)
        self.cases[name] = StoredCase(folder, owner)
        return name, self.cases[name]

    def make_room(self, size: int = 0, cases: int = 0) -> None:
        """Close unused cases, the oldest of browsers that do nothing else first, until there is room for more.

        Args:
            size: in bytes, of what is to be stored.
            cases: that are to be added.

        Raises:
            StoreFullError: there are too many, or they are too large, and they are in use.
        """
        active = {case.owner for case in self.cases.values() if not case.unused}
        unused = sorted((case.owner in active, case.used, name) for name, case in self.cases.items() if case.unused)
        while len(self.cases) + cases > MOST_IN_ALL or used_bytes(self.root) + size > MOST_BYTES:
            if not unused:
                raise StoreFullError
            self.remove(unused.pop(0)[2])

    def find(self, name: str, owner: str) -> StoredCase | None:
        """The case, if it is this browser's."""
        case = self.cases.get(name)
        if case is None or not same(case.owner, owner):
            return None
        case.used = time.monotonic()
        return case

    def remove(self, name: str) -> None:
        """Close a case and delete its files."""
        case = self.cases.pop(name, None)
        if case is not None:
            case.cancelled = True
            self.clear(case)

    def clear(self, case: StoredCase) -> None:
        """Delete the files of a case that is closed, also those that were written since."""
        if case.folder.name not in self.cases:
            shutil.rmtree(case.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything; nothing can be stored any more."""
        self.cases.clear()
        shutil.rmtree(self.root, ignore_errors=True)
        self._held.close()


def remove_leftovers() -> None:
    """Folders of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Whatever is another user's, or no folder, stays.
        with suppress(OSError):
            handle = lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)
