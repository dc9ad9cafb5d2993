"""The verb ``simulate``: simulated patients in the layout of VerSe's releases, so that ``prepare`` reads them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from scripts.anatomy.landmarks import LANDMARKS_SUFFIX, find_landmarks, write_landmarks
from scripts.errors import UserError
from scripts.io.atomic import atomic_folder
from scripts.io.documents import plain, write_json
from scripts.io.nifti import write_nifti
from scripts.jobs import run_jobs
from scripts.simulation.patient import SimulatedPatient, SimulationOptions, simulate_patient

TRUTH_FILE = "truth.json"
STAMP_FILE = "simulated_from.txt"


def simulate_dataset(output: Path, count: int, options: SimulationOptions, workers: int = 1) -> dict[str, Any]:
    """Write patients ``sim<seed>x0000`` and so on; those that are there already are kept.

    Args:
        output: folder; gets VerSe's ``rawdata`` and ``derivatives`` and ``simulation.json`` (what was drawn for whom).
        count: number of patients.
        options: what is simulated: CT, field of view, spine, tissue, and the seed.
        workers: processes; each holds one patient.

    Returns:
        the content of ``simulation.json``.

    Raises:
        UserError: the folder holds something else, or the options cannot be met.
    """
    if count < 1:
        raise UserError(f"--count {count}: simulate at least one patient")
    if output.exists() and any(output.iterdir()) and not (output / "patients").is_dir():
        raise UserError(f"{output}: holds something that is no simulation; choose another --output")
    new = not output.exists()
    (output / "patients").mkdir(parents=True, exist_ok=True)
    job = partial(_simulate, output=output, options=options)
    patients: dict[str, Any] = {}
    try:
        for _, result in tqdm(run_jobs(job, range(count), workers), total=count, desc="patients", unit="patient"):
            if isinstance(result, Exception):
                raise result
            patients[result[0]] = result[1]
    except BaseException:
        # Options that cannot be met leave no empty folders.
        with suppress(OSError):
            (output / "patients").rmdir()
            if new:
                output.rmdir()
        raise
    patients = dict(sorted(patients.items()))
    content = {"options": plain(asdict(options)), "patients": patients}
    write_json(output / "simulation.json", content)
    return content


def patient_name(number: int, seed: int) -> str:
    """VerSe-like subject name."""
    return f"sim{seed}x{number:04d}"


def write_patient(folder: Path, name: str, patient: SimulatedPatient) -> None:
    """CT, labelmap, centroids and landmarks of one patient under ``folder/rawdata`` and ``folder/derivatives``.

    Args:
        folder: of the patient.
        name: of the subject.
        patient: what to write.
    """
    raw, derived = folder / "rawdata" / f"sub-{name}", folder / "derivatives" / f"sub-{name}"
    raw.mkdir(parents=True)
    derived.mkdir(parents=True)
    write_nifti(raw / f"sub-{name}_ct.nii.gz", patient.hu, patient.grid.affine)
    write_nifti(derived / f"sub-{name}_seg-vert_msk.nii.gz", patient.labels, patient.grid.affine)
    rows: list[dict[str, Any]] = [{"direction": list(nib.aff2axcodes(patient.grid.affine))}]
    for number, centroid in patient.centroids.items():
        index = patient.grid.to_index(centroid)
        rows.append({"label": number, **{axis: round(float(v), 2) for axis, v in zip("XYZ", index, strict=True)}})
    write_json(derived / f"sub-{name}_seg-subreg_ctd.json", rows, indent=None)
    s1 = None if patient.truth["s1_mm"] is None else np.array(patient.truth["s1_mm"])
    # All that is in the field of view is labelled, and where S1 lies is known.
    landmarks = find_landmarks(patient.labels, patient.grid, patient.centroids, s1, complete=True)
    write_landmarks(derived / f"sub-{name}{LANDMARKS_SUFFIX}", landmarks)


def _simulate(number: int, output: Path, options: SimulationOptions) -> tuple[str, Any]:
    name = patient_name(number, options.seed)
    folder = output / "patients" / name
    stamp = json.dumps(plain(asdict(options)), indent=1)
    if not ((folder / STAMP_FILE).is_file() and (folder / STAMP_FILE).read_text() == stamp):
        with atomic_folder(folder, marker=STAMP_FILE) as work:
            patient = simulate_patient(number, options)
            write_patient(work, name, patient)
            write_json(work / TRUTH_FILE, patient.truth)
            (work / STAMP_FILE).write_text(stamp)
    return name, json.loads((folder / TRUTH_FILE).read_text())
