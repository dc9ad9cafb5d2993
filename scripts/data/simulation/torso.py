"""The body around a simulated spine: outline, fat, muscle, lungs, heart, organs, gas, airway.

Everything hangs on the spine: a row's height is translated into a fractional vertebra level, and tables give the size
of the body and the rib cage per level (mm, an average adult; each body is stretched at random). Coordinates are
(Inferior, Posterior, Left) mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.data.simulation.bone import smooth_noise
from scripts.data.simulation.posture import Posture
from scripts.geometry.frames import IPL_AXES, Grid

AIR_HU, FAT_HU, MUSCLE_HU, LUNG_HU, GAS_HU = -1000.0, -100.0, 50.0, -830.0, -950.0

# Level rank (C1 = 1 ... T1 = 8 ... L1 = 20 ... L5 = 24; 25 and more lie below) and, from the body's centroid, the
# distances to the skin at the side, in front and behind.
OUTLINE = np.array([
    [-4, 75, 100, 90], [0, 76, 100, 85], [2, 72, 85, 72], [4, 60, 58, 64], [6, 66, 55, 66], [7, 110, 62, 70],
    [8, 185, 72, 76], [10, 205, 100, 74], [12, 178, 125, 70], [14, 162, 142, 68], [17, 156, 150, 72],
    [19, 150, 140, 80], [22, 150, 122, 86], [24, 164, 115, 90], [27, 180, 120, 95], [31, 182, 120, 88],
])  # fmt: skip
# Likewise the inside of the rib cage.
CAGE = np.array([
    [7.2, 6, 6, 6], [7.6, 30, 18, 16], [8.2, 54, 38, 26], [9, 78, 52, 32], [10, 98, 68, 38], [12, 118, 92, 44],
    [15, 130, 115, 47],
    [17, 132, 122, 48], [19, 122, 112, 46], [21, 112, 100, 40],
])  # fmt: skip
LUNG_TOP, DIAPHRAGM, LUNG_BOTTOM = 7.3, 16.5, 19.5


@dataclass(frozen=True)
class Body:
    """Where the parts of one body are, per row of a grid.

    Args:
        rank: (I,) fractional vertebra level of each row.
        spine: (I, 2) P and L of the spine in mm.
        axis: (I, 2) P and L that the body's outline is built around: the spine, smoothed.
        outline: (I, 3) distances to the skin at the side, in front, behind.
        cage: (I, 3) likewise to the inside of the rib cage.
    """

    rank: np.ndarray
    spine: np.ndarray
    axis: np.ndarray
    outline: np.ndarray
    cage: np.ndarray


def build_body(posture: Posture, grid: Grid, rng: np.random.Generator) -> Body:
    """A random body around a spine."""
    rows = grid_axes(grid)[0]
    heights, ranks = posture.centroids[:, 0], level_ranks(posture)
    pitch = 33.0
    rank = np.interp(rows, heights, ranks)
    rank = np.where(rows < heights[0], ranks[0] + (rows - heights[0]) / 18.0, rank)
    rank = np.where(rows > heights[-1], ranks[-1] + (rows - heights[-1]) / pitch, rank)
    spine = np.stack([np.interp(rows, heights, posture.centroids[:, axis]) for axis in (1, 2)], 1)
    smooth = ndimage.gaussian_filter1d(spine, 30 / grid.spacing_mm, axis=0, mode="nearest")
    axis = np.stack([smooth[:, 0], 0.4 * smooth[:, 1] + 0.6 * smooth[:, 1].mean()], 1)
    length = float(np.linalg.norm(np.diff(posture.centroids, axis=0), axis=1).sum())
    size = np.clip(length / float(np.ptp(ranks) * 24.0), 0.8, 1.25)
    weight = rng.uniform(0.85, 1.25)
    stretch = size * np.array([weight, weight * rng.uniform(0.9, 1.1), weight])
    cage_stretch = size * np.array([rng.uniform(0.92, 1.06), rng.uniform(0.9, 1.1), 1.0])
    outline = _table(OUTLINE, rank) * stretch
    cage = np.minimum(_table(CAGE, rank) * cage_stretch, outline - [22, 20, 12])
    return Body(rank, spine, axis, outline, np.maximum(cage, 5.0))


def paint_torso(body: Body, grid: Grid, rng: np.random.Generator, organs: bool = True) -> np.ndarray:
    """CT numbers of the body without its bones.

    Args:
        body: see `build_body`.
        grid: canonical.
        rng: source of organs and texture.
        organs: lungs, heart, gas and airway; else only fat and muscle.

    Returns:
        (I, P, L) float32 HU.
    """
    skin = _radius(body.axis, body.outline, grid, 2.6)
    fat_share = rng.uniform(0.05, 0.2)
    cavity = _radius(body.axis, np.maximum(body.outline - [30, 26, 45], 8.0), grid, 2.4)
    clumps = smooth_noise(skin.shape, 7.0 / grid.spacing_mm, rng)
    # Organs among fat inside; streaks of fat between the muscles outside.
    organ_share = rng.uniform(-0.6, 0.3)
    wet = np.where(cavity < 1, clumps - organ_share, clumps + 1.3)
    wet[body.rank < 8] = clumps[body.rank < 8] + 1.0
    soft = FAT_HU + (MUSCLE_HU - FAT_HU) * np.clip(0.5 + 1.5 * wet, 0, 1)
    del cavity, clumps, wet
    hu = np.where(skin < 1, np.where(skin > 1 - fat_share, FAT_HU, soft), AIR_HU).astype(np.float32)
    del soft
    if organs:
        _paint_chest(hu, body, grid, rng)
        _paint_airway(hu, body, grid, rng)
        for _ in range(rng.integers(2, 9)):
            _paint_gas(hu, body, grid, rng)
        hu[skin >= 1] = AIR_HU
    blurred: np.ndarray = ndimage.gaussian_filter(hu, 0.8 / grid.spacing_mm)
    return blurred


def grid_axes(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I, P and L in mm of the voxels along each axis."""
    origin = IPL_AXES @ np.asarray(grid.origin_mm)
    i, p, l = (origin[a] + np.arange(n) * grid.spacing_mm for a, n in enumerate(grid.shape))  # noqa: E741
    return i, p, l


def level_ranks(posture: Posture) -> np.ndarray:
    """Levels as evenly counted numbers: T13 lies between T12 (19) and L1 (20), L6 is 25."""
    return np.array([19.5 if level == 28 else float(level) for level in posture.levels])


def ellipsoid(grid: Grid, centre: np.ndarray, radii: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box around an ellipsoid and, in it, the normalised radius (1 on the surface)."""
    axes = grid_axes(grid)
    box, squares = [], []
    for axis, c, r in zip(axes, centre, radii, strict=True):
        inside = np.flatnonzero(np.abs(axis - c) <= r)
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        box.append(slice(first, last))
        squares.append(((axis[first:last] - c) / r) ** 2)
    return tuple(box), np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])


def _table(table: np.ndarray, rank: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(rank, table[:, 0], table[:, column]) for column in (1, 2, 3)], 1)


def _radius(axis: np.ndarray, extent: np.ndarray, grid: Grid, exponent: float) -> np.ndarray:
    """Normalised radius in each row's superellipse, (I, P, L) float32: 1 on it."""
    _, p, left = grid_axes(grid)
    middle = axis[:, 0] + (extent[:, 2] - extent[:, 1]) / 2
    depth = (extent[:, 1] + extent[:, 2]) / 2
    along = np.abs((p[None, :] - middle[:, None]) / depth[:, None]) ** exponent
    across = np.abs((left[None, :] - axis[:, 1:]) / extent[:, :1]) ** exponent
    total = along.astype(np.float32)[:, :, None] + across.astype(np.float32)[:, None, :]
    np.power(total, 1 / exponent, out=total)
    return total


def _paint_chest(hu: np.ndarray, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    """Two lungs over a domed diaphragm, with vessels; the heart between them."""
    rows = np.flatnonzero((body.rank > LUNG_TOP) & (body.rank < LUNG_BOTTOM))
    if len(rows) == 0:
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    rank = body.rank[part]
    inner = _radius(body.axis[part], body.cage[part], _rows(grid, part), 2.2)
    _, p, left = grid_axes(grid)
    l_axis, p_axis = body.axis[part, 1], body.spine[part, 0]
    # Wavy borders: the aorta, the hila and the heart bulge differently in everyone.
    wave = smooth_noise((len(rank), len(p), 4), 18.0 / grid.spacing_mm, rng)[..., :2]
    half = rng.uniform(24, 36) + 14 * np.clip((rank - 9) / 5, 0, 1)[:, None] + 6 * wave[..., 0]
    beside = np.abs(left[None, None, :] - l_axis[:, None, None]) > half[:, :, None]
    # Behind the front of the spine the lungs come close to the vertebrae.
    close = np.abs(left[None, None, :] - body.spine[part, 1][:, None, None]) > (22 + 3 * wave[..., 1])[:, :, None]
    behind = _smooth_step((p[None, :] - p_axis[:, None] + 25) / 25)
    room = np.where((behind > 0.5)[:, :, None], close, beside)
    dome = (
        DIAPHRAGM
        + rng.uniform(-1, 1)
        + (LUNG_BOTTOM - DIAPHRAGM - 0.3) * np.clip((p[None, :] - p_axis[:, None] + 50) / 70, 0, 1)
    )
    # Each side's dome is highest in its middle; the right one stands over the liver.
    off_middle = (np.abs(left - body.axis[:, 1].mean()) - 75.0) / 55.0
    lateral = 1.6 * off_middle**2 + np.where(left < body.axis[:, 1].mean(), -0.4, 0.0)
    above = rank[:, None, None] < dome[:, :, None] + lateral[None, None, :]
    lung = (inner < 1) & room & above
    vessels = smooth_noise(lung.shape, 2.5 / grid.spacing_mm, rng)
    values = LUNG_HU + rng.uniform(-50, 80) + 60 * vessels + 350 * np.clip(vessels - 1.6, 0, 2)
    hu[part][lung] = values[lung].astype(np.float32)
    row = int(np.abs(body.rank - 14.5).argmin())
    if abs(body.rank[row] - 14.5) < 1:
        height = grid_axes(grid)[0][row]
        centre = np.array([height, body.spine[row, 0] - rng.uniform(65, 80), body.axis[row, 1] + rng.uniform(12, 28)])
        box, radius = ellipsoid(grid, centre, rng.uniform(0.85, 1.15) * np.array([58, 42, 60]))
        hu[box][radius < 1] = 45.0


def _paint_airway(hu: np.ndarray, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    """Throat and windpipe, from the skull base to the carina."""
    _, p, left = grid_axes(grid)
    radius = rng.uniform(7, 10)
    for row in np.flatnonzero((body.rank > 1.5) & (body.rank < 12.2)):
        front = body.spine[row, 0] - np.interp(body.rank[row], [1, 6, 12], [22, 24, 34])
        near = (p[:, None] - front) ** 2 + (left[None, :] - body.spine[row, 1]) ** 2 < radius**2
        hu[row][near] = GAS_HU


def _paint_gas(hu: np.ndarray, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    """A loop of bowel filled with gas or stool: blobs along a wandering path in front of the lumbar spine."""
    wanted = rng.uniform(18.5, 27)
    row = int(np.abs(body.rank - wanted).argmin())
    if abs(body.rank[row] - wanted) > 0.5:
        return
    rows = grid_axes(grid)[0]
    side, front = body.outline[row, 0], body.outline[row, 1]
    forward, beside = rng.uniform(0.3, 0.75) * front, rng.uniform(-0.65, 0.65) * side
    centre = np.array([rows[row], body.axis[row, 0] - forward, body.axis[row, 1] + beside])
    heading, value = rng.normal(size=3), GAS_HU if rng.random() < 0.75 else rng.uniform(-300, 150)
    radius = rng.uniform(7, 20)
    for _ in range(rng.integers(2, 9)):
        box, inside = ellipsoid(grid, centre, radius * rng.uniform(0.8, 1.3, 3))
        hu[box][inside < 1] = value
        heading = 0.6 * heading + rng.normal(size=3)
        centre = centre + radius * heading / np.linalg.norm(heading)


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _rows(grid: Grid, part: slice) -> Grid:
    return grid.crop((part.start, 0, 0), (part.stop - part.start, *grid.shape[1:]))
