"""The patients that samples are made from: real ones and simulated ones, in memory, and how one is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scripts.data.online.case import OnlineCase, case_from_simulation, read_case, write_case
from scripts.data.online.files import simulate_once, stored_files
from scripts.data.online.memory import CONTRAST, MemoryPool, pick_with_copies
from scripts.data.online.numbers import with_numbers
from scripts.data.online.samples import Pick
from scripts.errors import UserError
from scripts.geometry.frames import Grid
from scripts.simulation.contrast import add_contrast
from scripts.simulation.patient import SimulatedPatient, SimulationOptions


@dataclass(frozen=True)
class Choice:
    """How a vertebra is chosen.

    Args:
        real_share: of samples that are made from real CTs, where one has the level.
        levels: VerSe numbers to draw from, evenly.
    """

    real_share: float = 0.3
    levels: tuple[int, ...] = tuple(range(1, 25))


class CasePool(MemoryPool[OnlineCase]):
    """Patients in memory; samples are drawn level by level, so that rare levels are seen as often as others.

    Args:
        cases: patients to begin with.
        choice: how one is chosen.
        device: where they are kept.
    """

    def __init__(
        self, cases: Iterable[OnlineCase] = (), choice: Choice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.choice = choice or Choice()
        # What is whole, level by level, of real and of simulated patients.
        self._whole: tuple[dict[int, list[Pick]], dict[int, list[Pick]]] = ({}, {})
        super().__init__(cases, device)

    def add(self, patient: OnlineCase, room: int | None = None) -> None:
        """A further patient; with ``room`` the oldest simulated one goes where there would be more than that."""
        super().add(patient, room)
        # One assignment, so that a concurrent reader sees the old table or the new one.
        self._whole = (_by_level(self.real), _by_level(self.simulated))

    def pick(self, rng: np.random.Generator) -> Pick:
        """A whole vertebra of a patient.

        Raises:
            UserError: no patient has a whole vertebra.
        """
        self.check()
        real, simulated = self._whole
        wants_real = rng.random() < self.choice.real_share
        for level in rng.permutation(self.choice.levels):
            for table in (real, simulated) if wants_real else (simulated, real):
                if found := table.get(int(level)):
                    return pick_with_copies(found, lambda pick: pick[0].name, rng)
        raise UserError("no patient in memory has a whole vertebra to learn from")


def _by_level(cases: Sequence[OnlineCase]) -> dict[int, list[Pick]]:
    table: dict[int, list[Pick]] = {}
    for case in cases:
        for vertebra in case.vertebrae:
            if vertebra.whole:
                table.setdefault(vertebra.level, []).append((case, vertebra))
    return table


def load_cases(folders: str | Sequence[str], without: Sequence[str] = (), contrast_copies: int = 1) -> list[OnlineCase]:
    """All cases of one or several folders, in the order of their names, then the copies.

    Args:
        folders: with such files.
        without: patients to leave out, whatever was done to them.
        contrast_copies: of each real patient, with contrast agent painted in.

    Raises:
        UserError: a folder holds none, or all are left out.
    """
    cases = [read_case(path) for path in stored_files(folders, "an online case", without)]
    real = [case for case in cases if case.origin != "simulated" and len(case.vertebrae) > 1]
    return cases + [contrast_copy(case, number) for case in real for number in range(contrast_copies)]


def contrast_copy(case: OnlineCase, number: int) -> OnlineCase:
    """Copy ``number`` of a patient of two vertebrae or more, with contrast agent; always the same, bone untouched."""
    rng = np.random.default_rng([number, *case.name.encode()])
    rows, depth, width = (int(n) for n in case.hu.shape)
    grid = Grid((0.0, 0.0, 0.0), (rows, depth, width), case.spacing_mm)
    centroids = np.stack([vertebra.centroid for vertebra in case.vertebrae]) * case.spacing_mm
    hu = torch.from_numpy(add_contrast(case.hu.numpy(), grid, [v.level for v in case.vertebrae], centroids, rng))
    for vertebra in case.vertebrae:
        # A vessel that touches a body would take dark marrow for soft tissue.
        box = vertebra.box()
        hu[box] = torch.where(vertebra.share > 127, case.hu[box], hu[box])
    return replace(case, name=f"{case.name}{CONTRAST}{number}", hu=hu)


def simulate_case(number: int, options: SimulationOptions, folder: Path) -> Path:
    """Simulated patient ``number`` as a file of ``folder``; one that is there is kept."""
    return simulate_once(number, options, folder, _write)


def _write(path: Path, name: str, patient: SimulatedPatient) -> None:
    write_case(path, with_numbers(case_from_simulation(name, patient)))


class GrowingPool(CasePool):
    """A pool into which processes of this machine put new simulated patients while it is used.

    Args:
        cases: patients to begin with.
        folder: for the files in between.
        options: of the simulation.
        workers: processes.
        room: simulated patients at a time; the oldest go.
        first: simulated patients to wait for before anything is drawn.
        choice: how one is chosen.
        device: where they are kept.
    """

    def __init__(
        self,
        cases: Iterable[OnlineCase],
        folder: str | Path,
        options: SimulationOptions,
        workers: int,
        room: int,
        first: int,
        choice: Choice | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(cases, choice, device)
        make = partial(simulate_case, options=options)
        self.grow(make, read_case, folder, workers, room, first)
