"""The average vertebra of a level: mean signed distance over the library's subjects, in the vertebra's own frame.

Every subject takes part at the size of the average person, and with its mirror image, so that the average is
symmetric; idealised subjects count less (``shapes.SUBJECT_WEIGHTS``). The frame is the library's: origin at the body's
centroid, axes down the spine, backwards, left. As an array it lies as a vertebra lies in its cube
(``scripts.geometry.cropping``): the body's centroid at ``NOMINAL_CENTROID``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from scripts.data.simulation.shapes import (
    SHAPE_SPACING_MM,
    SUBJECT_WEIGHTS,
    VertebraShape,
    shape_subjects,
    shapes_of_level,
)
from scripts.data.simulation.spine import subject_size
from scripts.errors import UserError
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID
from scripts.levels import level_name

# Distances further out say nothing about the surface.
REACH_MM = 12.0


@cache
def average_signed_distance(number: int, spacing_mm: float = 1.0, without: tuple[str, ...] = ()) -> np.ndarray:
    """The average vertebra on the grid of a vertebra's cube.

    Args:
        number: VerSe number; T13 and L6 borrow from their neighbours.
        spacing_mm: voxel size; it must divide 120 mm.
        without: subjects that take no part, such as the one that is judged.

    Returns:
        (n, n, n) float32 mm along I, P, L with n = 120 / spacing, negative inside, within +-12; read-only.

    Raises:
        UserError: nobody else in the library has the level, or the spacing does not divide the cube.
    """
    distance = mean_signed_distance(number, cube_points(spacing_mm), without)
    distance.setflags(write=False)
    return distance


def average_occupancy(
    number: int, spacing_mm: float = 1.0, without: tuple[str, ...] = (), softness_mm: float = 1.5
) -> np.ndarray:
    """The average vertebra as a share of 1: ``sigmoid(-signed distance / softness)``; see `average_signed_distance`."""
    return 1 / (1 + np.exp(average_signed_distance(number, spacing_mm, without) / softness_mm))


def mean_signed_distance(number: int, points_mm: np.ndarray, without: tuple[str, ...] = ()) -> np.ndarray:
    """The average vertebra at any points.

    Args:
        number: VerSe number.
        points_mm: (..., 3) of its own frame, at the size of the average person.
        without: subjects that take no part.

    Returns:
        (...) float32 mm, negative inside, within +-12.

    Raises:
        UserError: nobody else in the library has the level.
    """
    shapes = shapes_of_level(number, tuple(s for s in shape_subjects() if s not in without))
    if not shapes:
        raise UserError(f"no shape of {level_name(number)} is left for an average")
    mirrored = points_mm * np.array([1.0, 1.0, -1.0])
    total, weights = np.zeros(points_mm.shape[:-1]), 0.0
    for shape in shapes:
        weight = SUBJECT_WEIGHTS.get(shape.subject, 1.0)
        size = subject_size(shape.subject)
        for points in (points_mm, mirrored):
            total += weight * np.clip(size_free_distance(shape, points, size), -REACH_MM, REACH_MM)
            weights += weight
    return (total / weights).astype(np.float32)


def size_free_distance(shape: VertebraShape, points_mm: np.ndarray, size: float) -> np.ndarray:
    """Signed distance of a shape that is made ``size`` times smaller, at points (..., 3) of its own frame, in mm."""
    index = points_mm * (size / SHAPE_SPACING_MM) + np.array(shape.origin)
    nearest = np.clip(index, 0, np.array(shape.signed_distance.shape) - 1)
    inside = ndimage.map_coordinates(
        shape.signed_distance, np.moveaxis(nearest, -1, 0), order=1, mode="nearest", prefilter=False
    )
    # Outside its box a shape has no distances: that of the box's nearest point and the way to there.
    return (inside + np.linalg.norm(index - nearest, axis=-1) * SHAPE_SPACING_MM) / size


def cube_points(spacing_mm: float) -> np.ndarray:
    """Voxel centres (n, n, n, 3) of a vertebra's cube in mm from its body's centroid, along I, P, L."""
    count = round(CUBE_SIZE / spacing_mm)
    if abs(count * spacing_mm - CUBE_SIZE) > 1e-6:
        raise UserError(f"a spacing of {spacing_mm} mm does not divide the vertebra's cube of {CUBE_SIZE} mm")
    # Coarser voxels cover whole finer ones, so their centres lie between those of the 1 mm grid.
    steps = (np.arange(count) + 0.5) * spacing_mm - 0.5
    return np.stack(np.meshgrid(*(steps - c for c in NOMINAL_CENTROID), indexing="ij"), -1)
