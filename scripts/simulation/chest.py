"""The chest of a simulated body: lungs over a domed diaphragm, heart, vessels at the hila."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import Grid
from scripts.simulation.body import Body, ellipsoid, grid_axes, normalised_radius
from scripts.simulation.bone import smooth_noise

LUNG_HU, HEART_HU = -830.0, 45.0
LUNG_TOP, DIAPHRAGM, LUNG_BOTTOM = 7.3, 16.5, 19.5
# The recess begins below the azygos arch.
RECESS_TOP = 12.0


@dataclass(frozen=True)
class ChestOptions:
    """What is painted; each pair is the smallest and the largest that is drawn.

    Args:
        mediastinum_mm: half its width above the arch of the aorta and behind the heart, on the right and on the left.
        recess_share: of patients whose right lung reaches between heart and spine (azygo-oesophageal recess). Films
            then show the spine's right border, while the aorta hides the left one.
        recess_mm: its depth in front of the bodies, and from the midline to the right: negative beyond the midline.
        hilum_share: of patients whose hilar vessels stand out.
        hilum_mm: their radius.
        vessels: how much denser than air the vessels in the lungs are, as a factor.
        breath_levels: how many levels diaphragm and lung tips lie lower than in quiet breathing.
    """

    mediastinum_mm: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (
        ((24.0, 38.0), (10.0, 28.0)),
        ((26.0, 40.0), (16.0, 36.0)),
    )
    recess_share: float = 0.8
    recess_mm: tuple[tuple[float, float], tuple[float, float]] = ((12.0, 40.0), (-10.0, 12.0))
    hilum_share: float = 0.8
    hilum_mm: tuple[float, float] = (12.0, 22.0)
    vessels: tuple[float, float] = (0.7, 1.8)
    breath_levels: tuple[float, float] = (-1.0, 2.0)


def paint_chest(hu: np.ndarray, body: Body, grid: Grid, options: ChestOptions, rng: np.random.Generator) -> None:
    """Two lungs over a domed diaphragm, with vessels; the heart between them, in place.

    Args:
        hu: (I, P, L) float32.
        body: where the parts of the body are.
        grid: canonical.
        options: what is painted.
        rng: source.
    """
    # A stream of its own: all else stays as it is, whatever is drawn here.
    breath = rng.spawn(1)[0].uniform(*options.breath_levels)
    rows = np.flatnonzero((body.rank > LUNG_TOP) & (body.rank < LUNG_BOTTOM + breath))
    if len(rows) == 0:
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    chest = Body(body.rank[part], body.spine[part], body.axis[part], body.outline[part], body.cage[part])
    here = grid.crop((part.start, 0, 0), (part.stop - part.start, *grid.shape[1:]))
    lung = normalised_radius(chest.axis, chest.cage, here, 2.2) < 1
    lung &= _beside_mediastinum(chest, here, options, rng) & _above_diaphragm(chest, here, breath, rng)
    vessels = smooth_noise(lung.shape, 2.5 / grid.spacing_mm, rng)
    values = 60 * vessels + 350 * np.clip(vessels - 1.6, 0, 2)
    # There is more blood in the bases.
    bases: np.ndarray = np.interp(chest.rank, [10, 17], [0.8, 1.4]).astype(np.float32)
    values *= np.float32(rng.uniform(*options.vessels)) * bases[:, None, None]
    values += LUNG_HU + rng.uniform(-50, 80)
    hu[part][lung] = values[lung].astype(np.float32)
    _paint_heart(hu, body, grid, rng)
    if rng.random() < options.hilum_share:
        _paint_hila(hu, body, grid, options, rng)


def _beside_mediastinum(chest: Body, grid: Grid, options: ChestOptions, rng: np.random.Generator) -> np.ndarray:
    """(I, P, L) bool: where lungs may be."""
    _, p, left = grid_axes(grid)
    l_axis, p_spine = chest.axis[:, 1], chest.spine[:, 0]
    # Wavy borders: hila and heart bulge differently in everyone.
    wave = smooth_noise((len(chest.rank), len(p), 4), 18.0 / grid.spacing_mm, rng)[..., :2]
    right, left_side = (
        np.asarray(np.interp(chest.rank, [9, 13], [rng.uniform(*above), rng.uniform(*below)]))
        for above, below in options.mediastinum_mm
    )
    off_axis = left[None, :] - l_axis[:, None]
    half = np.where(off_axis < 0, right[:, None], left_side[:, None])
    beside = np.abs(off_axis)[:, None, :] > half[:, None, :] + 6 * wave[..., :1]
    # Behind the front of the spine the lungs come close to the vertebrae.
    off_spine = left[None, :] - chest.spine[:, 1:]
    close = np.abs(off_spine)[:, None, :] > (rng.uniform(16, 24) + 3 * wave[..., 1])[:, :, None]
    behind = p[None, :] - p_spine[:, None] > -25
    room = np.where(behind[:, :, None], close, beside)
    if rng.random() < options.recess_share:
        depth, border = (rng.uniform(*pair) for pair in options.recess_mm)
        in_front = (p[None, :] - p_spine[:, None] < -19) & (p[None, :] - p_spine[:, None] > -19 - depth)
        in_front &= chest.rank[:, None] > RECESS_TOP
        room |= in_front[:, :, None] & (-off_spine[:, None, :] > (border + 4 * wave[..., 1])[:, :, None])
    return room


def _above_diaphragm(chest: Body, grid: Grid, breath: float, rng: np.random.Generator) -> np.ndarray:
    """(I, P, L) bool: each side's dome is highest in its middle; the right one stands over the liver."""
    _, p, left = grid_axes(grid)
    deep = np.clip((p[None, :] - chest.spine[:, :1] + 50) / 70, 0, 1)
    dome = DIAPHRAGM + breath + rng.uniform(-1, 1) + (LUNG_BOTTOM - DIAPHRAGM - 1.3) * deep
    middle = chest.axis[:, 1].mean()
    off = (np.abs(left - middle) - 75.0) / 55.0
    # Medially it rises less: in quiet breathing the lungs end at T11 to T12 beside the spine.
    lateral = np.where(off > 0, 1.6, 0.3) * off**2 + np.where(left < middle, -0.4, 0.0)
    return chest.rank[:, None, None] < dome[:, :, None] + lateral


def _paint_heart(hu: np.ndarray, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    row = int(np.abs(body.rank - 14.5).argmin())
    if abs(body.rank[row] - 14.5) >= 1:
        return
    height = grid_axes(grid)[0][row]
    centre = np.array([height, body.spine[row, 0] - rng.uniform(62, 80), body.axis[row, 1] + rng.uniform(10, 32)])
    box, radius = ellipsoid(grid, centre, rng.uniform(0.8, 1.25) * np.array([58, 42, 60]) * rng.uniform(0.9, 1.1, 3))
    hu[box][radius < 1] = HEART_HU


def _paint_hila(hu: np.ndarray, body: Body, grid: Grid, options: ChestOptions, rng: np.random.Generator) -> None:
    """A few balls on each side where the pulmonary vessels enter the lungs."""
    row = int(np.abs(body.rank - 13).argmin())
    if abs(body.rank[row] - 13) >= 1:
        return
    height = grid_axes(grid)[0][row]
    for side in (-1, 1):
        for _ in range(4):
            away = np.array([rng.uniform(-18, 30), -rng.uniform(28, 60), side * rng.uniform(28, 58)])
            centre = np.array([height, body.spine[row, 0], body.axis[row, 1]]) + away
            box, radius = ellipsoid(grid, centre, rng.uniform(*options.hilum_mm) * rng.uniform(0.5, 1.0, 3))
            hu[box][radius < 1] = HEART_HU
