"""Stored films to measure the annotation network on: random film pairs of each CT, its landmarks projected into them.

``python -m scripts.localization.films --source DIR --output DIR`` reads what ``prepare`` reads (releases, manifests,
the patients of ``simulate``) and writes one ``<case>.npz`` each. Unlike a prepared dataset, a case is taken by several
machines: beam, distances, the patient's turn and the views' own errors are drawn anew for each pair. Films are line
integrals at 2 mm in the patient, without any effects.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
from scripts.films.options import VIEWS
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.geometry.projector import BONE_GAIN, project_pair
from scripts.io.atomic import NoRoomError, atomic_path
from scripts.jobs import run_jobs
from scripts.levels import LEVEL_ORDER
from scripts.localization.levels import S1_INDEX

PIXEL_MM = 2.0


@dataclass(frozen=True)
class MachineRange:
    """Which machines take the films.

    Args:
        slot_share: of pairs taken by a slot scanner.
        cone_share: of pairs taken by an ordinary tube.
        isocentre_mm: smallest and largest distance of the tube from the isocentre.
        detector_mm: smallest and largest distance of the detector behind it.
        turn_deg: largest turn of the patient about the long axis, common to both views.
        tilt_deg: largest tilt of the patient in each plane.
        error_deg: largest turn of each view by itself.
    """

    slot_share: float = 0.25
    cone_share: float = 0.35
    isocentre_mm: tuple[float, float] = (850.0, 1800.0)
    detector_mm: tuple[float, float] = (150.0, 450.0)
    turn_deg: float = 10.0
    tilt_deg: float = 5.0
    error_deg: float = 3.0


@dataclass(frozen=True)
class FilmCase:
    """One pair of films and what can be seen in it.

    Args:
        films: AP and LAT, (rows, columns) float32 line integrals.
        levels: (N,) places in the level table, head to foot; S1 is the last of the table.
        centroids: AP and LAT, (N, 2) pixels.
        corners: AP and LAT, (N, 4, 2) pixels, superior left, superior right, inferior right, inferior left in the
            image; NaN where unknown.
        geometry: of the films.
        complete: whether every vertebra in the films is listed.
    """

    films: tuple[np.ndarray, np.ndarray]
    levels: np.ndarray
    centroids: tuple[np.ndarray, np.ndarray]
    corners: tuple[np.ndarray, np.ndarray]
    geometry: BiplanarGeometry
    complete: bool


def on_film(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(...,) whether points (..., 2), row and column, lie on a film of (rows, columns); NaN does not."""
    with np.errstate(invalid="ignore"):
        inside: np.ndarray = ((points >= 0) & (points <= np.array(shape) - 1)).all(-1)
    return inside


def draw_geometry(
    grid: Grid, machines: MachineRange, rng: np.random.Generator | np.random.RandomState
) -> BiplanarGeometry:
    """Two views of a patient in a random machine; pixels of the grid's spacing in the plane of its centre."""
    chance = rng.random()
    beam = Beam.CONE if chance < machines.cone_share else Beam.PARALLEL
    if machines.cone_share <= chance < machines.cone_share + machines.slot_share:
        beam = Beam.SLOT
    isocentre = rng.uniform(*machines.isocentre_mm, 2)
    detector = isocentre + rng.uniform(*machines.detector_mm, 2)
    geometry = geometry_of_grid(
        grid, beam, (float(isocentre[0]), float(isocentre[1])), (float(detector[0]), float(detector[1]))
    )
    yaw = rng.uniform(-1, 1) * machines.turn_deg
    frontal, sagittal = rng.uniform(-1, 1, 2) * machines.tilt_deg
    own = rng.uniform(-1, 1, (2, 2)) * machines.error_deg
    ap = geometry.ap.turned(yaw + own[0, 0], sagittal + own[0, 1], frontal)
    lat = geometry.lat.turned(yaw + own[1, 0], frontal + own[1, 1], sagittal)
    return BiplanarGeometry(ap, lat)


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


def write_film_cases(path: Path, cases: list[FilmCase], subject: str = "") -> None:
    """One file with all pairs of a patient; films as float16.

    Args:
        path: of the file.
        cases: the pairs.
        subject: the patient; what the file's name begins with, up to an underscore, if empty.
    """
    about = [{"geometry": c.geometry.to_dict(), "complete": c.complete, "subject": subject} for c in cases]
    content: dict[str, Any] = {"about": json.dumps(about)}
    for i, case in enumerate(cases):
        content[f"levels{i}"] = case.levels
        for name, film, centroids, corners in zip(VIEWS, case.films, case.centroids, case.corners, strict=True):
            content[f"{name}{i}"] = film.astype(np.float16)
            content[f"{name}{i}_centroids"] = centroids.astype(np.float32)
            content[f"{name}{i}_corners"] = corners.astype(np.float32)
    with atomic_path(path) as work, work.open("wb") as stream:
        np.savez_compressed(stream, **content)


def count_pairs(path: Path) -> int:
    """How many pairs a file of `write_film_cases` holds."""
    with _opened(path) as stored:
        return len(json.loads(str(stored["about"])))


def film_subject(path: Path) -> str:
    """The patient of a file of `write_film_cases`."""
    with _opened(path) as stored:
        rows = json.loads(str(stored["about"]))
    named = rows[0].get("subject", "") if rows else ""
    return named or path.stem.split("~")[0].split("_")[0]


def read_film_case(path: Path, pair: int) -> FilmCase:
    """One pair of a file of `write_film_cases`.

    Raises:
        UserError: the file is not such a stored pair.
    """
    with _opened(path) as stored:
        row = json.loads(str(stored["about"]))[pair]
        films, centroids, corners = (
            tuple(stored[f"{name}{pair}{suffix}"].astype(np.float32) for name in VIEWS)
            for suffix in ("", "_centroids", "_corners")
        )
        geometry = BiplanarGeometry.from_dict(row["geometry"])
        return FilmCase(films, stored[f"levels{pair}"], centroids, corners, geometry, row["complete"])


def film_pairs(folder: str) -> list[tuple[Path, int]]:
    """All pairs in a folder: file and number of the pair in it.

    Args:
        folder: made by `build_films`; or several with commas between them.

    Raises:
        UserError: the folder has no stored pairs.
    """
    paths = [path for part in folder.split(",") for path in sorted(Path(part).glob("*.npz"))]
    if not paths:
        raise UserError(f"{folder}: no stored films; make them by python -m scripts.localization.films")
    return [(path, i) for path in paths for i in range(count_pairs(path))]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as stored:
            yield stored
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no file of stored films ({error})") from error


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
