"""Exact Euclidean distances to a mask's boundary, for whole batches, on the device where the masks are.

Two ways, equal to SciPy's to 1e-4 (``tests/test_distance.py``): on a CPU the ``edt`` library, which needs one pass
where SciPy needs two; elsewhere in torch, three passes of lower envelopes by brute force, without asking the device
for any value.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import edt
import numpy as np
import torch
from monai.losses import HausdorffDTLoss

# Elements of the largest temporary array of the torch way.
LARGEST_TEMPORARY = 2**27


class HausdorffLoss(HausdorffDTLoss):
    """MONAI's `HausdorffDTLoss` with faster distances (Karimi 2019, doi 10.1109/TMI.2019.2930068).

    Arguments are the parent's.
    """

    def distance_field(self, img: torch.Tensor) -> torch.Tensor:
        """Probabilities or masks (B, 1, X, Y, Z) -> distance to the boundary of what is above one half."""
        return boundary_distance(img > 0.5)


def boundary_distance(mask: torch.Tensor) -> torch.Tensor:
    """From each voxel's centre to the nearest voxel of the other side, in voxels.

    It is the sum of MONAI's two distance transforms, of the mask and of its complement, one of which is always 0.

    Args:
        mask: (B, 1, X, Y, Z) bool.

    Returns:
        (B, 1, N, N, N) float32; 0 throughout where a mask is empty or full, as it has no surface.
    """
    if mask.device.type == "cpu":
        return _on_cpu(mask)
    return _by_brute_force(mask)


def _on_cpu(mask: torch.Tensor) -> torch.Tensor:
    labels = mask.to(torch.uint8).add(1).numpy()
    out = np.zeros(labels.shape, np.float32)

    def one(sample: int) -> None:
        volume = labels[sample, 0]
        if volume.min() != volume.max():
            out[sample, 0] = edt.edt(np.ascontiguousarray(volume), parallel=1)

    if len(labels) > 1 and torch.get_num_threads() > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(one, range(len(labels))))
    else:
        for sample in range(len(labels)):
            one(sample)
    return torch.from_numpy(out)


def _by_brute_force(mask: torch.Tensor) -> torch.Tensor:
    """Squared distances along one axis after the other: D(i) = min over j of d(j) + (i - j)^2."""
    far = float(sum(n * n for n in mask.shape[2:]) + 1)
    squared = []
    for side in (mask, ~mask):
        # Distance within `side` to the nearest voxel that is not in it.
        distance = torch.where(side, far, 0.0)
        for axis in (2, 3, 4):
            distance = _envelope(distance, axis)
        squared.append(distance)
    both = squared[0] + squared[1]
    return torch.where(both < far, both, 0.0).sqrt()


def _envelope(values: torch.Tensor, axis: int) -> torch.Tensor:
    rows = values.movedim(axis, -1)
    count = rows.shape[-1]
    index = torch.arange(count, device=values.device, dtype=values.dtype)
    parabola = (index[:, None] - index[None, :]) ** 2
    flat = rows.reshape(-1, count)
    chunk = max(LARGEST_TEMPORARY // (count * count), 1)
    out = torch.empty_like(flat)
    for first in range(0, len(flat), chunk):
        part = flat[first : first + chunk]
        out[first : first + chunk] = (part[:, None, :] + parabola).amin(-1)
    return out.reshape(rows.shape).movedim(-1, axis)
