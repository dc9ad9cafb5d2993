"""The yardstick for a reconstruction: what an ellipsoid would score."""

from __future__ import annotations

import numpy as np


def best_ellipsoid(mask: np.ndarray) -> np.ndarray:
    """The ellipsoid with a mask's own volume, centre of mass and second moments.

    It knows the true vertebra's place, size and main directions, so what a network scores beyond it is shape.

    Args:
        mask: (I, P, L) bool, not empty.

    Returns:
        (I, P, L) bool.
    """
    points = np.argwhere(mask).astype(float)
    inverse = np.linalg.inv(np.cov(points.T))
    offset = np.stack(np.indices(mask.shape), -1) - points.mean(0)
    distance = np.einsum("...i,ij,...j->...", offset, inverse, offset)
    count = len(points)
    return distance < np.partition(distance.ravel(), count)[count]
