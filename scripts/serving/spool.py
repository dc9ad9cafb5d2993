"""Jobs as folders on disk: whatever process is killed, and whenever, accepted jobs are kept for the next start.

    SPOOL/receiving/  being written
          waiting/    complete, in the order of their names
          working/    in the engine
          sending/    computed, not yet where the results go (only if they go anywhere)
          done/  failed/

A job is one folder and moves by renaming, which a file system does whole or not at all.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from scripts.io.atomic import write_text
from scripts.io.locks import only_writer
from scripts.serving.room import used_bytes

STUDY, OUTPUT, REASON, ATTEMPTS = "study", "output", "reason.txt", "attempts"
MOST_ATTEMPTS = 3
# Names as `Spool.new_name` makes them.
NAME = re.compile(r"\d{20}\.[\w-]{22}", re.ASCII)


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    WORKING = "working"
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"


class SpoolFullError(Exception):
    """Too many jobs are waiting, or all jobs together are too large; the text says which."""


class Spool:
    """A folder of jobs, for one process.

    Args:
        folder: made if it is not there; readable for its owner only.
        capacity: jobs that may wait.
        most_bytes: of all jobs, after which no more are accepted.
    """

    def __init__(self, folder: Path, capacity: int = 32, most_bytes: float = math.inf) -> None:
        self.folder, self.capacity, self.most_bytes = folder, capacity, most_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.receiving = folder / "receiving"
        for path in (self.receiving, *(folder / state for state in State)):
            path.mkdir(exist_ok=True, mode=0o700)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder against a second process, and take up what the last one left.

        Raises:
            UserError: another process holds it.
        """
        with only_writer(self.folder):
            for path in self.receiving.iterdir():
                if "." in path.name:  # of `accept`, which never confirmed it
                    shutil.rmtree(path)
            self.take_up()
            yield

    def take_up(self) -> None:
        """Jobs that nobody works on any more wait again."""
        for path in sorted((self.folder / State.WORKING).iterdir()):
            self.give_back(path.name)

    def accept(self, write: Callable[[Path], None]) -> str:
        """Add a job.

        Args:
            write: fills the folder of its study.

        Returns:
            the job's name, which cannot be guessed.

        Raises:
            SpoolFullError: too many wait, or there is too much; nothing was written.
        """
        if self.count(State.WAITING) >= self.capacity:
            raise SpoolFullError("too many jobs are waiting; try again later")
        if used_bytes(self.folder) >= self.most_bytes:
            raise SpoolFullError("the jobs that are kept take all the room; forget some that are done, or try later")
        folder = self.receiving / self.new_name()
        try:
            (folder / STUDY).mkdir(parents=True, mode=0o700)
            write(folder / STUDY)
            return self.submit(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def submit(self, folder: Path, state: State = State.WAITING) -> str:
        """A folder of `receiving`, with all of its study, becomes a job; returns its name."""
        sync(folder)
        name = folder.name if "." in folder.name else self.new_name()
        folder.rename(self.folder / state / name)
        return name

    def reject(self, folder: Path, reason: str) -> None:
        """A folder of `receiving` becomes a job that has failed, for a reason in one line."""
        write_text(folder / REASON, reason + "\n")
        self.submit(folder, State.FAILED)

    def new_name(self) -> str:
        """Later names sort after earlier ones."""
        return f"{time.time_ns():020d}.{secrets.token_urlsafe(16)}"

    def take(self) -> Path | None:
        """The oldest waiting job, now working."""
        names = sorted(path.name for path in (self.folder / State.WAITING).iterdir())
        return self.move(names[0], State.WAITING, State.WORKING) if names else None

    def give_back(self, name: str) -> State:
        """A working job waits again; one that ended its engine too often has failed."""
        folder = self.folder / State.WORKING / name
        shutil.rmtree(folder / OUTPUT, ignore_errors=True)
        attempts = len((folder / ATTEMPTS).read_text()) if (folder / ATTEMPTS).is_file() else 0
        if attempts >= MOST_ATTEMPTS:
            self.fail(name, f"the engine was ended {attempts} times by this job")
            return State.FAILED
        self.move(name, State.WORKING, State.WAITING)
        return State.WAITING

    def count_attempt(self, name: str) -> None:
        """Remember that a working job's engine was ended."""
        with (self.folder / State.WORKING / name / ATTEMPTS).open("a") as stream:
            stream.write("x")

    def fail(self, name: str, reason: str) -> None:
        """A working job has failed, for a reason in one line."""
        write_text(self.folder / State.WORKING / name / REASON, reason + "\n")
        self.move(name, State.WORKING, State.FAILED)

    def move(self, name: str, source: State, target: State) -> Path:
        """Rename; returns the job's new folder."""
        path = self.folder / target / name
        (self.folder / source / name).rename(path)
        return path

    def find(self, name: str) -> tuple[State, Path] | None:
        """A job's state and folder; None if there is no such job."""
        if not NAME.fullmatch(name):
            return None
        for state in State:
            if (self.folder / state / name).is_dir():
                return state, self.folder / state / name
        return None

    def count(self, state: State) -> int:
        """Jobs in a state."""
        return sum(1 for _ in (self.folder / state).iterdir())

    def position(self, name: str) -> int:
        """How many jobs go before a waiting one."""
        return sum(path.name < name for path in (self.folder / State.WAITING).iterdir())

    def remove(self, name: str) -> bool:
        """Forget a job that is not working; False if it does not exist."""
        found = self.find(name)
        if found is None or found[0] is State.WORKING:
            return False
        shutil.rmtree(found[1])
        return True

    def forget_older_than(self, seconds: float) -> list[str]:
        """Remove ended jobs by age; returns their names."""
        limit = time.time() - seconds
        old = [p for state in (State.DONE, State.FAILED) for p in (self.folder / state).iterdir()]
        old = [path for path in old if path.stat().st_mtime < limit]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]


def sync(folder: Path) -> None:
    """Have everything in a folder on the disk, not in the system's memory only."""
    for path in [folder, *folder.rglob("*"), folder.parent]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
