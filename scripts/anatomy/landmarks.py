"""Corners of vertebral bodies from a labelmap: what the annotation network is taught to find.

Two sections through the body, one from front to back and one from side to side, are read on grids of the vertebra's
own axes. Endplates and walls are fitted as straight lines, and their crossings are the corners: four of the
mid-sagittal section, which a lateral film shows, and four of the mid-coronal one, which a frontal film shows. They are
points in space, so that any film's geometry can project them; corners of a projected silhouette would move with axial
rotation. Follows the recipe measured in ``docs/localization.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from scripts.geometry.frames import Grid
from scripts.io.documents import read_json, write_json
from scripts.levels import LEVEL_NUMBERS, in_order, level_name, level_number, region

FILE_NAME = "landmarks.json"
# Of a file that a simulated patient has beside its mask.
LANDMARKS_SUFFIX = "_landmarks.json"
# Of labelmaps in VerSe's releases, before .nii or .nii.gz.
MASK_ENDING = "_seg-vert_msk"
SECTION_MM = 0.5
REACH_MM = 40.0
SLAB_MM = (-2.0, 0.0, 2.0)
REFINEMENTS = 2
# What a body can measure, mm and degrees; beyond it something else was fitted.
HEIGHT_MM, WIDTH_MM = (7.0, 42.0), (10.0, 66.0)
MAX_ANGLE_DEG, MAX_APART_MM, MAX_OFF_CENTROID_MM = 30.0, 3.5, 8.0
# Transverse processes and uncinate edges lie in the coronal section of a neck's vertebra.
OPENING_MM = {"cervical": 4.0, "thoracic": 2.0, "lumbar": 2.0}
# Shares of the height between which walls are read; above, a neck's transverse processes leave its bodies.
WALL_ROWS, NECK_WALL_ROWS = (0.22, 0.78), (0.5, 0.9)
MAX_WALL_SLOPE = 0.2
C1, C2 = LEVEL_NUMBERS["C1"], LEVEL_NUMBERS["C2"]


@dataclass(frozen=True)
class BodyLandmarks:
    """A vertebra's landmarks in world mm.

    Args:
        level: VerSe number.
        centroid_mm: (3,) of the body.
        sagittal_mm: (4, 3) superior anterior, superior posterior, inferior posterior, inferior anterior; None if
            they are not reliable enough to learn from.
        coronal_mm: (4, 3) superior right, superior left, inferior left, inferior right (of the patient); or None.
        why_none: reason, where corners are missing.
    """

    level: int
    centroid_mm: np.ndarray
    sagittal_mm: np.ndarray | None = None
    coronal_mm: np.ndarray | None = None
    why_none: str = ""


@dataclass(frozen=True)
class SpineLandmarks:
    """All of a patient.

    Args:
        vertebrae: head to foot.
        s1_mm: (3,) middle of the body of S1, or None where it is not known.
        complete: whether every vertebra in the field of view is listed, and S1 if it is there; else what lies above
            the first and below the last is unknown.
    """

    vertebrae: tuple[BodyLandmarks, ...]
    s1_mm: np.ndarray | None = None
    complete: bool = False


def find_landmarks(
    labels: np.ndarray,
    grid: Grid,
    centroids: dict[int, np.ndarray],
    s1_mm: np.ndarray | None = None,
    complete: bool = False,
) -> SpineLandmarks:
    """Landmarks of every vertebra that has a centroid.

    Args:
        labels: (I, P, L) uint8 on ``grid``, VerSe numbers.
        grid: canonical.
        centroids: VerSe number -> world mm.
        s1_mm: (3,) world mm, middle of the body of S1; None where it is not known.
        complete: whether every vertebra in the field of view is listed, and S1 if it is there.
    """
    numbers = in_order(list(centroids))
    index = np.array([grid.to_index(centroids[n]) for n in numbers]).reshape(-1, 3)
    down = np.gradient(index, axis=0) if len(numbers) > 1 else np.array([[1.0, 0.0, 0.0]])
    boxes = ndimage.find_objects(labels)
    found = []
    for number, centre, direction in zip(numbers, index, down, strict=True):
        box = boxes[number - 1] if number <= len(boxes) else None
        found.append(_one(labels, grid, number, centre, direction, box))
    return SpineLandmarks(tuple(found), s1_mm, complete)


def split_marks(places: Mapping[str, Sequence[float] | np.ndarray]) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Marks by name as centroids by VerSe number, and that of S1, which has no such number; None without it.

    >>> split_marks({"L5": (0, 0, 0)})
    ({24: array([0, 0, 0])}, None)
    """
    marks = {name: np.array(place) for name, place in places.items()}
    s1 = marks.pop("S1", None)
    return {level_number(name): place for name, place in marks.items()}, s1


def known_landmarks(mask: Path | None) -> SpineLandmarks | None:
    """The landmarks in the file that ``simulate`` writes beside a case's mask; None without such a file."""
    path = mask and landmarks_beside(mask)
    return read_landmarks(path) if path and path.is_file() else None


def landmarks_beside(mask: Path) -> Path | None:
    """Where the landmarks of a case may be that ``simulate`` has written; None beside masks of another name."""
    stem = mask.name.removesuffix(".gz").removesuffix(".nii")
    if stem == mask.name or not stem.endswith(MASK_ENDING):
        return None
    return mask.with_name(stem.removesuffix(MASK_ENDING) + LANDMARKS_SUFFIX)


def write_landmarks(path: Path, landmarks: SpineLandmarks) -> None:
    """Write ``landmarks.json``; world mm to a hundredth."""

    def plain(points: np.ndarray | None) -> Any:
        return None if points is None else np.round(points, 2).tolist()

    rows = [
        {
            "level": level_name(v.level),
            "centroid_mm": plain(v.centroid_mm),
            "sagittal_mm": plain(v.sagittal_mm),
            "coronal_mm": plain(v.coronal_mm),
            "why_none": v.why_none,
        }
        for v in landmarks.vertebrae
    ]
    document = {"complete": landmarks.complete, "s1_mm": plain(landmarks.s1_mm), "vertebrae": rows}
    write_json(path, document)


def read_landmarks(path: Path) -> SpineLandmarks:
    """The inverse of `write_landmarks`.

    Raises:
        UserError: the file is damaged.
    """

    def points(values: Any) -> np.ndarray | None:
        return None if values is None else np.array(values, float)

    document = read_json(path, "landmarks file")
    vertebrae = [
        BodyLandmarks(
            level_number(row["level"]),
            np.array(row["centroid_mm"], float),
            points(row["sagittal_mm"]),
            points(row["coronal_mm"]),
            row["why_none"],
        )
        for row in document["vertebrae"]
    ]
    return SpineLandmarks(tuple(vertebrae), points(document["s1_mm"]), document["complete"])


def _one(
    labels: np.ndarray, grid: Grid, number: int, centre: np.ndarray, down: np.ndarray, box: tuple[slice, ...] | None
) -> BodyLandmarks:
    world = grid.to_world(centre)
    if number == C1:
        return BodyLandmarks(number, world, why_none="C1 has no body")
    if box is None:
        return BodyLandmarks(number, world, why_none="no mask")
    mask = np.pad((labels[box] == number).astype(np.float32), 1)
    local = centre - [s.start for s in box] + 1
    try:
        sagittal, coronal = _sections(mask, local, _unit(down), number, grid.spacing_mm)
        _check(sagittal, coronal, local, grid.spacing_mm)
    except _NoBodyError as error:
        return BodyLandmarks(number, world, why_none=str(error))
    corners = [c + [s.start for s in box] - 1 for c in (sagittal, coronal)]
    # A body that ends in the last layer may go on behind it.
    if any(np.any(c < 0.5) or np.any(c > np.array(grid.shape) - 1.5) for c in corners):
        return BodyLandmarks(number, world, why_none="cut by the border of the field of view")
    return BodyLandmarks(number, world, grid.to_world(corners[0]), grid.to_world(corners[1]))


class _NoBodyError(Exception):
    """What was found is not a vertebral body."""


def _sections(
    mask: np.ndarray, centre: np.ndarray, down: np.ndarray, number: int, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of both sections, (4, 3) each, in indices of the mask.

    The arch pulls the centre of mass straight backwards, which gives the vertebra's front; `down` is then turned until
    it stands on the mean of both endplates.
    """
    backwards = np.array(ndimage.center_of_mass(mask)) - centre
    opening = OPENING_MM[region(number)]
    in_neck = region(number) == "cervical"
    corners = np.zeros((2, 4, 3))
    for step in range(REFINEMENTS + 1):
        posterior = _unit(backwards - (backwards @ down) * down)
        left = np.cross(down, posterior)
        middle = centre
        turn = np.zeros(3)
        for which, (across, along) in enumerate(((posterior, left), (left, posterior))):
            section = _read_section(mask, middle, down, across, along, spacing_mm)
            body = _body_of(section, opening if which == 1 else 1.5)
            if number == C2:
                body = _without_dens(body)
            quad = _fit_corners(body, NECK_WALL_ROWS if in_neck and which == 1 else WALL_ROWS)
            corners[which] = middle + (quad[:, :1] * down + quad[:, 1:] * across) / spacing_mm
            tilt = np.mean([_slope(quad[1] - quad[0]), _slope(quad[2] - quad[3])])
            turn = turn + tilt * across
            if which == 0:
                # The coronal section runs through the middle of the body, whatever the centroid says.
                middle = middle + quad.mean(0)[1] * across / spacing_mm
        if step < REFINEMENTS:
            down = _unit(down - turn)
    return corners[0], corners[1]


def _read_section(
    mask: np.ndarray, centre: np.ndarray, down: np.ndarray, across: np.ndarray, along: np.ndarray, spacing_mm: float
) -> np.ndarray:
    """A section as bool (rows down, columns across), `SECTION_MM` pixels, the centre in its middle."""
    offsets = np.arange(-REACH_MM, REACH_MM + 1e-6, SECTION_MM)
    plane = offsets[:, None, None] * down + offsets[None, :, None] * across
    total: np.ndarray = np.zeros((len(offsets), len(offsets)), np.float32)
    for depth in SLAB_MM:
        where = centre + (plane + depth * along) / spacing_mm
        total += ndimage.map_coordinates(mask, np.moveaxis(where, -1, 0), order=1, mode="constant")
    return total > 0.5 * len(SLAB_MM)


def _body_of(section: np.ndarray, opening_mm: float) -> np.ndarray:
    """The connected part of a section in whose middle the body's centroid lies, without thin bridges."""
    radius = opening_mm / SECTION_MM
    depth = ndimage.distance_transform_edt(section)
    core = depth > radius
    opened = ndimage.distance_transform_edt(~core) <= radius if core.any() else section
    parts, count = ndimage.label(opened & section)
    if count == 0:
        raise _NoBodyError("nothing in its section")
    middle = section.shape[0] // 2
    away, nearest = ndimage.distance_transform_edt(parts == 0, return_indices=True)
    if away[middle, middle] * SECTION_MM > 6.0:
        raise _NoBodyError("its centroid lies in no body")
    return parts == parts[tuple(nearest[:, middle, middle])]


def _without_dens(body: np.ndarray) -> np.ndarray:
    """C2 from its lower endplate to as far above its centroid: the box of its body without the dens."""
    middle = body.shape[0] // 2
    rows = np.flatnonzero(body[:, middle - 6 : middle + 7].any(1))
    clipped = body.copy()
    clipped[: max(2 * middle - int(rows[-1]), 0)] = False
    return clipped


def _fit_corners(body: np.ndarray, wall_rows: tuple[float, float]) -> np.ndarray:
    """Corners (4, 2) in mm from the section's middle, (down, across): upper first, upper last, lower last, lower first.

    First and last are along the section's columns; the walls are read between two shares of the height.
    """
    middle = body.shape[0] // 2
    columns = np.flatnonzero(body.any(0))
    near = columns[np.abs(columns - np.median(columns)) <= 0.2 * len(columns)]
    top, bottom = np.median(_extremes(body, near, axis=0), axis=1)
    height = bottom - top
    rows = np.arange(int(top + wall_rows[0] * height), int(top + wall_rows[1] * height) + 1)
    first, last = _extremes(body, rows, axis=1)
    walls = [_wall(rows, first), _wall(rows, last)]
    width = np.median(last) - np.median(first)
    inner = np.arange(int(np.median(first) + 0.15 * width), int(np.median(last) - 0.15 * width) + 1)
    upper, lower = _extremes(body, inner, axis=0)
    plates = [_line(inner, upper), _line(inner, lower)]
    corners = []
    for plate, wall in ((0, 0), (0, 1), (1, 1), (1, 0)):
        a, b = plates[plate]  # row = a + b * column
        c, d = walls[wall]  # column = c + d * row
        row = (a + b * c) / (1 - b * d)
        corners.append((row, c + d * row))
    return (np.array(corners) - middle) * SECTION_MM


def _extremes(body: np.ndarray, lines: np.ndarray, axis: int) -> np.ndarray:
    """Outer edges (2, N) of the body on some of its columns (axis 0) or rows (axis 1), in pixels."""
    part = body[:, lines] if axis == 0 else body[lines].T
    filled = part.any(0)
    if filled.sum() < 4 or filled.mean() < 0.6:
        raise _NoBodyError("its section is no body")
    first = part.argmax(0).astype(float) - 0.5
    last = part.shape[0] - part[::-1].argmax(0) - 0.5
    first[~filled], last[~filled] = np.median(first[filled]), np.median(last[filled])
    return np.stack([first, last])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of a robust straight line (Huber weights, 1 px)."""
    weights = np.ones(len(x))
    design = np.stack([np.ones(len(x)), x.astype(float)], 1)
    coefficients = np.zeros(2)
    for _ in range(8):
        coefficients = np.linalg.lstsq(design * weights[:, None], y * weights, rcond=None)[0]
        off = np.abs(y - design @ coefficients)
        weights = np.sqrt(np.minimum(1.0, 1.0 / np.maximum(off, 1e-6)))
    return float(coefficients[0]), float(coefficients[1])


def _wall(rows: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of a robust line along a wall, limited to slopes that walls have on their endplates."""
    slope = float(np.clip(_line(rows, columns)[1], -MAX_WALL_SLOPE, MAX_WALL_SLOPE))
    return float(np.median(columns - slope * rows)), slope


def _check(sagittal: np.ndarray, coronal: np.ndarray, centre: np.ndarray, spacing_mm: float) -> None:
    for quad in (sagittal, coronal):
        sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1) * spacing_mm
        if not all(WIDTH_MM[0] <= s <= WIDTH_MM[1] for s in sides[::2]):
            raise _NoBodyError(f"a body {sides[0]:.0f} and {sides[2]:.0f} mm across")
        if not all(HEIGHT_MM[0] <= s <= HEIGHT_MM[1] for s in sides[1::2]):
            raise _NoBodyError(f"a body {sides[1]:.0f} and {sides[3]:.0f} mm high")
        upper, lower = quad[1] - quad[0], quad[2] - quad[3]
        cosine = upper @ lower / np.linalg.norm(upper) / np.linalg.norm(lower)
        if cosine < np.cos(np.radians(MAX_ANGLE_DEG)):
            raise _NoBodyError("endplates at more than 30 degrees to each other")
    apart = np.linalg.norm(sagittal.mean(0) - coronal.mean(0)) * spacing_mm
    if apart > MAX_APART_MM:
        raise _NoBodyError(f"its two sections' middles lie {apart:.1f} mm apart")
    off = np.linalg.norm((sagittal.mean(0) + coronal.mean(0)) / 2 - centre) * spacing_mm
    if off > MAX_OFF_CENTROID_MM:
        raise _NoBodyError(f"its corners' middle lies {off:.1f} mm from its centroid")


def _slope(edge: np.ndarray) -> float:
    return float(edge[0] / edge[1])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
