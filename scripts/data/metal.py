"""Is there metal at the spine? Screws, rods and cages, told from their CT numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

METAL_HU = 2500.0
NEAR_MM = 15.0
METAL_CM3 = 0.2
# A scan whose numbers end below metal's shows it as a plateau at its largest number.
LOWEST_PLATEAU_HU = 1500.0


@dataclass(frozen=True)
class MetalEvidence:
    """What speaks for metal.

    Args:
        hu_max: largest CT number.
        total_cm3: volume of voxels as dense as metal.
        near_spine_cm3: of these, within 15 mm of a vertebra.
        is_metal: whether that is more than 0.2 cm3.
    """

    hu_max: float
    total_cm3: float
    near_spine_cm3: float
    is_metal: bool


def find_metal(hu: np.ndarray, labels: np.ndarray, voxel_mm: np.ndarray) -> MetalEvidence:
    """Metal in a CT and near its vertebrae.

    Enamel and dense cortex stay below 2500 HU or far from the spine; a hip implant is dense but far.

    Args:
        hu: (X, Y, Z) CT numbers.
        labels: (X, Y, Z), VerSe numbers.
        voxel_mm: (3,) voxel size.
    """
    hu_max = float(hu.max())
    threshold = METAL_HU if hu_max >= METAL_HU else max(hu_max, LOWEST_PLATEAU_HU)
    voxel_cm3 = float(np.prod(voxel_mm)) / 1000
    dense = np.argwhere(hu >= threshold)
    total = len(dense) * voxel_cm3
    near = 0.0
    # Below the least volume there is no need to know where it lies.
    if total >= METAL_CM3 and labels.any():
        # Vertebrae's surfaces, thinned: a metal voxel is near if any surface voxel is.
        bone = labels > 0
        surface = np.argwhere(bone & ~ndimage.binary_erosion(bone))
        tree = cKDTree(surface[::7] * voxel_mm)
        distance, _ = tree.query(dense * voxel_mm, distance_upper_bound=NEAR_MM)
        inside = bone[tuple(dense.T)]
        near = float((np.isfinite(distance) | inside).sum()) * voxel_cm3
    return MetalEvidence(round(hu_max, 1), round(total, 3), round(near, 3), near >= METAL_CM3)
