"""What lies behind the body: how wide the spinal canal is and how far the spinous process reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from scripts.measure.body import first_crossing
from scripts.measure.pose import VertebraPose

# Half the canal's height of interest where the body's height is unknown (C2).
HALF_HEIGHT_MM = 8.0
# Half the width of the strips in which walls are looked for, and of the band that holds a spinous process.
STRIP_MM, BAND_MM = 2, 6
# Sampled behind the body's middle, to either side, and above and below it.
BEHIND_MM, ASIDE_MM, ABOVE_MM, BELOW_MM = 80, 25, 25, 50


@dataclass(frozen=True)
class Arch:
    """Sizes in mm; NaN where the arch is open or there is none.

    Args:
        canal_depth: in the median plane, from the body's back wall to the arch, seen along the vertebra's long axis
            over the height of the body.
        canal_width: between the walls beside the canal's middle, seen likewise.
        spinous_length: from the back of the canal, at the height of the body's middle, to the farthest bone behind it
            within 6 mm of the median plane.
    """

    canal_depth: float
    canal_width: float
    spinous_length: float


NOTHING = Arch(np.nan, np.nan, np.nan)


def measure_arch(probability: np.ndarray, affine: np.ndarray, pose: VertebraPose) -> Arch:
    """Measure the arch in the vertebra's own frame, so that its direction does not matter.

    Args:
        probability: (I, P, L) of this vertebra alone, 0 to 1, or its mask.
        affine: (4, 4) voxel index -> world mm.
        pose: of the vertebra.
    """
    volume = _sampled(probability, affine, pose)
    half = pose.heights_mm[1] / 2 if pose.heights_mm else HALF_HEIGHT_MM
    rows = slice(ABOVE_MM - round(min(half, ABOVE_MM)), ABOVE_MM + round(half) + 1)
    seen = volume[rows].max(axis=0)
    beside = slice(ASIDE_MM - STRIP_MM, ASIDE_MM + STRIP_MM + 1)
    median = seen[:, beside].mean(axis=1)
    front = first_crossing(median[None], 0.5)[0]
    if not np.isfinite(front):
        return NOTHING
    inside = int(np.ceil(front))
    depth = inside - front + first_crossing(1 - median[None, inside:], 0.5)[0]
    if not np.isfinite(depth):
        return NOTHING
    middle = round(front + depth / 2)
    across = seen[max(middle - STRIP_MM, 0) : middle + STRIP_MM + 1].mean(axis=0)
    right, left = 1 - across[ASIDE_MM::-1], 1 - across[ASIDE_MM:]
    width = float(first_crossing(np.stack([right, left]), 0.5).sum())
    back = front + depth
    band = volume[:, :, ASIDE_MM - BAND_MM : ASIDE_MM + BAND_MM + 1] > 0.5
    heights, behind = np.nonzero(band.any(axis=2))
    far = np.hypot(heights - ABOVE_MM, behind - back)[behind >= back]
    return Arch(float(depth), width, float(far.max()) if far.size else np.nan)


def _sampled(probability: np.ndarray, affine: np.ndarray, pose: VertebraPose) -> np.ndarray:
    """(down, backwards, left), 1 mm apart; index (ABOVE_MM, 0, ASIDE_MM) is the body's middle."""
    axes = (
        np.arange(-ABOVE_MM, BELOW_MM + 1),
        np.arange(0, BEHIND_MM + 1),
        np.arange(-ASIDE_MM, ASIDE_MM + 1),
    )
    own = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    forwards, left, up = pose.axes
    world = pose.origin_mm + own @ np.stack([-up, -forwards, left])
    index = (world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return map_coordinates(np.asarray(probability, np.float32), np.moveaxis(index, -1, 0), order=1)
