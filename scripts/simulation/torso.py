"""The body around a simulated spine: outline, fat, muscle, lungs, heart, organs, gas, airway.

Coordinates are (Inferior, Posterior, Left) mm; see `scripts.simulation.body`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from scripts.geometry.frames import Grid
from scripts.simulation.aorta import AortaOptions, paint_aorta
from scripts.simulation.belly import BellyOptions, paint_belly
from scripts.simulation.body import Body, ellipsoid, grid_axes, normalised_radius
from scripts.simulation.bone import smooth_noise
from scripts.simulation.chest import ChestOptions, paint_chest

AIR_HU, FAT_HU, MUSCLE_HU, GAS_HU = -1000.0, -100.0, 50.0, -950.0


@dataclass(frozen=True)
class TorsoOptions:
    """What the trunk is made of; each pair is the smallest and the largest that is drawn.

    Args:
        gas_loops: loops of bowel with gas or stool.
        gas_mm: half their width.
        wall_mm: thickness of their walls.
        chest: lungs, heart and their vessels.
        belly: organs.
        aorta: thoracic and abdominal.
    """

    gas_loops: tuple[int, int] = (4, 16)
    gas_mm: tuple[float, float] = (6.0, 26.0)
    wall_mm: tuple[float, float] = (1.0, 3.5)
    chest: ChestOptions = field(default_factory=ChestOptions)
    belly: BellyOptions = field(default_factory=BellyOptions)
    aorta: AortaOptions = field(default_factory=AortaOptions)


def paint_torso(body: Body, grid: Grid, rng: np.random.Generator, options: TorsoOptions | None) -> np.ndarray:
    """CT numbers of the body without its bones.

    Args:
        body: outline, rib cage and spine, row by row of the grid.
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
        paint_chest(hu, body, grid, options.chest, rng)
        _paint_airway(hu, body, grid, rng)
        paint_belly(hu, body, grid, options.belly, rng)
        paint_aorta(hu, body, grid, options.aorta, rng)
        for _ in range(rng.integers(options.gas_loops[0], options.gas_loops[1] + 1)):
            _paint_gas(hu, skin, body, grid, options, rng)
        hu[skin >= 1] = AIR_HU
    blurred: np.ndarray = ndimage.gaussian_filter(hu, 0.8 / grid.spacing_mm)
    return blurred


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
