"""Stored films to measure the annotation network on: random film pairs of each CT, its landmarks projected into them.

``python -m scripts.localization.films --source DIR --output DIR`` reads what ``prepare`` reads (releases, manifests,
the patients of ``simulate``) and writes one ``<case>.npz`` each. Unlike a prepared dataset, a case is taken by several
machines: beam, distances, the patient's turn and the views' own errors are drawn anew for each pair. Films are line
integrals at 2 mm in the patient, without any effects.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from scripts.anatomy.landmarks import SpineLandmarks, find_landmarks, known_landmarks, split_marks
from scripts.command import run_module
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.duplicates import merge_releases
from scripts.data.patient import canonical_patient
from scripts.data.variants import VariantRange
from scripts.data.volumes import read_case
from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.frames import Grid
from scripts.geometry.projector import BONE_GAIN, project_pair
from scripts.io.atomic import NoRoomError
from scripts.jobs import run_jobs
from scripts.levels import LEVEL_ORDER
from scripts.localization.film_cases import PIXEL_MM, FilmCase, write_film_cases
from scripts.localization.levels import S1_INDEX
from scripts.localization.machines import MachineRange, draw_geometry


def take_films(
    attenuation: torch.Tensor, grid: Grid, landmarks: SpineLandmarks, geometry: BiplanarGeometry
) -> FilmCase:
    """Both films of a patient with all landmarks in them.

    Args:
        attenuation: (I, P, L) per mm.
        grid: of it.
        landmarks: in world mm.
        geometry: of the films.
    """
    films = project_pair(attenuation, grid.affine, geometry)
    points = [v.centroid_mm for v in landmarks.vertebrae]
    levels = [LEVEL_ORDER.index(v.level) for v in landmarks.vertebrae]
    none = np.full((4, 3), np.nan)
    coronal = [none if v.coronal_mm is None else v.coronal_mm for v in landmarks.vertebrae]
    sagittal = [none if v.sagittal_mm is None else v.sagittal_mm for v in landmarks.vertebrae]
    if landmarks.s1_mm is not None:
        points.append(landmarks.s1_mm)
        levels.append(S1_INDEX)
        coronal.append(none)
        sagittal.append(none)
    views = (geometry.ap, geometry.lat)
    centroids = [view.project(np.array(points)) for view in views]
    corners = [
        view.project(np.array(quads).reshape(-1, 3)).reshape(-1, 4, 2)
        for view, quads in zip(views, (coronal, sagittal), strict=True)
    ]
    return FilmCase(
        (films[0].numpy(), films[1].numpy()),
        np.array(levels),
        (centroids[0], centroids[1]),
        (corners[0], corners[1]),
        geometry,
        landmarks.complete,
    )


def build_films(source: str, output: str, pairs: int = 4, variants: int = 0, seed: int = 0, workers: int = 1) -> None:
    """Write the films of every case.

    Args:
        source: folder of CTs with labelmaps, manifest (.json), or several with commas between them.
        output: folder; what is there already is kept.
        pairs: film pairs of each case.
        variants: deformed copies of each case, with as many pairs each.
        seed: of machines and deformations.
        workers: processes.

    Raises:
        UserError: the folder has no room left; a case that cannot be used is left out and named.
    """
    folder = Path(str(output))
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(case, v) for case in merge_releases(find_cases(source))[0] for v in range(int(variants) + 1)]
    work = partial(_build_or_say, folder=folder, pairs=int(pairs), seed=int(seed))
    for (case, variant), result in tqdm(run_jobs(work, jobs, int(workers)), total=len(jobs), unit="case"):
        if result:
            print(f"{case.key} {variant}: left out: {result}")


def _build_or_say(job: tuple[CaseFiles, int], folder: Path, pairs: int, seed: int) -> str:
    """Why a case cannot be used; empty if its films are there now."""
    try:
        _build(job, folder, pairs, seed)
    except NoRoomError:
        # Every other case would have it too.
        raise
    except UserError as error:
        return str(error)
    return ""


def _build(job: tuple[CaseFiles, int], folder: Path, pairs: int, seed: int) -> None:
    case, variant = job
    path = folder / (f"{case.key}~v{variant:02d}.npz" if variant else f"{case.key}.npz")
    if path.is_file():
        return
    rng = np.random.default_rng([seed, variant, *case.key.encode()])
    bone_gain = BONE_GAIN * rng.uniform(0.8, 1.2)
    volumes = read_case(case, rng).without_unfit()
    for note in volumes.notes:
        print(f"{case.key}: {note}")
    # A grid finer than the CT adds nothing.
    spacing_mm = PIXEL_MM if np.linalg.norm(volumes.affine[:3, :3], axis=0).min() > 0.75 * PIXEL_MM else 1.0
    patient = canonical_patient(volumes, bone_gain, VariantRange(), rng if variant else None, spacing_mm)
    landmarks = None if variant else known_landmarks(case.mask)
    # A deformed copy's mask moves along; the marks beside it do not.
    others, s1_mm = split_marks({} if variant else case.unlabelled_mm)
    landmarks = landmarks or find_landmarks(patient.labels, patient.grid, patient.centroids | others, s1_mm)
    attenuation, grid = _coarse(patient.attenuation, patient.grid)
    cases = [take_films(attenuation, grid, landmarks, draw_geometry(grid, MachineRange(), rng)) for _ in range(pairs)]
    write_film_cases(path, cases, case.subject)


def _coarse(attenuation: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
    """The patient at `PIXEL_MM`, by the mean of voxels."""
    step = round(PIXEL_MM / grid.spacing_mm)
    padded = F.pad(attenuation, [p for n in reversed(attenuation.shape) for p in (0, -n % step)])
    mean = F.avg_pool3d(padded[None, None], step)[0, 0]
    x, y, z = (float(v) for v in grid.to_world(np.full(3, (step - 1) / 2)))
    rows, depth, width = mean.shape
    return mean, Grid((x, y, z), (rows, depth, width), grid.spacing_mm * step)


if __name__ == "__main__":
    run_module(build_films)
