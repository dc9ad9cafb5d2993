"""Where the parts of a simulated body are: levels, skin and rib cage for each row of a grid.

Everything hangs on the spine: a row's height is translated into a fractional vertebra level, and tables give the size
of the body and the rib cage per level (mm, an average adult; each body is stretched at random). Coordinates are
(Inferior, Posterior, Left) mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.geometry.frames import IPL_AXES, Grid
from scripts.levels import level_rank
from scripts.simulation.posture import Posture

# Level rank (C1 = 1 ... T1 = 8 ... L1 = 20 ... L5 = 24; 25 and more lie below) and, from the body's centroid, the
# distances to the skin at the side, in front and behind.
OUTLINE = np.array([
    [-4, 75, 100, 90], [0, 76, 100, 85], [2, 72, 85, 72], [4, 60, 58, 64], [6, 66, 55, 66], [7, 110, 62, 70],
    [8, 185, 72, 76], [10, 205, 100, 74], [12, 178, 125, 70], [14, 162, 142, 68], [17, 156, 150, 72],
    [19, 150, 140, 80], [22, 150, 122, 86], [24, 164, 115, 95], [26, 176, 118, 118], [28, 182, 120, 135],
    [31, 182, 120, 132],
])  # fmt: skip
# Likewise the inside of the rib cage.
CAGE = np.array([
    [7.2, 6, 6, 6], [7.6, 30, 18, 16], [8.2, 54, 38, 26], [9, 78, 52, 32], [10, 98, 68, 38], [12, 118, 92, 44],
    [15, 130, 115, 47],
    [17, 132, 122, 48], [19, 122, 112, 46], [21, 112, 100, 40],
])  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Where the parts of one body are, per row of a grid.

    Args:
        rank: (I,) fractional vertebra level of each row.
        spine: (I, 2) P and L of the spine in mm.
        axis: (I, 2) P and L that the body's outline is built around: the spine, smoothed.
        outline: (I, 3) distances to the skin at the side, in front, behind.
        cage: (I, 3) distances to the inside of the rib cage at the side, in front, behind.
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


def grid_axes(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I, P and L in mm of the voxels along each axis."""
    origin = IPL_AXES @ np.asarray(grid.origin_mm)
    i, p, l = (origin[a] + np.arange(n) * grid.spacing_mm for a, n in enumerate(grid.shape))  # noqa: E741
    return i, p, l


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


def fill_balls(hu: np.ndarray, grid: Grid, centres: np.ndarray, radius: float, value: float) -> None:
    """Balls about centres (N, 3) mm become one CT number, in place."""
    for centre in centres:
        box, away = ellipsoid(grid, centre, np.full(3, radius))
        hu[box][away < 1] = value


def level_ranks(posture: Posture) -> np.ndarray:
    """(N,) the levels of a spine as evenly counted numbers (`scripts.levels.level_rank`)."""
    return np.array([level_rank(level) for level in posture.levels])


def _table(table: np.ndarray, rank: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(rank, table[:, 0], table[:, column]) for column in (1, 2, 3)], 1)


def normalised_radius(axis: np.ndarray, extent: np.ndarray, grid: Grid, exponent: float) -> np.ndarray:
    """Normalised radius in each row's superellipse, (I, P, L) float32: 1 on it."""
    _, p, left = grid_axes(grid)
    middle = axis[:, 0] + (extent[:, 2] - extent[:, 1]) / 2
    depth = (extent[:, 1] + extent[:, 2]) / 2
    along = np.abs((p[None, :] - middle[:, None]) / depth[:, None]) ** exponent
    across = np.abs((left[None, :] - axis[:, 1:]) / extent[:, :1]) ** exponent
    total = along.astype(np.float32)[:, :, None] + across.astype(np.float32)[:, None, :]
    np.power(total, 1 / exponent, out=total)
    return total
