"""A patient as the localizer's online engine keeps it in memory: CT numbers and the marks of its vertebrae in space."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scripts.anatomy.landmarks import SpineLandmarks, find_landmarks, split_marks
from scripts.data.online.case import OnlineCase
from scripts.errors import UserError
from scripts.geometry.frames import Grid
from scripts.io.atomic import atomic_file
from scripts.levels import LEVEL_ORDER
from scripts.localization.levels import LUMBAR_ENDS, S1_INDEX
from scripts.simulation.patient import SimulatedPatient

# Marks of a vertebra: its centroid, four corners of the mid-coronal section and four of the mid-sagittal one.
CORONAL, SAGITTAL, MARKS = slice(1, 5), slice(5, 9), 9
# A voxel belongs to a vertebra that fills more than half of it.
HALF_SHARE = 127


@dataclass(frozen=True)
class FilmPatient:
    """One patient.

    Args:
        name: of the patient.
        hu: (I, P, L) int16 CT numbers, air where nothing was scanned.
        spacing_mm: isotropic voxel size.
        levels: (N,) places in the level table, head to foot; S1 is the last of the table.
        points: (N, 9, 3) mm along I, P, L from the middle of the volume: centroid, corners as of
            `scripts.anatomy.landmarks.BodyLandmarks`; NaN where unknown.
        complete: whether every vertebra in the volume is listed.
        origin: of the labels: one of `scripts.data.online.case.ORIGINS`.
    """

    name: str
    hu: torch.Tensor
    spacing_mm: float
    levels: np.ndarray
    points: np.ndarray
    complete: bool
    origin: str

    def to(self, device: torch.device | str) -> FilmPatient:
        """The same on another device."""
        return replace(self, hu=self.hu.to(device))

    @property
    def half_mm(self) -> np.ndarray:
        """(3,) mm from the middle of the volume to its outer faces."""
        return np.array(self.hu.shape) * self.spacing_mm / 2

    @property
    def grid(self) -> Grid:
        """The volume's grid, its middle in the world's origin."""
        rows, depth, width = (int(n) for n in self.hu.shape)
        at_origin = Grid((0.0, 0.0, 0.0), (rows, depth, width), self.spacing_mm)
        x, y, z = (-float(v) for v in at_origin.to_world((np.array(self.hu.shape) - 1) / 2))
        return Grid((x, y, z), (rows, depth, width), self.spacing_mm)


def patient_from_landmarks(
    name: str, hu: torch.Tensor, grid: Grid, landmarks: SpineLandmarks, origin: str
) -> FilmPatient:
    """A patient whose marks are known.

    Args:
        name: of the patient.
        hu: (I, P, L) CT numbers.
        grid: of them.
        landmarks: in world mm.
        origin: of the labels.

    Raises:
        UserError: there is no vertebra.
    """
    if not landmarks.vertebrae:
        raise UserError(f"{name}: no vertebra to learn from")
    levels = [LEVEL_ORDER.index(v.level) for v in landmarks.vertebrae]
    marks = np.full((len(levels), MARKS, 3), np.nan)
    for row, body in zip(marks, landmarks.vertebrae, strict=True):
        row[0] = body.centroid_mm
        for part, corners in ((CORONAL, body.coronal_mm), (SAGITTAL, body.sagittal_mm)):
            if corners is not None:
                row[part] = corners
    if landmarks.s1_mm is not None:
        levels.append(S1_INDEX)
        sacrum = np.full((1, MARKS, 3), np.nan)
        sacrum[0, 0] = landmarks.s1_mm
        marks = np.concatenate([marks, sacrum])
    points = (grid.to_index(marks) - (np.array(grid.shape) - 1) / 2) * grid.spacing_mm
    numbers = hu.round().to(torch.int16).contiguous()
    return FilmPatient(name, numbers, grid.spacing_mm, np.array(levels), points, landmarks.complete, origin)


def patient_from_simulation(name: str, patient: SimulatedPatient) -> FilmPatient:
    """A simulated patient as `simulate_patient` makes it: all that is in its field of view is known, S1 too."""
    s1 = None if patient.truth["s1_mm"] is None else np.array(patient.truth["s1_mm"])
    landmarks = find_landmarks(patient.labels, patient.grid, patient.centroids, s1, complete=True)
    return patient_from_landmarks(name, torch.from_numpy(patient.hu), patient.grid, landmarks, "simulated")


def patient_from_case(case: OnlineCase) -> FilmPatient:
    """A case of the generator's engine, its marks found anew in its labels.

    Vertebrae without a label have a centroid alone where the case knows it. What lies above the first and below the
    last one is taken for unknown, except for S1 where that is marked. So are vertebrae at the ends that are cut so far
    that they have no corners, since their centroids are guessed from what is left of them.
    """
    rows, depth, width = (int(n) for n in case.hu.shape)
    grid = Grid((0.0, 0.0, 0.0), (rows, depth, width), case.spacing_mm)
    labels: np.ndarray = np.zeros(grid.shape, np.uint8)
    for vertebra in case.vertebrae:
        share = vertebra.share.cpu().numpy()
        box = tuple(slice(int(a), int(a) + n) for a, n in zip(vertebra.start, share.shape, strict=True))
        labels[box][share > HALF_SHARE] = vertebra.level
    centroids = {vertebra.level: grid.to_world(vertebra.centroid) for vertebra in case.vertebrae}
    others, s1_mm = split_marks({name: grid.to_world(place) for name, place in case.unlabelled.items()})
    landmarks = find_landmarks(labels, grid, centroids | others, s1_mm)
    sure = {vertebra.level for vertebra in case.vertebrae if vertebra.whole} | others.keys()
    kept = [i for i, v in enumerate(landmarks.vertebrae) if v.level in sure or v.sagittal_mm is not None]
    known = landmarks.vertebrae[kept[0] : kept[-1] + 1] if kept else ()
    # Where the last lumbar vertebra is not known, one without a mark lies above S1.
    last = known[-1] if known and known[-1] is landmarks.vertebrae[-1] else None
    if last is None or LEVEL_ORDER.index(last.level) not in LUMBAR_ENDS:
        s1_mm = None
    sure_ones = replace(landmarks, vertebrae=known, s1_mm=s1_mm)
    return patient_from_landmarks(case.name, case.hu, grid, sure_ones, case.origin)


def write_patient(path: Path, patient: FilmPatient, compress: bool = True) -> None:
    """A patient as a file ``.npz``.

    Args:
        path: of the file.
        patient: what to write.
        compress: smaller but slower, for files that stay.
    """
    about = {
        "name": patient.name,
        "spacing_mm": patient.spacing_mm,
        "complete": patient.complete,
        "origin": patient.origin,
    }
    save = np.savez_compressed if compress else np.savez
    with atomic_file(path) as stream:
        save(
            stream.buffer,
            film_patient=json.dumps(about),
            hu=patient.hu.cpu().numpy(),
            levels=patient.levels,
            points=patient.points,
        )


def read_patient(path: Path) -> FilmPatient:
    """What `write_patient` wrote.

    Raises:
        UserError: the file is not such a patient.
    """
    try:
        with np.load(path) as stored:
            about = json.loads(str(stored["film_patient"]))
            return FilmPatient(
                about["name"],
                torch.from_numpy(stored["hu"]),
                about["spacing_mm"],
                stored["levels"],
                stored["points"],
                about["complete"],
                about["origin"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no file of a film patient ({type(error).__name__})") from error
