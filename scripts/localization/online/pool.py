"""The patients that whole films are taken of: real ones and simulated ones, in memory.

    python -m scripts.localization.online.pool --output PATIENTS --count 60 [--seed 0] [--spacing_mm 2] [--workers 1]

writes simulated patients, for trainings on a CPU in which the same seed always has to give the same items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

from scripts.command import run_module
from scripts.data.online.case import read_case
from scripts.data.online.files import do_all, simulate_once, stored_files
from scripts.data.online.memory import CONTRAST, MemoryPool, pick_with_copies
from scripts.errors import UserError
from scripts.levels import LEVEL_ORDER
from scripts.localization.levels import S1_INDEX
from scripts.localization.online.patient import (
    FilmPatient,
    patient_from_case,
    patient_from_simulation,
    read_patient,
    write_patient,
)
from scripts.simulation.contrast import add_contrast
from scripts.simulation.patient import SimulatedPatient, SimulationOptions
from scripts.simulation.spine import SpineOptions

# Never in a training, neither their CTs nor the shapes of their vertebrae.
HELD_OUT = ("LIDC-IDRI-0001", "verse083")


class PatientPool(MemoryPool[FilmPatient]):
    """Patients in memory.

    Args:
        patients: to begin with.
        real_share: of items that are made from real CTs, where there are any.
        device: where they are kept.
    """

    def __init__(
        self, patients: Iterable[FilmPatient] = (), real_share: float = 0.5, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(patients, device)
        self.real_share = real_share

    def pick_patient(self, rng: np.random.Generator) -> FilmPatient:
        """A patient.

        Raises:
            UserError: the pool has no patients.
        """
        self.check()
        real, simulated = self.real, self.simulated
        if not real and not simulated:
            raise UserError("no patient in memory to take films of")
        if not simulated or (real and rng.random() < self.real_share):
            # Level by level: many of the real ones may show the same part of the spine.
            level = rng.choice(sorted({int(n) for patient in real for n in patient.levels}))
            return pick_with_copies([patient for patient in real if level in patient.levels], attrgetter("name"), rng)
        return _one(simulated, rng)


class GrowingPatients(PatientPool):
    """The same, while processes of this machine put new simulated patients into it.

    Args:
        patients: to begin with.
        folder: for the files in between.
        options: of the simulation.
        workers: processes.
        room: simulated patients at a time; the oldest go.
        first: simulated patients to wait for before anything is drawn.
        real_share: share of items that are made from real CTs, where the pool has any.
        device: where they are kept.
    """

    def __init__(
        self,
        patients: Iterable[FilmPatient],
        folder: str | Path,
        options: SimulationOptions,
        workers: int,
        room: int,
        first: int,
        real_share: float,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(patients, real_share, device)
        make = partial(simulate_film_patient, options=options, compress=False)
        self.grow(make, read_patient, folder, workers, room, first)


def load_patients(
    folders: str | Sequence[str], without: Sequence[str] = HELD_OUT, contrast_copies: int = 6
) -> list[FilmPatient]:
    """Patients of one or several folders of files of `write_patient`, or of cases of the generator's engine.

    Args:
        folders: with such files.
        without: patients to leave out, whatever was done to them.
        contrast_copies: of each real patient, with contrast agent painted in.

    Raises:
        UserError: a folder holds none, or all are left out.
    """
    patients = [load_patient(path) for path in stored_files(folders, "a patient", without)]
    found = []
    for patient in patients:
        lone = (patient.levels != S1_INDEX).sum() < 2
        copies = 0 if lone or patient.origin == "simulated" else contrast_copies
        found += [patient, *(contrast_copy(patient, number) for number in range(copies))]
    return found


def contrast_copy(patient: FilmPatient, number: int) -> FilmPatient:
    """Copy ``number`` of a patient of two vertebrae or more, with contrast agent; always the same."""
    listed = patient.levels != S1_INDEX
    levels = [LEVEL_ORDER[level] for level in patient.levels[listed]]
    rng = np.random.default_rng([number, *patient.name.encode()])
    hu = add_contrast(patient.hu.numpy(), patient.grid, levels, patient.points[listed, 0], rng)
    return replace(patient, name=f"{patient.name}{CONTRAST}{number}", hu=torch.from_numpy(hu))


def load_patient(path: Path) -> FilmPatient:
    """A patient from a file of either kind.

    Raises:
        UserError: it is neither.
    """
    try:
        return read_patient(path)
    except UserError:
        return patient_from_case(read_case(path))


def simulate_film_patient(number: int, options: SimulationOptions, folder: Path, compress: bool = True) -> Path:
    """Write simulated patient ``number`` as a file of the folder and return its path; an existing one is kept."""
    return simulate_once(number, options, folder, partial(_write, compress=compress))


def _write(path: Path, name: str, patient: SimulatedPatient, compress: bool) -> None:
    write_patient(path, patient_from_simulation(name, patient), compress)


def simulate_patients(output: str, count: int, seed: int = 0, spacing_mm: float = 2.0, workers: int = 1) -> None:
    """Write simulated patients.

    Args:
        output: folder; those that are there are kept.
        count: of patients.
        seed: of them.
        spacing_mm: of their CTs.
        workers: processes.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    spine = SpineOptions(t13_share=0.08, l6_share=0.1, without=HELD_OUT)
    options = SimulationOptions(spacing_mm=spacing_mm, whole_share=0.4, spine=spine, seed=seed)
    do_all(partial(simulate_film_patient, options=options, folder=folder), range(count), workers, "simulated")


def _one(patients: Sequence[FilmPatient], rng: np.random.Generator) -> FilmPatient:
    return patients[int(rng.integers(len(patients)))]


if __name__ == "__main__":
    run_module(simulate_patients)
