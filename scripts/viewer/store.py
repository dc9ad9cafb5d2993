"""Where opened cases lie while they are open: a private folder that is gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "vertebrae-viewer-"
MOST_CASES = 8


@dataclass
class StoredCase:
    """A case's folder, and which browser it belongs to.

    Args:
        folder: mode 0700.
        owner: the browser's session.
        used: when it was last asked for.
        cancelled: set to stop the reconstruction that is running.
        names: of its files -> the user's names of them, for errors.
    """

    folder: Path
    owner: str
    used: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    names: dict[str, str] = field(default_factory=dict)


class Store:
    """All open cases. Names are drawn by chance; none comes from a request."""

    def __init__(self) -> None:
        remove_leftovers()
        # The process id tells a later start whether this one is still alive.
        self.root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.cases: dict[str, StoredCase] = {}

    def create(self, owner: str) -> tuple[str, StoredCase]:
        """A new case; the browser's oldest one goes if it has too many."""
        mine = sorted((c.used, i) for i, c in self.cases.items() if c.owner == owner)
        for _, name in mine[: max(len(mine) - MOST_CASES + 1, 0)]:
            self.remove(name)
        name = secrets.token_urlsafe(12)
        folder = self.root / name
        folder.mkdir(mode=0o700)
        self.cases[name] = StoredCase(folder, owner)
        return name, self.cases[name]

    def find(self, name: str, owner: str) -> StoredCase | None:
        """The case, if it is this browser's."""
        case = self.cases.get(name)
        if case is None or not secrets.compare_digest(case.owner, owner):
            return None
        case.used = time.monotonic()
        return case

    def remove(self, name: str) -> None:
        """Close a case and delete its files."""
        case = self.cases.pop(name, None)
        if case is not None:
            case.cancelled = True
            shutil.rmtree(case.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        self.cases.clear()
        shutil.rmtree(self.root, ignore_errors=True)


def remove_leftovers() -> None:
    """Folders of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if folder.is_dir() and not folder.is_symlink() and not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(folder, ignore_errors=True)
