"""The yardstick for a reconstruction: what an ellipsoid would score."""

from __future__ import annotations

import numpy as np


def best_ellipsoid(mask: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """The ellipsoid with a mask's own volume and second moments, that is its size and main directions.

    What a network scores beyond it is shape.

    Args:
        mask: (I, P, L) bool, not empty.
        centre: (3,) index where to put it; the mask's own centre of mass if None, which only the truth knows.

    Returns:
        (I, P, L) bool.
    """
    points = np.argwhere(mask).astype(float)
    inverse = np.linalg.inv(np.cov(points.T))
    offset = np.indices(mask.shape, dtype=float) - (points.mean(0) if centre is None else centre)[:, None, None, None]
    distance = np.einsum("i...,ij,j...->...", offset, inverse, offset)
    count = len(points)
    return np.asarray(distance < np.partition(distance.ravel(), count)[count])
