"""Whether a spine has no T12: some people have eleven thoracic vertebrae, and L1 lies right below T11."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.levels import LEVEL_NUMBERS, places_along_spine

_ABOVE, _T12, _BELOW = (LEVEL_NUMBERS[name] for name in ("T11", "T12", "L1"))
# T11 and L1 are neighbours if they lie nearer than this share of the distance that two vertebrae nearby have; with a
# T12 between them it is about 2.
_NEIGHBOURS_WITHIN = 1.5
# Vertebrae to either side whose distances are compared.
_NEARBY = 3


def absent_level(levels: Sequence[int], centres: np.ndarray) -> int | None:
    """T12 if the spine has none, judged by the distance of T11 and L1; otherwise None.

    A T12 that was only not marked leaves a gap between them. Where no distance nearby is known, T12 is taken to exist.

    Args:
        levels: VerSe numbers, head to foot.
        centres: (N, 2) or (N, 3) of the bodies, in one unit.

    >>> absent_level([17, 18, 20], np.array([[0, 0], [25, 0], [52, 0]]))
    19
    >>> absent_level([17, 18, 20], np.array([[0, 0], [25, 0], [79, 0]])) is None
    True
    """
    levels = list(levels)
    if _ABOVE not in levels or _BELOW not in levels or _T12 in levels:
        return None
    upper = levels.index(_ABOVE)
    if levels[upper + 1] != _BELOW:
        return None
    places = places_along_spine(levels)
    centres = np.asarray(centres, float)
    near = [
        float(np.linalg.norm(centres[i + 1] - centres[i]))
        for i in range(max(upper - _NEARBY, 0), min(upper + 1 + _NEARBY, len(levels) - 1))
        if places[i + 1] - places[i] == 1
    ]
    gap = float(np.linalg.norm(centres[upper + 1] - centres[upper]))
    return _T12 if near and gap < _NEIGHBOURS_WITHIN * float(np.mean(near)) else None
