"""Overlap and surface distances of two masks."""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
from monai.metrics.utils import get_mask_edges
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
        nsd_2mm: share of both surfaces that lies within 2 mm of the other.
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

    Surfaces are the masks' edge voxels as MONAI defines them: what an erosion by the 6-neighbourhood takes away.

    Args:
        prediction: (I, P, L) bool, or None if the prediction failed.
        truth: (I, P, L) bool.
        spacing_mm: voxel size along I, P and L.

    Returns:
        for a prediction that is empty or missing: Dice and NSD 0, distances the diagonal of the volume.

    Raises:
        UserError: the true mask is empty or the shapes differ, be the prediction empty or not.

    >>> truth = np.zeros((12, 12, 12), bool)
    >>> truth[3:9, 3:9, 3:9] = True
    >>> vertebra_metrics(truth, truth).dice, vertebra_metrics(truth, truth).hd95_mm
    (1.0, 0.0)
    >>> vertebra_metrics(np.roll(truth, 1, 0), truth).hd95_mm
    1.0
    """
    if not truth.any():
        raise UserError("the true mask is empty: there is nothing to compare with")
    if prediction is not None and prediction.shape != truth.shape:
        raise UserError(f"prediction {prediction.shape} and truth {truth.shape} have different shapes")
    if prediction is None or not prediction.any():
        diagonal = float(np.linalg.norm(np.array(truth.shape) * spacing_mm))
        return VertebraMetrics(0.0, diagonal, diagonal, 0.0, 0.0)
    masks = [np.asarray(mask, dtype=bool) for mask in (prediction, truth)]
    box = find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
    # Cropped here because MONAI's own crop is slower; with its margin, so that the edges do not depend on what an
    # erosion takes to lie beyond the border.
    a, b = (np.pad(mask[box], 1) for mask in masks)
    dice = 2.0 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))
    edges_a, edges_b = get_mask_edges(a, b, crop=False)
    there = _distances(edges_a, edges_b, spacing_mm)
    back = _distances(edges_b, edges_a, spacing_mm)
    both = np.concatenate([there, back])
    return VertebraMetrics(
        dice=dice,
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(both.mean()),
        nsd_1mm=float((both <= 1.0).mean()),
        nsd_2mm=float((both <= 2.0).mean()),
    )


def _distances(edges: np.ndarray, others: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """From each edge voxel to the nearest of the other mask's edges, mm."""
    # float32, as MONAI's: a distance of 1 mm + 1e-16 is within 1 mm. Only the means need float64.
    field = edt.edt(np.ascontiguousarray(~others, dtype=np.uint8), anisotropy=spacing_mm)
    return field[edges].astype(np.float64)
