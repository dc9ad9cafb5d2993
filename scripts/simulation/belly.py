"""Organs and vessels of the belly, whose borders films show beside the spine: liver, spleen, kidneys, psoas, aorta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import Grid
from scripts.simulation.body import Body, grid_axes
from scripts.simulation.bone import smooth_noise

FAT_HU = -100.0


@dataclass(frozen=True)
class BellyOptions:
    """What is painted; each pair is the smallest and the largest that is drawn.

    Args:
        organ_share: of patients with liver, spleen and kidneys in fat; in the others they do not stand out.
        organ_hu: CT number of liver, spleen, kidneys and muscle.
        psoas_share: of patients whose psoas stands out.
        aorta_mm: radius of the aorta.
        calcified_share: of patients with calcified walls.
        calcified_hu: CT number of plaques.
        plaque_share: of the wall that they cover.
    """

    organ_share: float = 0.7
    organ_hu: tuple[float, float] = (25.0, 70.0)
    psoas_share: float = 0.7
    aorta_mm: tuple[float, float] = (8.0, 14.0)
    calcified_share: float = 0.4
    calcified_hu: tuple[float, float] = (300.0, 1100.0)
    plaque_share: tuple[float, float] = (0.03, 0.35)


def paint_belly(hu: np.ndarray, body: Body, grid: Grid, options: BellyOptions, rng: np.random.Generator) -> None:
    """Organs and vessels, in place.

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
    _paint_aorta(hu, body, grid, options, rng)


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
            _fill_ellipsoid(hu, grid, middle, radii + grown, value)


def _fill_ellipsoid(hu: np.ndarray, grid: Grid, middle: np.ndarray, radii: np.ndarray, value: float) -> None:
    """Where there is no lung."""
    box, squares = [], []
    for axis, centre, radius in zip(grid_axes(grid), middle, radii, strict=True):
        inside = np.flatnonzero(np.abs(axis - centre) <= radius)
        if len(inside) == 0:
            return
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
        squares.append(((axis[box[-1]] - centre) / radius) ** 2)
    part = hu[tuple(box)]
    within = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :] < 1
    part[within & (part > -400)] = value


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


def _paint_aorta(hu: np.ndarray, body: Body, grid: Grid, options: BellyOptions, rng: np.random.Generator) -> None:
    """In front of the bodies and a little to the left, from T5 to L4; plaques in its wall."""
    rows, p, left = grid_axes(grid)
    here = np.flatnonzero((body.rank > 12) & (body.rank < 23.6))
    if len(here) == 0:
        return
    radius, value = rng.uniform(*options.aorta_mm), rng.uniform(30, 60)
    calcified, plaque = rng.random() < options.calcified_share, rng.uniform(*options.calcified_hu)
    covered, reach = rng.uniform(*options.plaque_share), rng.uniform(0.8, 1.8)
    angles = 64
    wall = smooth_noise((len(here), angles, 3), 4.0 / grid.spacing_mm, rng)[..., 0]
    chalk = wall > np.quantile(wall, 1 - covered)
    # It winds more in the old.
    wander = rng.uniform(0, 10) * np.sin(rows / rng.uniform(25, 60) + rng.uniform(0, 6.3))
    for k, row in enumerate(here):
        half = np.interp(body.rank[row], [12, 19, 24], [12, 15, 17])
        middle_p = body.spine[row, 0] - half - radius - 2
        middle_l = body.spine[row, 1] + np.interp(body.rank[row], [12, 19, 23], [20, 10, 4]) + wander[row]
        across, along = (left - middle_l)[None, :], (p - middle_p)[:, None]
        away = np.sqrt(across**2 + along**2)
        hu[row][away < radius] = value
        if calcified:
            turn = np.floor((np.arctan2(along, across) / (2 * np.pi) + 0.5) * angles).astype(int) % angles
            hu[row][(np.abs(away - radius) < reach) & chalk[k][turn]] = plaque
