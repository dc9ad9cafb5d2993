"""Where each voxel of a vertebra's cube is seen in its patches.

For parallel rays and an upright vertebra that is the voxel's own row and column, whatever its depth. A cone beam above
or below its central ray, and a vertebra that leans towards or away from the source, move it with the depth; a lift that
repeats the patches ignores this, `scripts.networks.lifting.UnprojectLift` follows it.
"""

from __future__ import annotations

import numpy as np
import torch

from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID, Cube, column_axis, patch_turn
from scripts.geometry.frames import INFERIOR
from scripts.geometry.leaning import UPRIGHT, Lean

# Between so many points an axis, linear interpolation is off by less than 0.1 pixel (cone, 340 mm off its central ray).
KNOTS = 5


def ray_positions(geometry: BiplanarGeometry, cube: Cube, lean: Lean = UPRIGHT) -> torch.Tensor:
    """Patch positions of points that are spread evenly over a cube, from its one border to the other.

    Args:
        geometry: of the films.
        cube: the vertebra.
        lean: how it leans: the cube is the turned one that the network fills in, the patches are turned as
            `scripts.geometry.cropping.patch_pixels` turns them.

    Returns:
        (4, KNOTS, KNOTS, KNOTS) float32, axes I, P, L: row and column in the AP patch, row and column in the LAT patch;
        -1 and 1 are the patch's borders, so that a patch of any resolution may be meant.
    """
    axis = np.linspace(-0.5, CUBE_SIZE - 0.5, KNOTS)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    points = cube.grid.to_world(NOMINAL_CENTROID + (index - NOMINAL_CENTROID) @ lean.rotation().T)
    positions = []
    for view in (geometry.ap, geometry.lat):
        columns = column_axis(view)
        across = np.cross(INFERIOR, columns)
        origin, direction = view.rays(view.project(points))
        # Where the ray through the point meets the plane that the patch was cut in.
        along = (cube.centre_mm - origin) @ across / (direction @ across)
        offset = origin + along[:, None] * direction - cube.centre_mm
        patch = offset @ np.stack([INFERIOR, columns], axis=1) / cube.grid.spacing_mm + (CUBE_SIZE - 1) / 2
        pivot, turning = patch_turn(columns, lean)
        # The other way round than the patch was turned.
        patch = pivot + (patch - pivot) @ turning
        positions.append(((2 * patch + 1) / CUBE_SIZE - 1).T)
    return torch.from_numpy(np.concatenate(positions).reshape(4, KNOTS, KNOTS, KNOTS)).float()
