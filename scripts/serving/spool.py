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
from scripts.serving.security import tell
from scripts.serving.uploads import NAMES_FILE

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
            for path in folders(self.receiving):
                if "." in path.name:  # of `accept`, which never confirmed it
                    shutil.rmtree(path)
            self.take_up()
            yield

    def take_up(self) -> None:
        """Jobs that nobody works on any more wait again."""
        for path in self.jobs(State.WORKING):
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
        name = self.submit(folder, State.FAILED)
        _tell(self.folder / State.FAILED / name, reason)

    def new_name(self) -> str:
        """Later names sort after earlier ones."""
        return f"{time.time_ns():020d}.{secrets.token_urlsafe(16)}"

    def take(self) -> Path | None:
        """The oldest waiting job, now working."""
        waiting = self.jobs(State.WAITING)
        return self.move(waiting[0].name, State.WAITING, State.WORKING) if waiting else None

    def give_back(self, name: str, source: State = State.WORKING) -> State:
        """A job waits again, without its output; one that was tried too often has failed."""
        folder = self.folder / source / name
        shutil.rmtree(folder / OUTPUT, ignore_errors=True)
        attempts = len((folder / ATTEMPTS).read_text()) if (folder / ATTEMPTS).is_file() else 0
        if attempts >= MOST_ATTEMPTS:
            ended = source is State.WORKING
            why = "the engine was ended {} times by this job" if ended else "its results could not be read {} times"
            self.fail(name, why.format(attempts), source)
            return State.FAILED
        self.move(name, source, State.WAITING)
        return State.WAITING

    def count_attempt(self, name: str, source: State = State.WORKING) -> None:
        """Remember that a job's engine was ended, or that its results cannot be read."""
        with (self.folder / source / name / ATTEMPTS).open("a") as stream:
            stream.write("x")

    def fail(self, name: str, reason: str, source: State = State.WORKING) -> None:
        """A job has failed, for a reason in one line."""
        write_text(self.folder / source / name / REASON, reason + "\n")
        _tell(self.move(name, source, State.FAILED), reason)

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

    def jobs(self, state: State) -> list[Path]:
        """Folders of the jobs in a state, the oldest first."""
        return folders(self.folder / state)

    def count(self, state: State) -> int:
        """Jobs in a state."""
        return len(self.jobs(state))

    def position(self, name: str) -> int:
        """How many jobs go before a waiting one."""
        return sum(path.name < name for path in self.jobs(State.WAITING))

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
        old = [path for state in (State.DONE, State.FAILED) for path in self.jobs(state)]
        old = [path for path in old if path.stat().st_mtime < limit]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]


def folders(folder: Path) -> list[Path]:
    """The folders in a folder by name, but for hidden ones and whatever else an operating system has left there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def _tell(job: Path, reason: str) -> None:
    """Log that a job has failed. The reason of one that was handed in may name the user's files: who did is told it."""
    named = (job / STUDY / NAMES_FILE).is_file()
    tell(f"job {job.name} has failed: {f'see {REASON} in its folder' if named else reason}")


def sync(folder: Path) -> None:
    """Have everything in a folder on the disk, not in the system's memory only."""
    for path in [folder, *folder.rglob("*"), folder.parent]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
