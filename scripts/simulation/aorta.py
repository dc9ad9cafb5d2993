"""The aorta: over the left main bronchus, down beside the thoracic bodies, in front of the lumbar ones.

Films show it as a band beside the thoracic spine, which is as dense as the vertebrae and hides one of their borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import Grid
from scripts.simulation.body import Body, fill_balls, grid_axes
from scripts.simulation.bone import smooth_noise

# Level rank (T1 = 8); degrees from the left towards the front at which the vessel lies beside a body; the body's
# radius there, mm. On the left at T5, in front from T12 on (Gray's Anatomy, "descending thoracic aorta").
COURSE = np.array([[11.5, 15, 15], [14, 25, 16], [17, 40, 17], [19, 70, 16], [21, 80, 17], [24, 88, 18]])
ARCH, END = 11.5, 23.6
# The arch and the ascending part: mm from T4's body, down, back and left.
ARCH_MM = np.array([[-10, -12, 24], [-17, -32, 14], [-14, -52, -4], [4, -62, -14], [34, -62, -16], [62, -58, -8]])
WALL_ANGLES = 64


@dataclass(frozen=True)
class AortaOptions:
    """What is painted; each pair is the smallest and the largest that is drawn.

    Args:
        radius_mm: of the abdominal part.
        thoracic: how much wider the thoracic part is.
        aside_deg: by how much it lies further to the left or to the front than in most people.
        gap_mm: between it and the bodies.
        calcified_share: of patients with calcified walls.
        calcified_hu: CT number of plaques.
        plaque_share: of the wall that they cover.
    """

    radius_mm: tuple[float, float] = (8.0, 12.0)
    thoracic: tuple[float, float] = (1.1, 1.5)
    aside_deg: tuple[float, float] = (-25.0, 30.0)
    gap_mm: tuple[float, float] = (1.0, 6.0)
    calcified_share: float = 0.4
    calcified_hu: tuple[float, float] = (300.0, 1100.0)
    plaque_share: tuple[float, float] = (0.03, 0.35)


def paint_aorta(
    hu: np.ndarray,
    body: Body,
    grid: Grid,
    options: AortaOptions,
    rng: np.random.Generator,
    blood_hu: float | None = None,
) -> None:
    """The vessel with plaques in its wall, in place.

    Args:
        hu: (I, P, L) float32.
        body: where the parts of the body are.
        grid: canonical.
        options: what is painted.
        rng: source.
        blood_hu: CT number of the blood, with contrast agent; drawn if None.
    """
    radius, value = rng.uniform(*options.radius_mm), rng.uniform(30, 60)
    value = value if blood_hu is None else blood_hu
    wide, turned, gap = rng.uniform(*options.thoracic), rng.uniform(*options.aside_deg), rng.uniform(*options.gap_mm)
    rows, p, left = grid_axes(grid)
    # It winds more in the old.
    wander = rng.uniform(0, 8) * np.sin(rows / rng.uniform(25, 60) + rng.uniform(0, 6.3))
    radii = np.asarray(np.interp(body.rank, [ARCH, 18, 20, END], [wide, wide, 1.0, 0.9])) * radius
    angle = np.deg2rad(np.interp(body.rank, COURSE[:, 0], COURSE[:, 1]) + turned * _free(body.rank))
    away = np.interp(body.rank, COURSE[:, 0], COURSE[:, 2]) + gap + radii
    middle = body.spine + np.stack([-np.sin(angle) * away, np.cos(angle) * away + wander], 1)
    _paint_arch(hu, body, grid, radius * wide, value)
    here = np.flatnonzero((body.rank > ARCH) & (body.rank < END))
    if len(here) == 0:
        return
    calcified, plaque = rng.random() < options.calcified_share, rng.uniform(*options.calcified_hu)
    covered, reach = rng.uniform(*options.plaque_share), rng.uniform(0.8, 1.8)
    wall = smooth_noise((len(here), WALL_ANGLES, 3), 4.0 / grid.spacing_mm, rng)[..., 0]
    chalk = wall > np.quantile(wall, 1 - covered)
    for k, row in enumerate(here):
        across, along = (left - middle[row, 1])[None, :], (p - middle[row, 0])[:, None]
        distance = np.sqrt(across**2 + along**2)
        hu[row][distance < radii[row]] = value
        if calcified:
            turn = np.floor((np.arctan2(along, across) / (2 * np.pi) + 0.5) * WALL_ANGLES).astype(int) % WALL_ANGLES
            hu[row][(np.abs(distance - radii[row]) < reach) & chalk[k][turn]] = plaque


def _free(rank: np.ndarray) -> np.ndarray:
    """How freely it lies: wholly in the chest, hardly at the diaphragm and below."""
    return np.asarray(np.interp(rank, [17, 19.5], [1.0, 0.2]))


def _paint_arch(hu: np.ndarray, body: Body, grid: Grid, radius: float, value: float) -> None:
    """Balls along the arch, where T4 and T5 are in the grid."""
    row = int(np.abs(body.rank - ARCH).argmin())
    if abs(body.rank[row] - ARCH) > 0.5:
        return
    path = np.array([grid_axes(grid)[0][row], *body.spine[row]]) + ARCH_MM
    steps = np.linspace(0, len(path) - 1, 40)
    way = np.stack([np.interp(steps, np.arange(len(path)), path[:, k]) for k in range(3)], 1)
    fill_balls(hu, grid, way, radius, value)
