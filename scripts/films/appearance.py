"""What the pixels of a film betray about it, whatever its file says."""

from __future__ import annotations

import numpy as np

from scripts.films.film import Field

BRIGHTER = 0.25


def seems_inverted(film: np.ndarray, field: Field) -> bool:
    """Whether the sides of a film are clearly brighter than its middle: air and thin flesh should be darker.

    Args:
        film: (rows, columns).
        field: its exposed part.
    """
    top, left, bottom, right = field
    part = film[top:bottom, left:right]
    low, high = float(np.percentile(part, 1)), float(np.percentile(part, 99))
    width = part.shape[1]
    side = max(width // 12, 1)
    middle = np.median(part[:, width * 2 // 5 : width * 3 // 5])
    sides = np.median(np.concatenate([part[:, :side], part[:, -side:]], axis=1))
    return bool(high > low and (sides - middle) / (high - low) > BRIGHTER)
