"""Pedicle screws and rods."""

from __future__ import annotations

import itertools

import numpy as np

from scripts.geometry.frames import Grid
from scripts.levels import LEVEL_NUMBERS
from scripts.simulation.posture import Posture
from scripts.simulation.skeleton import BoneField

METAL_HU = 3071.0


def paint_screws(hu: np.ndarray, posture: Posture, grid: Grid, rng: np.random.Generator) -> tuple[int, ...]:
    """Write a construct of screws and two rods over some neighbouring levels into a CT, in place.

    Args:
        hu: (I, P, L) float32.
        posture: the spine's.
        grid: of ``hu``.
        rng: source of what is instrumented.

    Returns:
        the levels that got screws (VerSe numbers); empty if there are fewer than two thoracic or lumbar ones.
    """
    able = [i for i, level in enumerate(posture.levels) if level >= LEVEL_NUMBERS["T4"] and level <= 25]
    if len(able) < 2:
        return ()
    count = int(rng.integers(2, min(len(able), 8) + 1))
    first = int(rng.integers(0, len(able) - count + 1))
    chosen = able[first : first + count]
    field, frames = BoneField(grid), posture.frames()
    for side in (-1.0, 1.0):
        heads = []
        for i in chosen:
            half = 9.0 + 0.35 * (posture.levels[i] - 8)
            entry = posture.centroids[i] + frames[i] @ np.array([-5.0, 36.0, side * (half + 6)])
            tip = posture.centroids[i] + frames[i] @ np.array([-3.0, -10.0, side * 0.45 * half])
            field.add(entry + np.linspace(0, 1, 40)[:, None] * (tip - entry), rng.uniform(2.2, 3.0))
            heads.append(entry)
        field.add(np.array(heads), 6.0)
        for a, b in itertools.pairwise(heads):
            field.add(a + np.linspace(0, 1, 24)[:, None] * (b - a), 2.75)
    hu[field.distance < 0] = METAL_HU
    return tuple(posture.levels[i] for i in chosen)
