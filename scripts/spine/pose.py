"""How a vertebra lies: its body told from its arch, its endplates, and the axes that follow from them.

The vertebra is looked at in its own frame (down, backwards, left; 1 mm), which is improved three times:

1. the body's walls are where a run of bone through the body's centre ends, in the middle half of its height; in the
   median plane that is the spinal canal, and what lies behind it is arch;
2. endplates are height maps over the body's inner ellipse, and planes are fitted to them (Huber weights, so that rims,
   osteophytes and Schmorl's nodes count little). The long axis is the mean of both normals (C2 has one endplate, and
   its long axis is that of the spine there);
3. the median plane is the plane along the long axis about which the vertebra is most nearly its own mirror image.

Axes and signs are those of the Scoliosis Research Society (Stokes 1994, doi 10.1097/00007632-199401001-00020, and the
ISB's page on it): x forwards, y to the left, z up. Two of its definitions are replaced by steadier ones: z by the mean
normal of the endplates (instead of the line through their centres), y by the symmetry of the whole vertebra (instead of
two points on the pedicles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from scripts.geometry.frames import IPL_AXES
from scripts.levels import LEVEL_NUMBERS, region
from scripts.spine.symmetry import symmetry_plane, symmetry_sd

ROUNDS = 3
STEP_MM = 1.0
SMOOTH_MM = 1.0
# Looked at around the centre, mm: down, backwards, left; both ends.
REACH_MM = np.array([[-30.0, 30.0], [-26.0, 50.0], [-36.0, 36.0]])
SAMPLES = tuple(int(n) for n in np.rint((REACH_MM[:, 1] - REACH_MM[:, 0]) / STEP_MM) + 1)
# Surfaces are read at three probabilities: how far an angle depends on which is part of its uncertainty.
ISO_LEVELS = (0.35, 0.5, 0.65)
# Share of the body's half axes that endplates are read on; a neck's uncinate processes leave less of the width. Weights
# fall from the middle to nothing at the ellipse's edge, so that a wall read 1 mm off changes little.
INNER, NECK_INNER_WIDTH = 0.9, 0.65
# Deviations of an endplate from a plane belong together over about this length.
CORRELATION_MM = 7.0
MIN_HEIGHT_MM, MIN_WIDTH_MM = 6.0, 8.0
# A body is never deeper than it is wide times this; more means that the canal is not there.
MAX_DEPTH_PER_WIDTH = 1.25
C2_WIDTH_PER_DEPTH = 1.2


@dataclass(frozen=True)
class Endplate:
    """One endplate as a plane.

    Args:
        centre_mm: (3,) world.
        normal: (3,) world unit vector, upwards for both endplates.
        sd_deg: of the tilt in the vertebra's own (frontal, sagittal) plane.
        roughness_mm: median deviation from the plane.
    """

    centre_mm: np.ndarray
    normal: np.ndarray
    sd_deg: tuple[float, float]
    roughness_mm: float


@dataclass(frozen=True)
class VertebraPose:
    """A vertebra's place, direction and size.

    Args:
        level: VerSe number.
        origin_mm: (3,) world; the middle of the body.
        axes: (3, 3), rows x (forwards), y (left) and z (up), world unit vectors.
        upper: endplate; None for C2.
        lower: endplate.
        axial_sd_deg: of the turn about z.
        width_mm: of the body, at half height.
        depth_mm: of the body, at half height in the median plane.
        heights_mm: of the body in the median plane: in front, in the middle, behind; None for C2.
        canal_found: whether the canal separates body and arch; else the depth is a guess.
    """

    level: int
    origin_mm: np.ndarray
    axes: np.ndarray
    upper: Endplate | None
    lower: Endplate
    axial_sd_deg: float
    width_mm: float
    depth_mm: float
    heights_mm: tuple[float, float, float] | None
    canal_found: bool


class NoBodyError(Exception):
    """There is no vertebral body here; the message says why."""


def estimate_pose(
    level: int,
    probability: np.ndarray,
    affine: np.ndarray,
    body_centroid_mm: np.ndarray,
    down_hint: np.ndarray | None = None,
) -> VertebraPose:
    """The pose of one vertebra.

    Args:
        level: VerSe number.
        probability: (I, P, L) of this vertebra alone, 0 to 1, or its mask; 1 mm voxels or nearly.
        affine: (4, 4) voxel index -> world mm, axes along I, P, L.
        body_centroid_mm: (3,) world; a few mm off does no harm.
        down_hint: (3,) world direction of the spine there; straight down if None.

    Raises:
        NoBodyError: C1, or no body is found.
    """
    if level == LEVEL_NUMBERS["C1"]:
        raise NoBodyError("C1 has no body")
    spacing = float(np.linalg.norm(affine[:3, 0]))
    looked_at = _Looked(probability, spacing)
    index = np.linalg.solve(affine[:3, :3], np.asarray(body_centroid_mm, float) - affine[:3, 3])
    centre = index * spacing
    down = _unit(IPL_AXES @ down_hint) if down_hint is not None else np.array([1.0, 0, 0])
    posterior = looked_at.centre_of_mass() - centre
    for step in range(ROUNDS):
        frame = _frame(down, posterior)
        volume = looked_at.sample(centre, frame)
        body = _read_body(volume, level)
        turn = symmetry_plane(volume, body.middle, near=step > 0)
        centre = centre + frame @ body.middle_mm
        sagittal, frontal = body.slopes
        # Plane: down = a + sagittal * backwards + frontal * left; its normal in the frame is (1, -sagittal, -frontal).
        if body.upper is not None:
            down = _unit(frame @ np.array([1.0, -sagittal, -frontal]))
        posterior = frame @ np.array([0.0, np.cos(turn), np.sin(turn)])
    final = _frame(down, posterior)
    volume = looked_at.sample(centre, final)
    body = _read_body(volume, level)

    def to_world(own: np.ndarray) -> np.ndarray:
        return affine[:3, :3] @ ((centre + final @ own) / spacing) + affine[:3, 3]

    plates = [None if plate is None else _endplate(plate, to_world, final) for plate in (body.upper, body.lower)]
    assert plates[1] is not None
    world = final.T @ IPL_AXES
    return VertebraPose(
        level=level,
        origin_mm=to_world(body.middle_mm),
        axes=np.stack([-world[1], world[2], -world[0]]),
        upper=plates[0],
        lower=plates[1],
        axial_sd_deg=float(np.degrees(symmetry_sd(volume, body.middle))),
        width_mm=body.width,
        depth_mm=body.depth,
        heights_mm=body.heights,
        canal_found=body.canal_found,
    )


class _Looked:
    """A vertebra that can be looked at in any frame. Lengths in mm from the first voxel, along I, P, L."""

    def __init__(self, probability: np.ndarray, spacing: float) -> None:
        inside = np.argwhere(probability > 0.25)
        if len(inside) < 500 / spacing**3:
            raise NoBodyError("too little of it is there")
        low, high = np.maximum(inside.min(0) - 4, 0), inside.max(0) + 5
        part: np.ndarray = probability[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
        padded = gaussian_filter(np.pad(part, 4), SMOOTH_MM / spacing, truncate=3)
        self.volume, self.first, self.spacing = torch.from_numpy(padded), (low - 4) * spacing, spacing
        self.mean = inside.mean(0) * spacing

    def centre_of_mass(self) -> np.ndarray:
        return self.mean

    def sample(self, centre: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """(down, backwards, left) at `REACH_MM` around a centre, `STEP_MM` apart; frame: columns its axes."""
        # Own place -> `grid_sample`'s coordinates (-1 and 1 are the outer faces, last axis first), in one matrix.
        size = np.array(self.volume.shape)
        to_sample = ((2 / (self.spacing * size))[:, None] * frame)[::-1]
        offset = ((2 * (centre - self.first) / self.spacing + 1) / size - 1)[::-1]
        matrix, shift = (torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32) for v in (to_sample.T, offset))
        where = torch.addmm(shift, _own_places(), matrix).view(*SAMPLES, 3)
        return F.grid_sample(self.volume[None, None], where[None], align_corners=False)[0, 0].numpy()


@cache
def _own_places() -> torch.Tensor:
    """(N, 3) mm in the own frame, of all that is looked at."""
    axes = [torch.arange(n) * STEP_MM + low for n, low in zip(SAMPLES, REACH_MM[:, 0].tolist(), strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).float()


@dataclass(frozen=True)
class _Plate:
    """A plane in the own frame: down = height + sagittal * backwards + frontal * left."""

    coefficients: np.ndarray
    slope_sd: tuple[float, float]
    roughness: float
    middle: np.ndarray


@dataclass(frozen=True)
class _Body:
    upper: _Plate | None
    lower: _Plate
    middle_mm: np.ndarray
    width: float
    depth: float
    heights: tuple[float, float, float] | None
    canal_found: bool

    @property
    def slopes(self) -> tuple[float, float]:
        """Mean (sagittal, frontal) slope of the endplates."""
        plates = [p.coefficients for p in (self.upper, self.lower) if p is not None]
        mean = np.mean(plates, axis=0)
        return float(mean[1]), float(mean[2])

    @property
    def middle(self) -> np.ndarray:
        """Index of the middle in a sampled volume."""
        return (self.middle_mm - REACH_MM[:, 0]) / STEP_MM


def _read_body(volume: np.ndarray, level: int) -> _Body:
    """Walls and endplates of the body around the middle of a sampled volume."""
    middle = _start(volume)
    # Height near the centre, then walls at half height, then both again with what is now known.
    for _ in range(2):
        core = _disc(volume.shape, middle, (5.0, 5.0))
        top, bottom = (float(np.nanmedian(_run(volume, float(middle[0]), core, up, 0.5))) for up in (True, False))
        if level == LEVEL_NUMBERS["C2"]:
            top = min(top, bottom, 9.0)
        if not top + bottom > MIN_HEIGHT_MM:
            raise NoBodyError(f"a body {top + bottom:.0f} mm high")
        middle[0] += (bottom - top) / 2 / STEP_MM
        height = top + bottom
        quarter = max(round(height / 4 / STEP_MM), 1)
        row = round(float(middle[0]))
        slab = volume[max(row - quarter, 0) : row + quarter + 1].mean(0)
        width, depth, shift, canal_found = _walls(slab, middle[1:])
        middle[1:] += shift
    if level == LEVEL_NUMBERS["C2"]:
        # At the height of its middle the lateral masses stand beside the body.
        width = min(width, C2_WIDTH_PER_DEPTH * depth)
    neck = region(level) == "cervical"
    half = np.array([INNER * depth / 2, (NECK_INNER_WIDTH if neck else INNER) * width / 2])
    plates: list[_Plate | None] = []
    for up in (True, False):
        if up and level == LEVEL_NUMBERS["C2"]:
            plates.append(None)
            continue
        plates.append(_fit_plate(volume, middle, half, up))
    upper, lower = plates
    assert lower is not None
    heights = None
    if upper is not None:
        heights = _heights(volume, middle, depth)
    return _Body(upper, lower, middle * STEP_MM + REACH_MM[:, 0], width, depth, heights, canal_found)


def _start(volume: np.ndarray) -> np.ndarray:
    """The bone nearest to the middle that is not at its very edge, as an index."""
    middle = np.rint(-REACH_MM[:, 0] / STEP_MM).astype(int)
    core = volume > 0.8
    inside = np.argwhere(core)
    if not len(inside):
        raise NoBodyError("no solid bone near its centroid")
    away = np.linalg.norm(inside - middle, axis=1) * STEP_MM
    if away.min() > 12.0:
        raise NoBodyError(f"its centroid lies {away.min():.0f} mm from its bone")
    return inside[away.argmin()].astype(float)


def _disc(shape: tuple[int, ...], middle: np.ndarray, half_mm: tuple[float, float]) -> np.ndarray:
    """(N, 2) indices (backwards, left) within an ellipse around the middle."""
    rows: np.ndarray
    rows, columns = np.indices(shape[1:])
    inside = ((rows - middle[1]) / half_mm[0]) ** 2 + ((columns - middle[2]) / half_mm[1]) ** 2 <= 1 / STEP_MM**2
    return np.argwhere(inside)


def _run(volume: np.ndarray, start: float, columns: np.ndarray, up: bool, iso: float) -> np.ndarray:
    """How far bone reaches up or down from a height in (N, 2) columns: (N,) mm; NaN where it does not begin or end."""
    row = round(start)
    lines = volume[:, columns[:, 0], columns[:, 1]].T
    lines = lines[:, row::-1] if up else lines[:, row:]
    away = first_crossing(lines, iso)
    return (away + ((row - start) * (-1 if up else 1))) * STEP_MM


def first_crossing(lines: np.ndarray, iso: float) -> np.ndarray:
    """Where each line (N, K) first falls below a value, in samples from its start, between samples; NaN if never.

    Lines that begin below it give NaN as well.
    """
    below = lines < iso
    first = below.argmax(axis=1)
    found = below.any(axis=1) & (first > 0)
    index = np.arange(len(lines))
    before, after = lines[index, np.maximum(first - 1, 0)], lines[index, first]
    share = (before - iso) / np.where(before == after, 1.0, before - after)
    return np.where(found, first - 1 + share, np.nan)


def _walls(slab: np.ndarray, middle: np.ndarray) -> tuple[float, float, np.ndarray, bool]:
    """Width and depth in mm, how far the middle is to move (2,) in samples, and whether the canal was found."""
    row, column = (round(float(v)) for v in middle)
    reach = max(round(3.0 / STEP_MM), 1)
    lines = slab[:, column - reach : column + reach + 1].T
    front = float(np.nanmedian(first_crossing(lines[:, row::-1], 0.5)))
    back = float(np.nanmedian(first_crossing(lines[:, row:], 0.5)))
    rows = slab[row - reach : row + reach + 1]
    right = float(np.nanmedian(first_crossing(rows[:, column::-1], 0.5)))
    left = float(np.nanmedian(first_crossing(rows[:, column:], 0.5)))
    if not np.isfinite([front, left, right]).all():
        raise NoBodyError("no walls around its centroid")
    width = (left + right) * STEP_MM
    if width < MIN_WIDTH_MM:
        raise NoBodyError(f"a body {width:.0f} mm wide")
    canal_found = bool(np.isfinite(back) and (front + back) * STEP_MM <= MAX_DEPTH_PER_WIDTH * width)
    if not canal_found:
        back = 0.8 * width / STEP_MM - front
    shift = np.array([row + (back - front) / 2, column + (left - right) / 2]) - middle
    return width, (front + back) * STEP_MM, shift, canal_found


def _fit_plate(volume: np.ndarray, middle: np.ndarray, half_mm: np.ndarray, up: bool) -> _Plate:
    """The plane of an endplate over an ellipse of given half axes, and how sure its slopes are."""
    disc = _disc(volume.shape, middle, (float(half_mm[0]), float(half_mm[1])))
    place = disc * STEP_MM + REACH_MM[1:, 0]
    own_middle = middle * STEP_MM + REACH_MM[:, 0]
    taper = 1 - (((place - own_middle[1:]) / half_mm) ** 2).sum(axis=1)
    fits = []
    for iso in ISO_LEVELS:
        away = _run(volume, float(middle[0]), disc, up, iso)
        height = own_middle[0] + (-away if up else away)
        good = np.isfinite(height)
        # What is far from the rest is a column that ran into a process or out through a hole.
        good[good] = np.abs(height[good] - np.median(height[good])) < 12.0 if good.any() else False
        if good.sum() < 40 / STEP_MM**2:
            raise NoBodyError("too little of an endplate")
        fits.append((*robust_plane(place[good], height[good], taper[good]), place[good], taper[good]))
    coefficients, residual, used, weights = fits[1]
    weights = weights / weights.sum()
    spread = np.sqrt(weights @ (used - weights @ used) ** 2)
    independent = max(STEP_MM**2 / float((weights**2).sum()) / CORRELATION_MM**2, 3.0)
    noise = 1.4826 * float(np.median(np.abs(residual))) / (np.sqrt(independent) * spread)
    change = np.abs(fits[2][0][1:] - fits[0][0][1:]) / 2
    sd = np.sqrt(noise**2 + change**2)
    height = coefficients @ [1.0, own_middle[1], own_middle[2]]
    return _Plate(
        coefficients,
        (float(sd[1]), float(sd[0])),
        float(np.median(np.abs(residual))),
        np.array([height, own_middle[1], own_middle[2]]),
    )


def robust_plane(place: np.ndarray, height: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plane through scattered heights, by iterated least squares with Huber weights.

    Args:
        place: (N, 2).
        height: (N,) mm.
        given: (N,) weights that the points have anyway.

    Returns:
        coefficients (3,) of height = a + b * place[0] + c * place[1], and the residuals (N,).
    """
    design = np.column_stack([np.ones(len(place)), place])
    weights = np.sqrt(given)
    coefficients = np.zeros(3)
    residual = height
    for _ in range(10):
        coefficients = np.linalg.lstsq(design * weights[:, None], height * weights, rcond=None)[0]
        residual = height - design @ coefficients
        scale = max(1.4826 * float(np.median(np.abs(residual))), 0.1)
        weights = np.sqrt(given * np.minimum(1.0, 1.345 * scale / np.maximum(np.abs(residual), 1e-9)))
    return coefficients, residual


def _heights(volume: np.ndarray, middle: np.ndarray, depth: float) -> tuple[float, float, float] | None:
    """Heights in the median plane near the front wall, in the middle and near the back wall (medians over strips)."""
    out = []
    for low, high in ((-0.42, -0.28), (-0.07, 0.07), (0.28, 0.42)):
        rows: np.ndarray = np.arange(np.floor(middle[1] + low * depth), np.ceil(middle[1] + high * depth) + 1).astype(
            int
        )
        columns = np.arange(round(float(middle[2])) - 4, round(float(middle[2])) + 5)
        strip = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
        strip = np.clip(strip, 0, np.array(volume.shape[1:]) - 1)
        runs = _run(volume, float(middle[0]), strip, True, 0.5) + _run(volume, float(middle[0]), strip, False, 0.5)
        if not np.isfinite(runs).any():
            return None
        out.append(float(np.nanmedian(runs)))
    return out[0], out[1], out[2]


def _endplate(plate: _Plate, to_world: Callable[[np.ndarray], np.ndarray], frame: np.ndarray) -> Endplate:
    normal = frame @ _unit(np.array([-1.0, plate.coefficients[1], plate.coefficients[2]]))
    frontal, sagittal = np.degrees(np.arctan(plate.slope_sd))
    return Endplate(to_world(plate.middle), normal @ IPL_AXES, (float(frontal), float(sagittal)), plate.roughness)


def _frame(down: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """(3, 3), columns: down, backwards (made perpendicular), left, along I, P, L."""
    back = _unit(posterior - (posterior @ down) * down)
    return np.stack([down, back, np.cross(down, back)], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
