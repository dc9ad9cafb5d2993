"""Patients as files: made by several processes, kept where they are there already, found again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from scripts.anatomy.shapes import people_named
from scripts.errors import UserError
from scripts.jobs import run_jobs
from scripts.simulation.patient import SimulatedPatient, SimulationOptions, simulate_patient
from scripts.simulation.write import patient_name

J = TypeVar("J")


def stored_files(folders: str | Sequence[str], what: str, without: Sequence[str] = ()) -> list[Path]:
    """All files ``.npz`` of one or several folders, in the order of their names.

    Args:
        folders: with such files.
        what: they hold, for the message.
        without: patients to leave out, whatever was done to them.

    Raises:
        UserError: a folder has none, or all are left out.
    """
    found = []
    for folder in [folders] if isinstance(folders, str) else folders:
        paths = sorted(Path(folder).glob("*.npz"))
        if not paths:
            raise UserError(f"{folder}: no file of {what} (*.npz) in it")
        found += paths
    kept = [path for path in found if not people_named(path.stem, without)]
    if found and not kept:
        raise UserError(f"{found[0].parent}: nobody is left without {', '.join(without)}")
    return kept


def simulate_once(
    number: int, options: SimulationOptions, folder: Path, write: Callable[[Path, str, SimulatedPatient], None]
) -> Path:
    """Simulated patient ``number`` as a file of ``folder``; one that is there is kept.

    Args:
        number: which.
        options: of the simulation.
        folder: where to write.
        write: file, name and patient.
    """
    torch.set_num_threads(1)
    name = patient_name(number, options.seed)
    path = folder / f"{name}.npz"
    if not path.is_file():
        write(path, name, simulate_patient(number, options))
    return path


def do_all(job: Callable[[J], Path], items: Sequence[J], workers: int, what: str) -> None:
    """A job for each item, in so many processes, with a bar; nothing is shown where there is nothing to do.

    Raises:
        Exception: what a job raised.
    """
    for _, result in tqdm(run_jobs(job, items, workers), total=len(items), desc=what, disable=not items):
        if isinstance(result, Exception):
            raise result
