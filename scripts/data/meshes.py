"""A labelmap from a folder of vertebra surfaces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import trimesh

from scripts.errors import UserError
from scripts.levels import level_in_name


@cache  # a spine's variants all begin here
def labelmap_from_meshes(folder: Path, axcodes: str = "LPS") -> tuple[np.ndarray, np.ndarray]:
    """Vertebrae of one spine as voxels of 1 mm.

    Args:
        folder: of surfaces in mm (STL, OBJ, PLY) whose names hold their level, e.g. ``L1.stl``; others are left out.
        axcodes: what x, y and z of the vertices grow towards.

    Returns:
        (X, Y, Z) uint8 with VerSe numbers, and its affine, index -> RAS mm.

    Raises:
        UserError: no vertebra in the folder, or a surface that cannot be read.
    """
    surfaces: dict[int, trimesh.Trimesh] = {}
    for path in sorted(folder.iterdir()):
        level = level_in_name(path.stem)
        if path.suffix.lower() in (".stl", ".obj", ".ply") and level is not None:
            try:
                surfaces[level] = trimesh.load_mesh(path)
            except (ValueError, IndexError, OSError) as error:
                raise UserError(f"{path}: not a readable surface ({error})") from error
    if not surfaces:
        raise UserError(f"{folder}: no surface whose name holds a vertebra level")
    bounds = np.array([mesh.bounds for mesh in surfaces.values()])
    origin = np.floor(bounds[:, 0].min(0)) - 2
    shape = np.ceil(bounds[:, 1].max(0) - origin).astype(int) + 3
    labels = np.zeros(shape, np.uint8)
    for number, mesh in surfaces.items():
        solid = mesh.voxelized(0.5).fill()
        index = np.floor(solid.points - origin + 0.5).astype(int)
        # Eight half-millimetre cells a voxel; those that the surface crosses count as inside, so half is too generous.
        inside, cells = np.unique(index, axis=0, return_counts=True)
        labels[tuple(inside[cells >= 6].T)] = number
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world_axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(axcodes.upper()))):
        affine[int(world_axis), axis] = sign
        affine[int(world_axis), 3] = sign * origin[axis]
    return labels, affine
