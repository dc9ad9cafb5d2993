"""A patient as the online engine keeps it in memory: CT numbers, and each vertebra's share of every voxel."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from scripts.data.patient import PatientVolume
from scripts.data.volumes import MAX_BORDER_CONTACT_MM2, border_contact
from scripts.errors import UserError
from scripts.geometry.projector import WATER_PER_MM
from scripts.io.atomic import atomic_file
from scripts.levels import in_order
from scripts.simulation.patient import SimulatedPatient

# Where the label of a vertebra comes from; no accuracy is ever claimed on fitted ones.
ORIGINS = ("truth", "simulated", "fitted")
# Steps of HU in a file: far below the noise of any CT.
FILE_STEP_HU = 8


@dataclass(frozen=True)
class OnlineVertebra:
    """One vertebra of a patient.

    Args:
        level: VerSe number.
        centroid: (3,) index of its body's centroid in the patient's volume.
        above: (3,) mm along I, P, L from its centroid to the next one towards the head; None if it is the first.
        below: (3,) mm along I, P, L from its centroid to the next one towards the feet; None if it is the last.
        start: (3,) index of the first voxel of ``share``.
        share: (i, p, l) uint8, how much of each voxel it fills, 255 for all of it.
        whole: whether all of it is in the volume, so that it may be learned from.
        numbers: (9,) place (mm), turn (degrees) and log stretches of the mean shape in it; None where it does not fit.
    """

    level: int
    centroid: np.ndarray
    above: np.ndarray | None
    below: np.ndarray | None
    start: np.ndarray
    share: torch.Tensor
    whole: bool
    numbers: np.ndarray | None = None

    def box(self, margin: int = 0, shape: tuple[int, ...] | None = None) -> tuple[slice, ...]:
        """Where ``share`` lies in the patient's volume, with a margin in voxels that ends at a volume of ``shape``."""
        last = self.start + np.array(self.share.shape) + margin
        if shape is not None:
            last = np.minimum(last, shape)
        return tuple(slice(max(int(a), 0), int(b)) for a, b in zip(self.start - margin, last, strict=True))

    def direction(self) -> np.ndarray:
        """(3,) unit vector down the spine, along I, P, L."""
        up = np.zeros(3) if self.above is None else self.above
        down = np.zeros(3) if self.below is None else self.below
        along = down - up
        return along / np.linalg.norm(along) if np.any(along) else np.array([1.0, 0.0, 0.0])

    def axes(self) -> np.ndarray:
        """(3, 3) rows: down, back and left of its own frame, along I, P, L of its patient."""
        down = self.direction()
        back = np.array([0.0, 1.0, 0.0]) - down[1] * down
        back /= np.linalg.norm(back)
        return np.stack([down, back, np.cross(down, back)])


@dataclass(frozen=True)
class OnlineCase:
    """One patient.

    Args:
        name: of the patient.
        hu: (I, P, L) int16 CT numbers, air where nothing was scanned.
        spacing_mm: isotropic voxel size.
        vertebrae: head to foot.
        origin: of `ORIGINS`.
        unlabelled: name -> (3,) index of the bodies of other vertebrae whose place is known, S1 among them.
    """

    name: str
    hu: torch.Tensor
    spacing_mm: float
    vertebrae: tuple[OnlineVertebra, ...]
    origin: str
    unlabelled: dict[str, np.ndarray] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> OnlineCase:
        """The same on another device."""
        moved = tuple(replace(v, share=v.share.to(device)) for v in self.vertebrae)
        return replace(self, hu=self.hu.to(device), vertebrae=moved)


def case_from_patient(
    name: str,
    patient: PatientVolume,
    border_contact_mm2: dict[int, float],
    origin: str = "truth",
    factor: int = 2,
    unlabelled_mm: Mapping[str, tuple[float, float, float]] | None = None,
) -> OnlineCase:
    """A real CT on its canonical grid, ``factor`` times as coarse.

    Args:
        name: of the patient.
        patient: of `canonical_patient` with ``bone_gain=1``, so that attenuation is linear in HU.
        border_contact_mm2: per VerSe number, over how much the scan's border cuts it.
        origin: of the labels.
        factor: voxels that are averaged along each axis.
        unlabelled_mm: name -> world mm of vertebrae without a label whose place is known, S1 among them.
    """
    hu = (patient.attenuation / WATER_PER_MM - 1) * 1000
    room = [(0, -n % factor) for n in hu.shape]
    padded = F.pad(hu[None, None], [p for pair in reversed(room) for p in pair], value=-1000.0)
    coarse = F.avg_pool3d(padded, factor)[0, 0] if factor > 1 else padded[0, 0]
    labels = np.pad(patient.labels, room)
    index = {n: (patient.grid.to_index(c) - (factor - 1) / 2) / factor for n, c in patient.centroids.items()}
    others = {
        name: (patient.grid.to_index(np.array(place)) - (factor - 1) / 2) / factor
        for name, place in (unlabelled_mm or {}).items()
    }
    case = _assemble(name, coarse, patient.grid.spacing_mm * factor, labels, index, origin, factor, border_contact_mm2)
    return replace(case, unlabelled=others)


def case_from_simulation(name: str, patient: SimulatedPatient) -> OnlineCase:
    """A simulated patient as `simulate_patient` makes it."""
    index = {n: patient.grid.to_index(c) for n, c in patient.centroids.items()}
    hu = torch.from_numpy(patient.hu)
    s1 = patient.truth["s1_mm"]
    others = {} if s1 is None else {"S1": patient.grid.to_index(np.array(s1))}
    case = _assemble(name, hu, patient.grid.spacing_mm, patient.labels, index, "simulated", 1, {})
    return replace(case, unlabelled=others)


def _assemble(
    name: str,
    hu: torch.Tensor,
    spacing_mm: float,
    labels: np.ndarray,
    index: dict[int, np.ndarray],
    origin: str,
    factor: int,
    border_contact_mm2: dict[int, float],
) -> OnlineCase:
    if origin not in ORIGINS:
        raise UserError(f"{name}: origin '{origin}' is none of {', '.join(ORIGINS)}")
    boxes = ndimage.find_objects(labels)
    touching = border_contact(labels, np.eye(4) * spacing_mm / factor)
    numbers = [n for n in in_order(list(index)) if n <= len(boxes) and boxes[n - 1] is not None]
    vertebrae = []
    for place, number in enumerate(numbers):
        share, start = _share(labels, number, boxes[number - 1], factor)
        above, below = (
            (index[numbers[i]] - index[number]) * spacing_mm if 0 <= i < len(numbers) else None
            for i in (place - 1, place + 1)
        )
        whole = touching[number] + border_contact_mm2.get(number, 0.0) <= MAX_BORDER_CONTACT_MM2
        vertebrae.append(OnlineVertebra(number, index[number], above, below, start, share, whole))
    return OnlineCase(name, hu.round().to(torch.int16).contiguous(), spacing_mm, tuple(vertebrae), origin)


def _share(labels: np.ndarray, number: int, box: tuple[slice, ...], factor: int) -> tuple[torch.Tensor, np.ndarray]:
    """How much of each coarse voxel a label fills, and where that begins."""
    first = np.array([max(s.start // factor - 1, 0) for s in box])
    last = np.array([min(-(-s.stop // factor) + 1, n // factor) for s, n in zip(box, labels.shape, strict=True)])
    room = tuple(slice(a * factor, b * factor) for a, b in zip(first, last, strict=True))
    mask = torch.from_numpy((labels[room] == number).astype(np.float32))[None, None]
    share = F.avg_pool3d(mask, factor)[0, 0] if factor > 1 else mask[0, 0]
    return (255 * share).round().to(torch.uint8), first


def write_case(path: Path, case: OnlineCase) -> None:
    """A case as a compressed file ``.npz``, CT numbers in steps of 8 HU."""
    rows: list[dict[str, Any]] = []
    arrays = {"hu": (torch.round(case.hu / FILE_STEP_HU)).to(torch.int16).numpy()}
    for number, vertebra in enumerate(case.vertebrae):
        rows.append(
            {
                "level": vertebra.level,
                "centroid": vertebra.centroid.tolist(),
                "above": None if vertebra.above is None else vertebra.above.tolist(),
                "below": None if vertebra.below is None else vertebra.below.tolist(),
                "start": [int(v) for v in vertebra.start],
                "whole": vertebra.whole,
                "numbers": None if vertebra.numbers is None else vertebra.numbers.round(4).tolist(),
            }
        )
        arrays[f"share{number}"] = vertebra.share.numpy()
    about = {
        "name": case.name,
        "spacing_mm": case.spacing_mm,
        "origin": case.origin,
        "vertebrae": rows,
        "unlabelled": {other: place.tolist() for other, place in case.unlabelled.items()},
    }
    with atomic_file(path) as stream:
        np.savez_compressed(stream.buffer, about=json.dumps(about), **arrays)


def read_case(path: Path) -> OnlineCase:
    """What `write_case` wrote.

    Raises:
        UserError: the file is not such a case.
    """
    try:
        with np.load(path) as stored:
            about = json.loads(str(stored["about"]))
            if any("numbers" not in row for row in about["vertebrae"]):
                raise UserError(f"{path}: made by an older version; build it again (scripts.data.online.build)")
            hu = torch.from_numpy(stored["hu"]) * FILE_STEP_HU
            vertebrae = tuple(
                OnlineVertebra(
                    level=row["level"],
                    centroid=np.array(row["centroid"]),
                    above=None if row["above"] is None else np.array(row["above"]),
                    below=None if row["below"] is None else np.array(row["below"]),
                    start=np.array(row["start"]),
                    share=torch.from_numpy(stored[f"share{number}"]),
                    whole=row["whole"],
                    numbers=None if row["numbers"] is None else np.array(row["numbers"]),
                )
                for number, row in enumerate(about["vertebrae"])
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no file of an online case ({type(error).__name__})") from error
    others = {name: np.array(place) for name, place in about.get("unlabelled", {}).items()}
    return OnlineCase(about["name"], hu, about["spacing_mm"], vertebrae, about["origin"], others)
