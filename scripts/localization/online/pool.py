"""The patients that whole films are taken of: real ones and simulated ones, in memory.

    python -m scripts.localization.online.pool --output PATIENTS --count 60 [--seed 0] [--spacing_mm 2] [--workers 1]

writes simulated patients, for trainings on a CPU in which the same seed shall always give the same items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm import tqdm

from scripts.command import run_module
from scripts.data.jobs import run_jobs
from scripts.data.online.case import read_case
from scripts.data.online.pool import CasePool, GrowingPool
from scripts.data.simulation.patient import SimulationOptions, simulate_patient
from scripts.data.simulation.spine import SpineOptions
from scripts.data.simulation.write import patient_name
from scripts.errors import UserError
from scripts.localization.online.patient import (
    FilmPatient,
    patient_from_case,
    patient_from_simulation,
    read_patient,
    write_patient,
)

# Never in a training, neither their CTs nor the shapes of their vertebrae.
HELD_OUT = ("LIDC-IDRI-0001", "verse083")


class PatientPool(CasePool):
    """Patients in memory, of a kind from which whole films are taken; see `CasePool`."""

    def __init__(self, cases: Iterable[Any] = (), **kwargs: Any) -> None:
        super().__init__(cases, **kwargs)

    def pick_patient(self, rng: np.random.Generator) -> FilmPatient:
        """A patient, real or simulated by the share of the pool's choice."""
        return _pick(self, rng)


class GrowingPatients(GrowingPool):
    """The same, while processes put new simulated patients into it; see `GrowingPool`."""

    def __init__(self, cases: Iterable[Any], folder: str | Path, **kwargs: Any) -> None:
        super().__init__(cases, folder, **kwargs)

    @staticmethod
    def simulate(number: int, options: SimulationOptions, folder: Path) -> Path:
        """See `simulate_film_patient`."""
        return simulate_film_patient(number, options, folder, compress=False)

    @staticmethod
    def read(path: Path) -> Any:
        """See `read_patient`."""
        return read_patient(path)

    def pick_patient(self, rng: np.random.Generator) -> FilmPatient:
        """See `PatientPool.pick_patient`."""
        self._check()
        return _pick(self, rng)


def load_patients(folders: str | Sequence[str], without: Sequence[str] = HELD_OUT) -> list[FilmPatient]:
    """Patients of one or several folders of files of `write_patient`, or of cases of the generator's engine.

    Args:
        folders: with such files.
        without: patients to leave out, whatever was done to them.

    Raises:
        UserError: a folder holds none.
    """
    found = []
    for folder in [folders] if isinstance(folders, str) else folders:
        paths = sorted(Path(folder).glob("*.npz"))
        if not paths:
            raise UserError(f"{folder}: no file of a patient (*.npz) in it")
        for path in paths:
            if not any(path.stem == name or path.stem.startswith((f"{name}_", f"{name}~")) for name in without):
                found.append(load_patient(path))
    return found


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
    """Simulated patient ``number`` as a file of ``folder``; one that is there is kept."""
    torch.set_num_threads(1)
    name = patient_name(number, options.seed)
    path = folder / f"{name}.npz"
    if not path.is_file():
        write_patient(path, patient_from_simulation(name, simulate_patient(number, options)), compress)
    return path


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
    draw = partial(simulate_film_patient, options=options, folder=folder)
    for _, result in tqdm(run_jobs(draw, range(count), workers), total=count, desc="simulated"):
        if isinstance(result, Exception):
            raise result


def _pick(pool: CasePool, rng: np.random.Generator) -> FilmPatient:
    real, simulated = cast(list[FilmPatient], pool.real), cast(list[FilmPatient], pool.simulated)
    if not real and not simulated:
        raise UserError("no patient in memory to take films of")
    if not simulated or (real and rng.random() < pool.choice.real_share):
        # Level by level: many of the real ones may show the same part of the spine.
        level = rng.choice(sorted({int(n) for patient in real for n in patient.levels}))
        return _one([patient for patient in real if level in patient.levels], rng)
    return _one(simulated, rng)


def _one(patients: Sequence[FilmPatient], rng: np.random.Generator) -> FilmPatient:
    return patients[int(rng.integers(len(patients)))]


if __name__ == "__main__":
    run_module(simulate_patients)
