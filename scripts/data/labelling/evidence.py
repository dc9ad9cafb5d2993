"""What a CT says about bone around a mark: +1 surely bone, -1 surely not, 0 in between or not scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scripts.data.labelling.volume import CtVolume

# Soft tissue beside the spine, and how far above it bone must at least lie.
_SOFT_HU, _LEAST_CONTRAST_HU = 50.0, 70.0
_CORE_MM = 6.0
# Where between them the surface lies. Cortex is brighter than the inside, so its blurred outer edge is above one half.
_HALF = 0.65


@dataclass(frozen=True)
class BoneScale:
    """How bright a body's own bone is, of each vertebra of a spine.

    Args:
        threshold_hu: half-way between soft tissue and the body's inside.
        width_hu: how fast evidence grows on either side.
    """

    threshold_hu: float
    width_hu: float


def bone_scale(ct: CtVolume, centroid_mm: np.ndarray) -> BoneScale:
    """The scale of one vertebra from the inside of its body, contrast-filled or osteoporotic as it may be."""
    index = ct.grid.to_index(centroid_mm)
    reach = int(np.ceil(_CORE_MM / ct.grid.spacing_mm))
    low = np.maximum(np.rint(index).astype(int) - reach, 0)
    part = ct.hu[tuple(slice(a, a + 2 * reach + 1) for a in low)]
    inside = float(np.median(part)) if part.size else 200.0
    contrast = max(inside - _SOFT_HU, _LEAST_CONTRAST_HU)
    return BoneScale(_SOFT_HU + _HALF * min(contrast, 260.0), 0.35 * min(contrast, 260.0))


class EvidenceVolume:
    """Samples HU at world points; what was not scanned gives no evidence."""

    def __init__(self, ct: CtVolume) -> None:
        self.grid = ct.grid
        self._volume = torch.stack([torch.from_numpy(ct.hu), torch.from_numpy(ct.scanned.astype(np.float32))])[None]
        affine = np.linalg.inv(ct.grid.affine)
        size = np.array(ct.hu.shape)
        normalise = np.eye(4)
        normalise[:3, :3] = np.diag(2 / size)[::-1]
        normalise[:3, 3] = (1 / size - 1)[::-1]
        self._matrix = torch.from_numpy((normalise @ affine).astype(np.float32))

    def at(self, points_mm: torch.Tensor, scale: BoneScale) -> torch.Tensor:
        """Evidence (N,) at world points (N, 3)."""
        where = points_mm @ self._matrix[:3, :3].T + self._matrix[:3, 3]
        values = F.grid_sample(self._volume, where.reshape(1, 1, 1, -1, 3), align_corners=False)[0, :, 0, 0]
        # Outside the array there is no sample: `zeros` padding makes it unscanned too.
        return torch.tanh((values[0] - scale.threshold_hu) / scale.width_hu) * values[1]
