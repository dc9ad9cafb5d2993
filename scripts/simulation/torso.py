"""The body around a simulated spine: outline, fat, muscle, lungs, heart, organs, gas, airway.

Coordinates are (Inferior, Posterior, Left) mm; see `scripts.simulation.body`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from scripts.geometry.frames import Grid
from scripts.simulation.belly import BellyOptions, paint_belly
from scripts.simulation.body import Body, grid_axes, normalised_radius
from scripts.simulation.bone import smooth_noise

AIR_HU, FAT_HU, MUSCLE_HU, LUNG_HU, GAS_HU = -1000.0, -100.0, 50.0, -830.0, -950.0

LUNG_TOP, DIAPHRAGM, LUNG_BOTTOM = 7.3, 16.5, 19.5


@dataclass(frozen=True)
class TorsoOptions:
    """What the trunk is made of; each pair is the smallest and the largest that is drawn.

    Args:
        gas_loops: loops of bowel with gas or stool.
        gas_mm: half their width.
        wall_mm: thickness of their walls.
        belly: organs and vessels.
    """

    gas_loops: tuple[int, int] = (4, 16)
    gas_mm: tuple[float, float] = (6.0, 26.0)
    wall_mm: tuple[float, float] = (1.0, 3.5)
    belly: BellyOptions = field(default_factory=BellyOptions)


def paint_torso(body: Body, grid: Grid, rng: np.random.Generator, options: TorsoOptions | None) -> np.ndarray:
    """CT numbers of the body without its bones.

    Args:
        body: see `build_body`.
        grid: canonical.
        rng: source of organs and texture.
        options: of lungs, heart, organs, vessels, gas and airway; None for fat and muscle alone.

    Returns:
        (I, P, L) float32 HU.
    """
    skin = normalised_radius(body.axis, body.outline, grid, 2.6)
    fat_share = rng.uniform(0.05, 0.2)
    cavity = normalised_radius(body.axis, np.maximum(body.outline - [30, 26, 45], 8.0), grid, 2.4)
    clumps = smooth_noise(skin.shape, 7.0 / grid.spacing_mm, rng)
    # Organs among fat inside; streaks of fat between the muscles outside.
    organ_share = rng.uniform(-0.6, 0.3)
    wet = np.where(cavity < 1, clumps - organ_share, clumps + 1.3)
    wet[body.rank < 8] = clumps[body.rank < 8] + 1.0
    soft = FAT_HU + (MUSCLE_HU - FAT_HU) * np.clip(0.5 + 1.5 * wet, 0, 1)
    del cavity, clumps, wet
    hu = np.where(skin < 1, np.where(skin > 1 - fat_share, FAT_HU, soft), AIR_HU).astype(np.float32)
    del soft
    if options is not None:
        _paint_chest(hu, body, grid, rng)
        _paint_airway(hu, body, grid, rng)
        paint_belly(hu, body, grid, options.belly, rng)
        for _ in range(rng.integers(options.gas_loops[0], options.gas_loops[1] + 1)):
            _paint_gas(hu, skin, body, grid, options, rng)
        hu[skin >= 1] = AIR_HU
    blurred: np.ndarray = ndimage.gaussian_filter(hu, 0.8 / grid.spacing_mm)
    return blurred


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


def _paint_chest(hu: np.ndarray, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    """Two lungs over a domed diaphragm, with vessels; the heart between them."""
    rows = np.flatnonzero((body.rank > LUNG_TOP) & (body.rank < LUNG_BOTTOM))
    if len(rows) == 0:
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    rank = body.rank[part]
    inner = normalised_radius(body.axis[part], body.cage[part], _rows(grid, part), 2.2)
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


def _paint_gas(
    hu: np.ndarray, skin: np.ndarray, body: Body, grid: Grid, options: TorsoOptions, rng: np.random.Generator
) -> None:
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
    radius, wall = rng.uniform(*options.gas_mm), rng.uniform(*options.wall_mm)
    blobs = []
    for _ in range(rng.integers(2, 9)):
        blobs.append((centre, radius * rng.uniform(0.8, 1.3, 3)))
        heading = 0.6 * heading + rng.normal(size=3)
        centre = centre + radius * heading / np.linalg.norm(heading)
    # All walls first: blobs of one loop open into one another.
    for grown, number in ((wall, rng.uniform(20, 80)), (0.0, value)):
        for middle, radii in blobs:
            box, inside = ellipsoid(grid, middle, radii + grown)
            # Bowel ends before the skin does.
            hu[box][(inside < 1) & (skin[box] < 0.88)] = number


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _rows(grid: Grid, part: slice) -> Grid:
    return grid.crop((part.start, 0, 0), (part.stop - part.start, *grid.shape[1:]))
