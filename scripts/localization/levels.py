"""The table of levels that the annotation network tells apart: 26 vertebrae from head to foot, then S1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scripts.levels import LEVEL_ORDER, level_name, level_rank

NAMES = (*(level_name(number) for number in LEVEL_ORDER), "S1")
LEVELS = len(NAMES)
S1_INDEX = NAMES.index("S1")
# Of each place in the table, the place counted down a spine without a T13: a difference of 1 is one vertebra
# everywhere. T13, the twentieth vertebra, has that of L1; S1 lies below L6.
COUNTED = np.array([*(math.ceil(level_rank(number)) - 1 for number in LEVEL_ORDER), S1_INDEX - 1])
# What S1 may follow.
LUMBAR_ENDS = [NAMES.index(name) for name in ("L4", "L5", "L6")]
# Places in the table where another region begins.
FIRST_THORACIC, FIRST_LUMBAR = NAMES.index("T1"), NAMES.index("L1")
REGION_NAMES = ("cervical", "thoracic", "lumbar", "sacral")
# What a vertebra is in its region; VERIDAH (2026) shows how much such ends help to find anomalies.
END_NAMES = (
    "none",
    "first cervical",
    "last cervical",
    "first thoracic",
    "last thoracic",
    "first lumbar",
    "last lumbar",
)


def places_of(levels: Sequence[int]) -> list[int]:
    """How far below C1 each level of a spine lies, in vertebrae; T13 and L6 count only where the spine has them.

    As `scripts.levels.places_along_spine`, with S1 below the last lumbar vertebra.

    Args:
        levels: places in the table.

    >>> places_of([NAMES.index(name) for name in ("T12", "L1", "L5", "S1")])
    [18, 19, 23, 24]
    """
    without = {NAMES.index(name) for name in ("T13", "L6")}.difference(levels)
    order = [i for i in range(LEVELS) if i not in without]
    return [order.index(level) for level in levels]


def region_index(level: int) -> int:
    """Place in `REGION_NAMES` of a place in the table."""
    return 3 if level == S1_INDEX else int(level >= FIRST_THORACIC) + int(level >= FIRST_LUMBAR)


def ends_of(levels: np.ndarray, complete: bool) -> np.ndarray:
    """Which vertebrae of a spine are the first or last of their region.

    Args:
        levels: (N,) places in the table, head to foot.
        complete: whether every vertebra of the spine is listed.

    Returns:
        (N,) places in `END_NAMES`; -1 where it cannot be known.
    """
    ends: np.ndarray = np.zeros(len(levels), np.int64)
    for i, level in enumerate(levels):
        here = region_index(int(level))
        below = region_index(int(levels[i + 1])) if i + 1 < len(levels) else None
        if level in (0, FIRST_THORACIC, FIRST_LUMBAR):
            ends[i] = END_NAMES.index(f"first {REGION_NAMES[here]}")
        elif below is not None and below != here:
            ends[i] = END_NAMES.index(f"last {REGION_NAMES[here]}")
        elif (below is None and here == 2) or (below is None and not complete):
            ends[i] = -1
    return ends
