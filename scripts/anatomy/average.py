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

from scripts.anatomy.mean_shapes import REACH_MM
from scripts.anatomy.shapes import (
    SHAPE_SPACING_MM,
    SUBJECT_WEIGHTS,
    VertebraShape,
    shape_subjects,
    shapes_of_level,
)
from scripts.anatomy.sizes import subject_size
from scripts.errors import UserError
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID
from scripts.levels import level_name


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
        UserError: no other subject in the library has the level, or the spacing does not divide the cube.

    >>> average = average_signed_distance(11, 4.0)  # T4
    >>> average.shape, int(((average < 0).sum() * 4.0**3) / 1000)  # cm3
    ((30, 30, 30), 18)
    """
    shapes = shapes_of_level(number, tuple(s for s in shape_subjects() if s not in without))
    if not shapes:
        raise UserError(f"no shape of {level_name(number)} is left for an average")
    axes = _axes(spacing_mm)
    total, weights = np.zeros([len(axis) for axis in axes]), 0.0
    for shape in shapes:
        weight = SUBJECT_WEIGHTS.get(shape.subject, 1.0)
        total += weight * np.clip(_on_lattice(shape, axes, subject_size(shape.subject)), -REACH_MM, REACH_MM)
        weights += weight
    # The grid lies symmetrically about the median plane: the mirror images are its own.
    distance = ((total + total[:, :, ::-1]) / (2 * weights)).astype(np.float32)
    distance.setflags(write=False)
    return distance


def average_occupancy(
    number: int, spacing_mm: float = 1.0, without: tuple[str, ...] = (), softness_mm: float = 1.5
) -> np.ndarray:
    """The average vertebra as a share of 1: ``sigmoid(-signed distance / softness)``.

    Args:
        number: VerSe number.
        spacing_mm: edge of a voxel.
        without: subjects that take no part.
        softness_mm: how far the surface is spread.

    Returns:
        the cube in the vertebra's own frame (I, P, L), 120 mm wide.
    """
    return 1 / (1 + np.exp(average_signed_distance(number, spacing_mm, without) / softness_mm))


def average_at(number: int, points_mm: np.ndarray, without: tuple[str, ...] = ()) -> np.ndarray:
    """The average vertebra at any points.

    Args:
        number: VerSe number.
        points_mm: (..., 3) of its own frame, along I, P, L from the body's centroid.
        without: subjects that take no part.

    Returns:
        (...) float32 mm, negative inside; 12 outside the cube.
    """
    index = np.moveaxis(points_mm + NOMINAL_CENTROID, -1, 0)
    distance = average_signed_distance(number, 1.0, without)
    return ndimage.map_coordinates(distance, index, order=1, cval=REACH_MM, prefilter=False)


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
    return np.stack(np.meshgrid(*_axes(spacing_mm), indexing="ij"), -1)


def _axes(spacing_mm: float) -> list[np.ndarray]:
    count = round(CUBE_SIZE / spacing_mm)
    if abs(count * spacing_mm - CUBE_SIZE) > 1e-6:
        raise UserError(f"a spacing of {spacing_mm} mm does not divide the vertebra's cube of {CUBE_SIZE} mm")
    # Coarser voxels cover whole finer ones, so their centres lie between those of the 1 mm grid.
    steps = (np.arange(count) + 0.5) * spacing_mm - 0.5
    return [steps - c for c in NOMINAL_CENTROID]


def _on_lattice(shape: VertebraShape, axes: list[np.ndarray], size: float) -> np.ndarray:
    """`size_free_distance` on a lattice that runs along the shape's own axes."""
    index = [a * (size / SHAPE_SPACING_MM) + o for a, o in zip(axes, shape.origin, strict=True)]
    values, away = sample_lattice(shape.signed_distance, index)
    return (values + away * SHAPE_SPACING_MM) / size


def sample_lattice(volume: np.ndarray, index: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A volume linearly interpolated on a lattice along its own axes, one axis after another, which is fast.

    Args:
        volume: (I, P, L) float32.
        index: of the lattice's planes along each axis; outside the volume its border goes on.

    Returns:
        (i, p, l) values, and how many voxels each point lies outside the volume.
    """
    values, away = volume, []
    for axis, place in enumerate(index):
        nearest = np.clip(place, 0, values.shape[axis] - 1)
        low = np.minimum(np.floor(nearest).astype(int), values.shape[axis] - 2)
        along = [-1 if a == axis else 1 for a in range(3)]
        part = (nearest - low).astype(np.float32).reshape(along)
        values = np.take(values, low, axis) * (1 - part) + np.take(values, low + 1, axis) * part
        away.append(((place - nearest).astype(np.float32) ** 2).reshape(along))
    return values, np.sqrt(away[0] + away[1] + away[2])
