"""Overlap and surface distances of two masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import get_edge_surface_distance
from scipy.ndimage import find_objects

from scripts.errors import UserError

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class VertebraMetrics:
    """Agreement of a predicted with the true vertebra; all surface measures are symmetric.

    Args:
        dice: 2 |A and B| / (|A| + |B|).
        hd95_mm: larger of the two directed 95th percentiles of the surface distance.
        assd_mm: mean over the distances from both surfaces.
        nsd_1mm: share of both surfaces that lies within 1 mm of the other (surface Dice; Nikolov 2021,
            doi 10.2196/26151).
        nsd_2mm: likewise within 2 mm.
    """

    dice: float
    hd95_mm: float
    assd_mm: float
    nsd_1mm: float
    nsd_2mm: float


def vertebra_metrics(
    prediction: np.ndarray | None, truth: np.ndarray, spacing_mm: Spacing = (1.0, 1.0, 1.0)
) -> VertebraMetrics:
    """All metrics of one vertebra, from one computation of the surface distances.

    Surfaces are the masks' edge voxels as MONAI defines them.

    Args:
        prediction: (I, P, L) bool, or None if there is none.
        truth: (I, P, L) bool.
        spacing_mm: voxel size.

    Returns:
        for a prediction that is empty or missing: Dice and NSD 0, distances the diagonal of the volume.

    Raises:
        UserError: the true mask is empty or the shapes differ.
    """
    if not truth.any():
        raise UserError("the true mask is empty: there is nothing to compare with")
    if prediction is None or not prediction.any():
        diagonal = float(np.linalg.norm(np.array(truth.shape) * spacing_mm))
        return VertebraMetrics(0.0, diagonal, diagonal, 0.0, 0.0)
    if prediction.shape != truth.shape:
        raise UserError(f"prediction {prediction.shape} and truth {truth.shape} have different shapes")
    box = find_objects((prediction | truth).view(np.uint8))[0]
    # A margin, or masks that fill the box have no edge there.
    a, b = (np.pad(mask[box], 1) for mask in (prediction.astype(bool), truth.astype(bool)))
    dice = 2.0 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))
    _, distances, _ = get_edge_surface_distance(a, b, spacing=spacing_mm, symmetric=True)
    there, back = (np.asarray(d, dtype=np.float64) for d in distances)
    both = np.concatenate([there, back])
    return VertebraMetrics(
        dice=dice,
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(both.mean()),
        nsd_1mm=float((both <= 1.0).mean()),
        nsd_2mm=float((both <= 2.0).mean()),
    )
