"""Patients of any kind in memory, and processes that go on making new ones while a training runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from scripts.errors import UserError
from scripts.jobs import end_with_parent


class Patient(Protocol):
    """What a pool asks of a patient."""

    @property
    def origin(self) -> str:
        """Where its labels come from; ``simulated`` for those that others may take the place of."""

    def to(self: P, device: torch.device | str) -> P:
        """The same on another device."""


P = TypeVar("P", bound=Patient)
Item = TypeVar("Item")
# Between a patient's name and what has been changed in a copy of it.
COPY = "~"
# Of a copy with contrast agent; its number follows.
CONTRAST = f"{COPY}contrast"


def pick_with_copies(found: Sequence[Item], name: Callable[[Item], str], rng: np.random.Generator) -> Item:
    """One of some patients and of their copies with contrast agent or other people's shapes.

    Every patient is as likely as any other, however many copies there are of it, and one in two times it is a copy with
    contrast agent.

    Args:
        found: to choose from, at least one.
        name: of the patient of an item; that of a copy continues with `COPY`, of one with contrast agent somewhere with
            `CONTRAST`.
        rng: source.
    """
    people: dict[str, list[Item]] = {}
    for item in found:
        people.setdefault(name(item).split(COPY)[0], []).append(item)
    names = sorted(people)
    person = people[names[rng.integers(len(names))]]
    plain = [item for item in person if CONTRAST not in name(item)]
    copies = [item for item in person if CONTRAST in name(item)]
    chosen = copies if copies and (not plain or rng.random() < 0.5) else plain
    return chosen[rng.integers(len(chosen))]


class MemoryPool(Generic[P]):
    """Patients in memory, real ones and simulated ones.

    Args:
        patients: to begin with.
        device: where they are kept.
    """

    def __init__(self, patients: Iterable[P] = (), device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.real: list[P] = []
        self.simulated: list[P] = []
        self.feed: Feed[P] | None = None
        for patient in patients:
            self.add(patient)

    def add(self, patient: P, room: int | None = None) -> None:
        """A further patient; with ``room`` the oldest simulated one goes where there would be more than that."""
        patient = patient.to(self.device)
        # One assignment each, so that a concurrent reader sees the old list or the new one.
        if patient.origin != "simulated":
            self.real = [*self.real, patient]
        else:
            kept = self.simulated if room is None else self.simulated[max(len(self.simulated) + 1 - room, 0) :]
            self.simulated = [*kept, patient]

    def __len__(self) -> int:
        return len(self.real) + len(self.simulated)

    def grow(
        self,
        make: Callable[..., Path],
        read: Callable[[Path], P],
        folder: str | Path,
        workers: int,
        room: int,
        first: int,
    ) -> None:
        """Let processes of this machine put new simulated patients into the pool from now on.

        What is drawn then depends on how fast they are, so that no two trainings are alike; for those that must be,
        simulate into a folder first.

        Args:
            make: number of a patient, ``folder=`` -> file with it.
            read: file -> patient; the file is then removed.
            folder: for the files in between; made if it is not there.
            workers: number of processes.
            room: simulated patients kept at a time; the oldest are removed.
            first: number of patients to wait for.

        Raises:
            UserError: a patient cannot be made.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.feed = Feed(self, partial(make, folder=Path(folder)), read, workers, room, first)

    def check(self) -> None:
        """Whether all is well with what is growing.

        Raises:
            UserError: a patient could not be made.
        """
        if self.feed is not None:
            self.feed.check()

    def close(self) -> None:
        """No more new patients."""
        if self.feed is not None:
            self.feed.close()


class Feed(Generic[P]):
    """Processes of this machine that put new patients into a pool.

    Args:
        pool: to put them into.
        make: number of a patient -> file with it; a function of a module, or a partial one.
        read: what is in such a file, which is then removed.
        workers: processes.
        room: simulated patients at a time; the oldest go.
        first: patients to wait for.

    Raises:
        UserError: one cannot be made.
    """

    def __init__(
        self,
        pool: MemoryPool[P],
        make: Callable[[int], Path],
        read: Callable[[Path], P],
        workers: int,
        room: int,
        first: int,
    ) -> None:
        self.pool, self.make, self.read, self.room = pool, make, read, room
        self.made = 0
        self.failed: BaseException | None = None
        self._next = 0
        self._lock = threading.Lock()
        self._ends = False
        self._processes = ProcessPoolExecutor(workers, initializer=_give_way, initargs=(os.getpid(),))
        for _ in range(2 * workers):
            self._start()
        while self.made < first and self.failed is None:
            time.sleep(0.05)
        self.check()

    def check(self) -> None:
        """Whether all is well.

        Raises:
            UserError: a patient could not be made.
        """
        if self.failed is not None:
            raise UserError(f"simulating a patient failed: {self.failed}") from self.failed

    def close(self) -> None:
        """No more new patients."""
        self._ends = True
        self._processes.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        with self._lock:
            number, self._next = self._next, self._next + 1
        job = self._processes.submit(partial(self.make, number))
        job.add_done_callback(self._finished)

    def _finished(self, job: Future[Path]) -> None:
        if self._ends or job.cancelled():
            return
        try:
            path = job.result()
            self.pool.add(self.read(path), self.room)
            path.unlink()
            self.made += 1
            self._start()
        except BaseException as error:
            if not self._ends:
                self.failed = error


def _give_way(parent: int) -> None:
    """What is simulated can wait, what learns cannot; and a training that is killed leaves nothing behind."""
    os.nice(10)
    end_with_parent(parent)
