"""Contrast agent: vessels and heart of many CTs are as dense as bone, or denser.

Radiographs show nothing of it, but films made from such CTs do: a bright aorta beside the spine, a bright vena cava.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import Grid
from scripts.simulation.aorta import AortaOptions, paint_aorta
from scripts.simulation.body import Body, build_body, ellipsoid, fill_balls, grid_axes
from scripts.simulation.posture import Posture

# What is denser is bone or metal, and stays.
DENSEST_HU = 130.0
HEART_RANK = 14.5
# Of the heart's middle from the spine, and of its chambers from there: mm down, back and left, and their radius.
HEART_MM = (0.0, -70.0, 20.0)
CHAMBERS = (((-14.0, 22.0, -4.0), 24.0), ((14.0, -4.0, 24.0), 26.0))
RIGHT_CHAMBERS = (((8.0, -4.0, -34.0), 24.0), ((26.0, -22.0, 0.0), 24.0))
# Level rank, and mm back and left of the spine: from an arm along the clavicle, then down to the right atrium.
VEIN_RANKS = (8.2, 8.7, 9.6, 11.5, 13.5)
VEIN_MM = ((-25.0, 110.0), (-38.0, 55.0), (-50.0, -20.0), (-52.0, -27.0), (-60.0, -26.0))


@dataclass(frozen=True)
class ContrastOptions:
    """What is painted; each pair is the smallest and the largest that is drawn.

    Args:
        share: of patients.
        arteries_hu: CT number of the aorta and the left heart.
        veins_hu: of the veins between the arm and the right heart.
        veins_share: of these patients in whom the agent is still in them.
        heart_share: of these patients in whom the heart is as dense as its vessels.
        vein_mm: radius of the veins.
    """

    share: float = 0.4
    arteries_hu: tuple[float, float] = (110.0, 450.0)
    veins_hu: tuple[float, float] = (150.0, 1200.0)
    veins_share: float = 0.5
    heart_share: float = 0.8
    vein_mm: tuple[float, float] = (5.0, 10.0)


def add_contrast(
    hu: np.ndarray,
    grid: Grid,
    levels: Sequence[int],
    centroids: np.ndarray,
    rng: np.random.Generator,
    options: ContrastOptions | None = None,
) -> np.ndarray:
    """A real CT with contrast agent where vessels and heart are in most people.

    Args:
        hu: (I, P, L) int16.
        grid: of it.
        levels: VerSe numbers of two vertebrae or more, head to foot.
        centroids: (N, 3) mm along I, P, L, in the grid's frame (`grid_axes`).
        rng: source.
        options: how dense it is.

    Returns:
        another (I, P, L) int16.
    """
    body = build_body(Posture(tuple(levels), centroids, np.zeros(len(levels)), 0.0), grid, rng)
    painted: np.ndarray = hu.astype(np.float32)
    paint_contrast(painted, body, grid, AortaOptions(calcified_share=0.0), options or ContrastOptions(), rng)
    return painted.astype(np.int16)


def paint_contrast(
    hu: np.ndarray, body: Body, grid: Grid, aorta: AortaOptions, options: ContrastOptions, rng: np.random.Generator
) -> None:
    """Contrast agent in a patient, in place.

    Args:
        hu: (I, P, L) float32.
        body: where the parts of the body are.
        grid: canonical.
        aorta: how it may run.
        options: what is painted.
        rng: source.
    """
    dense = hu > DENSEST_HU
    before = hu[dense]
    arteries = rng.uniform(*options.arteries_hu)
    paint_aorta(hu, body, grid, aorta, rng, blood_hu=arteries)
    veins = rng.uniform(*options.veins_hu) if rng.random() < options.veins_share else None
    if rng.random() < options.heart_share:
        right = arteries if veins is None else min(veins, 500.0)
        _paint_heart(hu, body, grid, arteries, right, rng)
    if veins is not None:
        _paint_veins(hu, body, grid, veins, rng.uniform(*options.vein_mm), rng)
    hu[dense] = before


def _paint_heart(
    hu: np.ndarray, body: Body, grid: Grid, left_hu: float, right_hu: float, rng: np.random.Generator
) -> None:
    row = int(np.abs(body.rank - HEART_RANK).argmin())
    if abs(body.rank[row] - HEART_RANK) >= 1:
        return
    middle = np.array([grid_axes(grid)[0][row], body.spine[row, 0], body.axis[row, 1]])
    middle = middle + HEART_MM + rng.normal(0, 6, 3)
    for chambers, value in ((CHAMBERS, left_hu), (RIGHT_CHAMBERS, right_hu)):
        for away, radius in chambers:
            centre = middle + away + rng.normal(0, 4, 3)
            box, normalised = ellipsoid(grid, centre, radius * rng.uniform(0.7, 1.3, 3))
            hu[box][normalised < 1] = value


def _paint_veins(hu: np.ndarray, body: Body, grid: Grid, value: float, radius: float, rng: np.random.Generator) -> None:
    """Balls along the way, as far as it lies in the grid; from either arm."""
    away = np.array(VEIN_MM) + rng.normal(0, 4, (len(VEIN_RANKS), 2))
    if rng.random() < 0.5:
        away[:2, 1] *= -1
    at, places = np.linspace(0, len(VEIN_RANKS) - 1, 60), np.arange(len(VEIN_RANKS))
    rank = np.interp(at, places, VEIN_RANKS)
    order = np.argsort(body.rank)
    spine = [np.interp(rank, body.rank[order], line[order]) for line in (grid_axes(grid)[0], *body.spine.T)]
    way = np.stack(spine, 1)
    way[:, 1:] += np.stack([np.interp(at, places, away[:, axis]) for axis in (0, 1)], 1)
    in_grid = (rank >= body.rank.min()) & (rank <= body.rank.max())
    fill_balls(hu, grid, way[in_grid], radius, value)
