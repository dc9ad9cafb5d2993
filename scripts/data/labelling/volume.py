"""A CT on the canonical grid that marks are set on and shapes are fitted in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scripts.data.fitness import check_field
from scripts.data.volumes import remove_table, resample_hu
from scripts.errors import UserError
from scripts.geometry.frames import Grid, bounding_grid, resample
from scripts.io.nifti import read_volume

WORKING_SPACING_MM = 2.0


@dataclass(frozen=True)
class CtVolume:
    """A CT in the canonical frame.

    Args:
        hu: (I, P, L) float32 CT numbers, table removed, air outside the scanned field.
        grid: of them.
        scanned: (I, P, L) bool, whether the CT's own field of view holds the voxel.
        voxel_mm: (3,) size of the CT's own voxels along its own axes.
    """

    hu: np.ndarray
    grid: Grid
    scanned: np.ndarray
    voxel_mm: tuple[float, float, float]


def read_ct(path: Path, spacing_mm: float = WORKING_SPACING_MM) -> CtVolume:
    """A CT file in HU on the canonical grid.

    Raises:
        UserError: not readable, not 3D, of an implausible size, or no CT numbers.
    """
    stored, affine = read_volume(path, "a CT")
    check_field(stored.shape, np.linalg.norm(affine[:3, :3], axis=0))
    hu: np.ndarray = stored.astype(np.float32)
    if not np.isfinite(hu).all() or hu.min() > -200 or hu.max() < 200:
        raise UserError(f"{path.name}: values {hu.min():.0f} to {hu.max():.0f} are no CT numbers in HU")
    return on_canonical_grid(remove_table(hu, affine), affine, spacing_mm)


def on_canonical_grid(hu: np.ndarray, affine: np.ndarray, spacing_mm: float = WORKING_SPACING_MM) -> CtVolume:
    """A CT in memory on the canonical grid.

    Args:
        hu: (X, Y, Z) float32.
        affine: 4x4 index -> RAS mm.
        spacing_mm: of the grid.
    """
    grid = bounding_grid(affine, hu.shape, spacing_mm)
    values = resample_hu(hu, affine, grid)
    inside = resample(torch.ones(hu.shape), affine, grid).numpy() > 0.5
    size = np.linalg.norm(affine[:3, :3], axis=0)
    return CtVolume(values, grid, inside, (float(size[0]), float(size[1]), float(size[2])))
