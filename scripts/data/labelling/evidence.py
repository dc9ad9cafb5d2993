"""What a CT says about bone around a mark: +1 surely bone, -1 surely not, 0 in between or not scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from scripts.data.labelling.volume import CtVolume
from scripts.geometry.frames import sampling_matrix

# How far above soft tissue bone must at least lie, and as how much brighter the inside counts at most.
_LEAST_CONTRAST_HU, _MOST_CONTRAST_HU = 90.0, 260.0
_CORE_MM = 6.0
# Where between soft tissue and the body's inside the surface lies. Cortex is brighter than the inside, so that its
# blurred outer edge is above one half.
_EDGE = 0.65
# Around a body there is muscle, in HU between fat and bone.
_AROUND_MM, _USUAL_SOFT_HU, _MUSCLE_HU = 40.0, 50.0, (40.0, 90.0)


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
    inside_part = _ball(ct, centroid_mm, _CORE_MM)
    inside = float(np.median(inside_part)) if inside_part.size else 200.0
    muscle = float(np.clip(_muscle(_ball(ct, centroid_mm, _AROUND_MM), inside), *_MUSCLE_HU))
    # Less than that above it: the file's numbers are not quite HU.
    soft = min(muscle, inside - 40.0)
    contrast = float(np.clip(inside - soft, _LEAST_CONTRAST_HU, _MOST_CONTRAST_HU))
    return BoneScale(soft + _EDGE * contrast, 0.35 * contrast)


def _ball(ct: CtVolume, centre_mm: np.ndarray, reach_mm: float) -> np.ndarray:
    """HU (N,) of the scanned voxels of a cube around a point."""
    index, reach = ct.grid.to_index(centre_mm), reach_mm / ct.grid.spacing_mm
    box = tuple(slice(max(round(float(i - reach)), 0), max(round(float(i + reach)) + 1, 0)) for i in index)
    return ct.hu[box][ct.scanned[box]]


def _muscle(around: np.ndarray, inside: float) -> float:
    """HU of muscle: the brightest clear peak of what surrounds a body, below the body's own inside."""
    counts, edges = np.histogram(around, np.arange(min(-200.0, inside - 320.0), min(inside, 250.0) - 20.0, 10.0))
    counts = ndimage.gaussian_filter1d(counts.astype(float), 1.5)
    if counts.max(initial=0) <= 0:
        return _USUAL_SOFT_HU
    peaks = [
        i
        for i in range(1, len(counts) - 1)
        if counts[i] >= counts[i - 1] and counts[i] > counts[i + 1] and counts[i] > 0.3 * counts.max()
    ]
    return float(edges[peaks[-1]] + 5.0) if peaks else _USUAL_SOFT_HU


class EvidenceVolume:
    """Samples HU at world points; what was not scanned gives no evidence."""

    def __init__(self, ct: CtVolume) -> None:
        self.grid = ct.grid
        self._volume = torch.stack([torch.from_numpy(ct.hu), torch.from_numpy(ct.scanned.astype(np.float32))])[None]
        self._matrix = torch.from_numpy(sampling_matrix(ct.grid.affine, ct.hu.shape).astype(np.float32))

    def at(self, points_mm: torch.Tensor, scale: BoneScale) -> torch.Tensor:
        """Evidence (N,) at world points (N, 3)."""
        where = points_mm @ self._matrix[:3, :3].T + self._matrix[:3, 3]
        values = F.grid_sample(self._volume, where.reshape(1, 1, 1, -1, 3), align_corners=False)[0, :, 0, 0]
        # Outside the array there is no sample: `zeros` padding makes it unscanned too.
        return torch.tanh((values[0] - scale.threshold_hu) / scale.width_hu) * values[1]
