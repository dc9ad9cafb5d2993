"""A vertebral body in its own frame (down, backwards, left): its walls, endplates and heights.

Walls are where a run of bone through the body's centre ends, in the middle half of its height; in the median plane
that is the spinal canal, and what lies behind it is arch. Endplates are height maps over the body's inner ellipse, and
planes are fitted to them (Huber weights, so that rims, osteophytes and Schmorl's nodes count little).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.levels import LEVEL_NUMBERS, region

STEP_MM = 1.0
# Looked at around the centre, mm: down, backwards, left; both ends.
REACH_MM = np.array([[-30.0, 30.0], [-26.0, 50.0], [-36.0, 36.0]])
# Surfaces are read at three probabilities: how far an angle depends on which is part of its uncertainty.
ISO_LEVELS = (0.35, 0.5, 0.65)
# Share of the body's half axes that endplates are read on; a neck's uncinate processes leave less of the width. Weights
# fall from the middle to nothing at the ellipse's edge, so that a wall read 1 mm off changes little.
INNER, NECK_INNER_WIDTH = 0.9, 0.65
# Deviations of an endplate from a plane belong together over about this length.
CORRELATION_MM = 7.0
# A body's centroid lies in its bone, or this near to it.
START_MM = 12.0
MIN_HEIGHT_MM, MIN_WIDTH_MM = 6.0, 8.0
# A body is never deeper than it is wide times this; more means that the canal is not there.
MAX_DEPTH_PER_WIDTH = 1.25
C2_WIDTH_PER_DEPTH = 1.2


class NoBodyError(Exception):
    """There is no vertebral body here; the message says why."""


@dataclass(frozen=True)
class Plate:
    """A plane in the own frame: down = height + sagittal * backwards + frontal * left."""

    coefficients: np.ndarray
    slope_sd: tuple[float, float]
    middle: np.ndarray


@dataclass(frozen=True)
class Body:
    """What `read_body` found, lengths in mm; ``middle_mm`` from the centre of the sampled volume."""

    upper: Plate | None
    lower: Plate
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


def read_body(volume: np.ndarray, level: int, only_slopes: bool = False) -> Body:
    """Walls and endplates of the body around the middle of a sampled volume.

    Args:
        volume: probabilities (down, backwards, left) at `REACH_MM` around the body's centre, `STEP_MM` apart.
        level: VerSe number.
        only_slopes: leave out the heights (None) and how sure the slopes are (NaN), which take half of the time.

    Raises:
        NoBodyError: there is no bone, or it is too low, too narrow or open.
    """
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
    plates: list[Plate | None] = []
    for up in (True, False):
        if up and level == LEVEL_NUMBERS["C2"]:
            plates.append(None)
            continue
        plates.append(_fit_plate(volume, middle, half, up, ISO_LEVELS[1:2] if only_slopes else ISO_LEVELS))
    upper, lower = plates
    assert lower is not None
    heights = None
    if upper is not None and not only_slopes:
        heights = _heights(volume, middle, depth)
    return Body(upper, lower, middle * STEP_MM + REACH_MM[:, 0], width, depth, heights, canal_found)


def _start(volume: np.ndarray) -> np.ndarray:
    """The bone nearest to the middle that is not at its very edge, as an index."""
    middle = np.rint(-REACH_MM[:, 0] / STEP_MM).astype(int)
    # Nearly always there is bone close by, and the rest need not be searched.
    for reach_mm in (2.0, START_MM, np.inf):
        low = np.maximum(middle - reach_mm / STEP_MM, 0).astype(int)
        high = np.minimum(middle + reach_mm / STEP_MM + 1, volume.shape).astype(int)
        inside = np.argwhere(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] > 0.8) + low
        away = np.linalg.norm(inside - middle, axis=1) * STEP_MM
        if len(inside) and away.min() <= min(reach_mm, START_MM):
            return inside[away.argmin()].astype(float)
    if not len(inside):
        raise NoBodyError("no solid bone near its centroid")
    raise NoBodyError(f"its centroid lies {away.min():.0f} mm from its bone")


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


def _fit_plate(
    volume: np.ndarray, middle: np.ndarray, half_mm: np.ndarray, up: bool, iso_levels: Sequence[float]
) -> Plate:
    """The plane of an endplate over an ellipse of given half axes, and how sure its slopes are (one level: NaN)."""
    disc = _disc(volume.shape, middle, (float(half_mm[0]), float(half_mm[1])))
    place = disc * STEP_MM + REACH_MM[1:, 0]
    own_middle = middle * STEP_MM + REACH_MM[:, 0]
    taper = 1 - (((place - own_middle[1:]) / half_mm) ** 2).sum(axis=1)
    fits = []
    for iso in iso_levels:
        away = _run(volume, float(middle[0]), disc, up, iso)
        height = own_middle[0] + (-away if up else away)
        good = np.isfinite(height)
        # What is far from the rest is a column that ran into a process or out through a hole.
        good[good] = np.abs(height[good] - np.median(height[good])) < 12.0 if good.any() else False
        if good.sum() < 40 / STEP_MM**2:
            raise NoBodyError("too little of an endplate")
        fits.append((*robust_plane(place[good], height[good], taper[good]), place[good], taper[good]))
    coefficients, residual, used, weights = fits[len(fits) // 2]
    weights = weights / weights.sum()
    spread = np.sqrt(weights @ (used - weights @ used) ** 2)
    independent = max(STEP_MM**2 / float((weights**2).sum()) / CORRELATION_MM**2, 3.0)
    noise = 1.4826 * float(np.median(np.abs(residual))) / (np.sqrt(independent) * spread)
    change = np.abs(fits[-1][0][1:] - fits[0][0][1:]) / 2 if len(fits) > 1 else np.full(2, np.nan)
    sd = np.sqrt(noise**2 + change**2)
    height = coefficients @ [1.0, own_middle[1], own_middle[2]]
    return Plate(
        coefficients,
        (float(sd[1]), float(sd[0])),
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
        weighted = design * weights[:, None] ** 2
        coefficients = np.linalg.solve(weighted.T @ design, weighted.T @ height)
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
