"""How ``scripts/anatomy/mean_shapes.npz`` is made from the shape library; not needed to use it.

    python -m scripts.simulation.build_mean_shapes [--without verse083]

Two rounds of a Procrustes mean: the shapes of a level are laid onto their mean by place, turn and three stretches
(`scripts.simulation.shape_fit`), and averaged as signed distances, each with its mirror image. The first mean is
the average vertebra.
"""

from __future__ import annotations

import numpy as np
import torch

from scripts.anatomy.average import average_signed_distance, cube_points, sample_lattice, size_free_distance
from scripts.anatomy.mean_shapes import MEAN_SHAPES_FILE, REACH_MM, to_bytes
from scripts.anatomy.shapes import (
    SHAPE_SPACING_MM,
    SUBJECT_WEIGHTS,
    VertebraShape,
    shape_subjects,
    shapes_of_level,
)
from scripts.command import run_module
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID
from scripts.io.atomic import atomic_file
from scripts.levels import LEVEL_ORDER, level_name
from scripts.simulation.shape_fit import AffineFit, fit_affine

SPACING_MM = 2.0
# Around the mean's surface, for fits.
MARGIN_MM = 5.0


def mean_shape(number: int, subjects: tuple[str, ...]) -> np.ndarray:
    """The mean shape of a level.

    Args:
        number: VerSe number.
        subjects: of the library.

    Returns:
        (60, 60, 60) float32 signed distance in mm on voxels of 2 mm of the vertebra's cube, along I, P, L.
    """
    shapes = shapes_of_level(number, subjects)
    without = tuple(s for s in shape_subjects() if s not in subjects)
    mean = average_signed_distance(number, 1.0, without)
    for spacing_mm in (1.0, SPACING_MM):
        target = _as_shape(mean, number)
        mean = _mean_of(shapes, [fit_affine(shape, target) for shape in shapes], spacing_mm)
    return mean


def _mean_of(shapes: list[VertebraShape], fits: list[AffineFit], spacing_mm: float) -> np.ndarray:
    points = cube_points(spacing_mm)
    total, weights = np.zeros(points.shape[:3]), 0.0
    for shape, fit in zip(shapes, fits, strict=True):
        weight = SUBJECT_WEIGHTS.get(shape.subject, 1.0)
        distance = size_free_distance(shape, fit.to_source(points), 1.0) * np.exp(fit.stretch.mean())
        total += weight * np.clip(distance, -REACH_MM, REACH_MM)
        weights += weight
    return ((total + total[:, :, ::-1]) / (2 * weights)).astype(np.float32)


def _as_shape(distance: np.ndarray, number: int) -> VertebraShape:
    """A signed distance on the cube's 1 mm grid as a shape of the library."""
    lines = [np.arange(0, CUBE_SIZE, SHAPE_SPACING_MM)] * 3
    fine, _ = sample_lattice(distance, lines)
    near = np.argwhere(fine < MARGIN_MM)
    low, high = near.min(0), near.max(0) + 1
    box = fine[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    origin = np.array(NOMINAL_CENTROID) / SHAPE_SPACING_MM - low
    return VertebraShape("mean", number, box, (float(origin[0]), float(origin[1]), float(origin[2])), 0.0, "")


def main(without: tuple[str, ...] = ()) -> None:
    """Make the file.

    Args:
        without: subjects that take no part, such as test patients, comma-separated.
    """
    subjects = tuple(s for s in shape_subjects() if s not in without)
    shapes = []
    for number in LEVEL_ORDER:
        shapes.append(to_bytes(torch.from_numpy(mean_shape(number, subjects))).numpy())
        print(level_name(number), flush=True)
    with atomic_file(MEAN_SHAPES_FILE) as stream:
        np.savez_compressed(stream.buffer, numbers=np.array(LEVEL_ORDER, np.uint8), shapes=np.stack(shapes))


if __name__ == "__main__":
    run_module(main)
