"""Radiographs of spines of which only the shape is known: masks and surfaces without a CT.

Vertebrae get a dense shell and a lighter core, ribs and soft tissue are painted around them, and the body's changing
thickness is added to the films as smooth shadows. It looks simpler than a real film, so painted patients should stay
a minority in training; their items say ``painted`` in their source.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.geometry.frames import Grid

TISSUE_HU, RIB_HU = 40.0, 350.0
FIRST_RIB_LEVEL, LAST_RIB_LEVEL = 8, 19


def paint_ct(labels: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """CT numbers around a labelmap: a block of soft tissue with the spine and the beginnings of the ribs in it.

    Args:
        labels: (I, P, L) uint8, VerSe numbers, on ``grid``.
        grid: canonical, of about 1 mm.
        rng: source of densities.

    Returns:
        (I, P, L) float32 HU.
    """
    hu = np.full(labels.shape, TISSUE_HU, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None and FIRST_RIB_LEVEL <= number <= LAST_RIB_LEVEL:
            index = np.argwhere(labels[box] == number) + [s.start for s in box]
            _paint_ribs(hu, index.mean(0), rng)
    bone = labels > 0
    depth = np.clip(ndimage.distance_transform_edt(bone) * grid.spacing_mm / rng.uniform(1.5, 3.0), 0, 1)
    grain = ndimage.gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), 1.5)
    core = rng.uniform(100, 250) + 250 * grain
    shell = rng.uniform(400, 800)
    return np.where(bone, shell + (core - shell) * depth, hu).astype(np.float32)


def paint_background(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film with the shadows of a body that is not there: thickness, lung and diaphragm edges, some texture.

    Args:
        film: (rows, columns) line integrals.
        rng: source of the shadows.

    Returns:
        likewise, float32.
    """

    def field(sigma: float, amplitude: float) -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal(film.shape), sigma, mode="reflect")
        return amplitude * noise / max(float(noise.std()), 1e-6)

    shadow = field(60, rng.uniform(0.2, 0.6)) + field(20, rng.uniform(0.05, 0.2)) + field(4, rng.uniform(0.0, 0.03))
    # Organs have edges: a smooth field cut at a level and slightly blurred.
    for _ in range(rng.integers(1, 4)):
        edge = ndimage.gaussian_filter((field(45, 1.0) > rng.uniform(-0.5, 0.8)).astype(float), rng.uniform(1, 3))
        shadow += rng.uniform(-0.9, 0.5) * edge
    total = film + shadow
    return (total - min(float(total.min()), 0.0)).astype(np.float32)


def _paint_ribs(hu: np.ndarray, vertebra: np.ndarray, rng: np.random.Generator) -> None:
    """A rib's first centimetres on either side: outwards, backwards and down from beside the body."""
    radius, steps = rng.uniform(3.5, 5.0), np.linspace(0, 1, 80)
    down, back = rng.uniform(10, 35), rng.uniform(10, 25)
    for side in (-1.0, 1.0):
        path = vertebra + np.stack(
            [-6 + down * steps, -8 + back * np.sin(np.pi * 0.6 * steps), side * (18 + 60 * steps)], axis=1
        )
        for point in path:
            low = np.maximum(np.floor(point - radius).astype(int), 0)
            high = np.minimum(np.ceil(point + radius).astype(int) + 1, hu.shape)
            if np.any(high <= low):
                continue
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            offsets = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
            near = sum((o - p) ** 2 for o, p in zip(offsets, point, strict=True)) < radius**2
            hu[box][near] = RIB_HU
