"""Where a spine bends one way: its tilts split into parts, each between two places at which the bend turns round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A bend needs an end above and one below, and a vertebra between them.
FEWEST_STEPS = 2
# A bend the other way splits a larger one from a quarter of it on. Below 5 degrees it is within the errors of tilts;
# from 10 degrees on it is a curve of its own, whatever the larger one measures.
SPLITTING_SHARE, SPLITTING_DEG = 0.25, (5.0, 10.0)


def one_way_bends(
    upper_deg: np.ndarray, lower_deg: np.ndarray, places: Sequence[int], least_deg: float = 0.0
) -> list[tuple[int, int]]:
    """The largest bend, then the largest of the rest above, below and between those found.

    Args:
        upper_deg: (N,) tilts with which a bend can begin, head to foot.
        lower_deg: (N,) tilts with which it can end.
        places: (N,) how far down the spine each lies, in vertebrae.
        least_deg: smaller bends are none.

    Returns:
        (first, last) index of each, largest first. None has a bend the other way inside that counts; two share at most
        an end.

    >>> one_way_bends(*[np.array([0, 20, 10, 0, 10, 20, 10, 0])] * 2, range(8), 5.0)
    [(1, 3), (3, 5), (5, 7)]
    >>> one_way_bends(*[np.array([0, 10, 20, 18, 17, 30, 40])] * 2, range(7), 5.0)
    [(0, 6)]
    """
    bend = np.asarray(lower_deg, float) - np.asarray(upper_deg, float)[:, None]
    far = np.array(places) - np.array(places)[:, None] >= FEWEST_STEPS
    size = np.abs(bend)
    against = np.where(bend > 0, _largest_inside(np.where(far, -bend, 0)), _largest_inside(np.where(far, bend, 0)))
    splitting = np.clip(SPLITTING_SHARE * size, *SPLITTING_DEG)
    found = np.argwhere(far & (size >= least_deg) & (against < splitting))
    chosen: list[tuple[int, int]] = []
    for first, last in sorted(found.tolist(), key=lambda ends: -size[ends[0], ends[1]]):
        if all(last <= a or first >= b for a, b in chosen):
            chosen.append((first, last))
    return chosen


def _largest_inside(bend: np.ndarray) -> np.ndarray:
    """(N, N) of bends from one place to another -> the largest of each and all that lie within it."""
    within = np.maximum.accumulate(bend[::-1], axis=0)[::-1]
    return np.maximum.accumulate(within, axis=1)
