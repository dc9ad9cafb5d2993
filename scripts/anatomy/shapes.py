"""Real vertebra shapes, each in its own frame: the library that spines are made of.

``shapes/<subject>.npz`` holds one subject's vertebrae as packed masks of 0.8 mm; ``shapes/LICENSES.md`` says whose they
are. They were made by ``python -m scripts.data.build_shapes`` from public masks and surfaces.

A vertebra's own frame: origin at its body's centroid; axis 0 down along the spine (the direction between its two
neighbours), axis 1 backwards in its median plane, axis 2 to the left. In it a shape is a signed distance, negative
inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import edt
import numpy as np
from scipy import ndimage

from scripts.errors import UserError
from scripts.levels import level_name

SHAPES_FOLDER = Path(__file__).with_name("shapes")
SHAPE_SPACING_MM = 0.8
SACRUM = 26
# How often a subject is drawn, and how much it counts in an average, against 1 of a real person: these two are an
# idealised man and a mean of 87 patients.
SUBJECT_WEIGHTS: dict[str, float] = {"bodyparts3d": 0.3, "clouthier": 0.3}


@dataclass(frozen=True)
class VertebraShape:
    """One real vertebra.

    Args:
        subject: whose.
        number: VerSe number; 26 is a sacrum.
        signed_distance: (I, P, L) float32 mm in its own frame, negative inside, good to some 15 mm from the surface.
        origin: index of the body's centroid.
        pitch_mm: mean distance of its body's centroid to those of its neighbours in its subject.
        licence: under which it may be passed on.
    """

    subject: str
    number: int
    signed_distance: np.ndarray
    origin: tuple[float, float, float]
    pitch_mm: float
    licence: str


def shape_subjects() -> list[str]:
    """Subjects of the library."""
    return sorted(path.stem for path in SHAPES_FOLDER.glob("*.npz"))


def people_named(name: str, people: Sequence[str]) -> tuple[str, ...]:
    """Those of some people whom the name of a case, a patient or a file means, whatever was done to them.

    A name means a person if it has theirs as a part of its own: alone, with a series or a painted body behind it
    (``verse004_0``, ``verse004_body1``), as a copy (``verse004~v01``), or behind its kind or dataset (``sub-verse004``,
    ``dataset1_verse004``). A person whose name is a number alone has to come first: behind another name it counts
    something.

    Args:
        name: of the case.
        people: names of patients or of the library's subjects.

    >>> people_named("dataset1_verse004~v01", ("verse004", "verse0041"))
    ('verse004',)
    """

    def means(person: str) -> bool:
        before = "^" if person.isdigit() else "(?<![A-Za-z0-9])"
        return re.search(f"{before}{re.escape(person)}(?![A-Za-z0-9])", name, re.IGNORECASE) is not None

    return tuple(person for person in people if person and means(person))


def library_subjects(name: str) -> tuple[str, ...]:
    """Subjects of the library that a patient or a case of this name is (`people_named`)."""
    return people_named(name, shape_subjects())


def subject_weights_with(given: Mapping[str, Any] | None) -> dict[str, float]:
    """`SUBJECT_WEIGHTS` with a user's own over them.

    Args:
        given: subject -> weight.

    Raises:
        UserError: no such subject, or a weight below 0.
    """
    weights = dict(SUBJECT_WEIGHTS)
    for subject, weight in (given or {}).items():
        if subject not in shape_subjects():
            raise UserError(f"--subject-weights: no shapes of '{subject}'; there are {', '.join(shape_subjects())}")
        if not isinstance(weight, int | float) or weight < 0:
            raise UserError(f"--subject-weights: {subject} has {weight}; use a number, 0 or more")
        weights[subject] = float(weight)
    return weights


@cache
def vertebrae_of(subject: str) -> dict[int, dict[str, Any]]:
    """What a subject's file says of each of its vertebrae, by number, without their shapes.

    Returns:
        VerSe number -> ``size`` (voxels), ``origin`` (index of the body's centroid), ``pitch_mm`` (mean distance to
        the neighbours, 0 if it has none) and ``licence``.

    Raises:
        UserError: the library has no such subject.
    """
    path = SHAPES_FOLDER / f"{subject}.npz"
    if not path.is_file():
        raise UserError(f"no shapes of '{subject}'; the library has {', '.join(shape_subjects())}")
    with np.load(path) as stored:
        about = json.loads(str(stored["about"]))
    return {row["number"]: {**row, "licence": about["licence"]} for row in about["vertebrae"]}


@cache
def load_shape(subject: str, number: int) -> VertebraShape:
    """One shape of a subject, which has to have it (`vertebrae_of`)."""
    row = vertebrae_of(subject)[number]
    with np.load(SHAPES_FOLDER / f"{subject}.npz") as stored:
        bits = np.unpackbits(stored[level_key(number)])[: int(np.prod(row["size"]))]
    return VertebraShape(
        subject=subject,
        number=number,
        signed_distance=signed_distance(bits.reshape(row["size"]).astype(bool), SHAPE_SPACING_MM),
        origin=tuple(row["origin"]),
        pitch_mm=row["pitch_mm"],
        licence=row["licence"],
    )


def load_subject(subject: str) -> dict[int, VertebraShape]:
    """All shapes of one subject, by number.

    Raises:
        UserError: the library has no such subject.
    """
    return {number: load_shape(subject, number) for number in vertebrae_of(subject)}


def shapes_of_level(number: int, subjects: tuple[str, ...]) -> list[VertebraShape]:
    """Every shape of a level that some subjects have; supernumerary levels borrow from their neighbours."""
    wanted = {28: (19, 20), 25: (25, 24)}.get(number, (number,))
    return [load_shape(subject, n) for subject in subjects for n in wanted if n in vertebrae_of(subject)]


def signed_distance(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance to a mask's surface in mm, negative inside, without the mask's stairs.

    Args:
        mask: (I, P, L) bool, neither empty nor full.
        spacing_mm: isotropic voxel size.
    """
    outside, inside = (edt.edt(np.ascontiguousarray(part, dtype=np.uint8), parallel=1) for part in (~mask, mask))
    # Each counts from the nearest voxel of the other side: half a voxel too far.
    distance = np.where(mask, 0.5 - inside, outside - 0.5)
    return (ndimage.gaussian_filter(distance, 0.7) * spacing_mm).astype(np.float32)


def level_key(number: int) -> str:
    """Name of a vertebra in a shape file."""
    return "S1" if number == SACRUM else level_name(number)
