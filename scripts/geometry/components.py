"""Parts of a mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest of a mask's parts that hang together by faces, bool; nothing of an empty mask.

    As MONAI's `get_largest_connected_component_mask`, which is slower, and whose import costs seconds in each worker
    that prepares or simulates.
    """
    largest = np.zeros(mask.shape, bool)
    box = bounding_box(mask)
    if box is not None:
        parts, count = ndimage.label(mask[box])
        largest[box] = parts > 0 if count == 1 else parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return largest


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds all of a mask; None if the mask is empty. Cheaper than labelling the whole array."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask[tuple(box)].any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(filled):
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)
