"""Organs of the belly, whose borders films show beside the spine: liver, spleen, kidneys, stomach, psoas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import Grid
from scripts.simulation.body import Body, ellipsoid, grid_axes

FAT_HU = -100.0


@dataclass(frozen=True)
class BellyOptions:
    """What is painted; each pair is the smallest and the largest that is drawn.

    Args:
        organ_share: of patients with liver, spleen and kidneys in fat; in the others they do not stand out.
        organ_hu: CT number of liver, spleen, kidneys and muscle.
        psoas_share: of patients whose psoas stands out.
    """

    organ_share: float = 0.7
    organ_hu: tuple[float, float] = (25.0, 70.0)
    psoas_share: float = 0.7


def paint_belly(hu: np.ndarray, body: Body, grid: Grid, options: BellyOptions, rng: np.random.Generator) -> None:
    """Organs, in place.

    Args:
        hu: (I, P, L) float32.
        body: where the parts of the body are.
        grid: canonical.
        options: what is painted.
        rng: source.
    """
    if rng.random() < options.organ_share:
        _paint_organs(hu, body, grid, options, rng)
    if rng.random() < options.psoas_share:
        _paint_psoas(hu, body, grid, rng.uniform(*options.organ_hu), rng)


def _paint_organs(hu: np.ndarray, body: Body, grid: Grid, options: BellyOptions, rng: np.random.Generator) -> None:
    """Ellipsoids by level, in front of and beside the spine, each in a coat of fat."""
    # Level rank, side (+ left) and depth as shares of the outline, radii in mm along I, P, L; negative depth is behind.
    table = [
        (18.5, -0.5, 0.30, (75, 75, 80)),  # liver
        (18.5, 0.62, 0.00, (50, 40, 32)),  # spleen
        (20.8, -0.38, 0.02, (55, 28, 27)),  # right kidney
        (20.4, 0.38, 0.02, (55, 28, 27)),  # left kidney
        (19.0, 0.25, 0.45, (45, 45, 55)),  # stomach
    ]
    for rank, side, forward, size in table:
        row = int(np.abs(body.rank - rank).argmin())
        if abs(body.rank[row] - rank) > 3:
            continue
        heights, pitch = grid_axes(grid)[0], 30.0
        middle = np.array([
            heights[row] + (rank - body.rank[row] + rng.normal(0, 0.4)) * pitch,
            body.axis[row, 0] - (forward + rng.normal(0, 0.05)) * body.outline[row, 1],
            body.axis[row, 1] + (side + rng.normal(0, 0.04)) * body.outline[row, 0],
        ])  # fmt: skip
        radii = np.array(size) * rng.uniform(0.8, 1.2, 3)
        for grown, value in ((rng.uniform(2, 12), FAT_HU), (0.0, rng.uniform(*options.organ_hu))):
            box, away = ellipsoid(grid, middle, radii + grown)
            part = hu[box]
            # Where there is no lung.
            part[(away < 1) & (part > -400)] = value


def _paint_psoas(hu: np.ndarray, body: Body, grid: Grid, value: float, rng: np.random.Generator) -> None:
    """Two muscles beside the bodies of T12 to L5 and on into the pelvis, wider from level to level, edged with fat."""
    _, p, left = grid_axes(grid)
    thick = rng.uniform(0.8, 1.3)
    for row in np.flatnonzero((body.rank > 19.5) & (body.rank < 28)):
        share = np.clip((body.rank[row] - 19.5) / 4.5, 0, 1)
        radius = thick * (6 + 16 * share)
        for side in (-1, 1):
            beside = body.spine[row, 1] + side * (22 + 18 * share + 12 * max(body.rank[row] - 24, 0))
            squared = ((p - body.spine[row, 0] + 14 * max(body.rank[row] - 23, 0)) / (1.2 * radius))[:, None] ** 2
            squared = squared + ((left - beside) / radius) ** 2
            hu[row][(squared < 1.25) & (hu[row] > -400)] = FAT_HU
            hu[row][squared < 1] = value
