"""Readings of neighbouring vertebrae against each other: a spine turns and grows steadily, readings scatter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.anatomy.placement import by_kind
from scripts.levels import places_along_spine

# How far neighbours count, in levels (one standard deviation). On eight validation people axial turn gains most,
# as much at 0.6 as at 1; sagittal turn and stretches lose at 1.
REACH_LEVELS = 0.6
# Of place (mm), turn (degrees) and stretch: finer changes than that are not worth a vertebra's reconstruction.
STEP = np.array(by_kind(0.5, 1.0, 0.01))


def steady_numbers(read: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Mean readings of each vertebra and its neighbours, nearer ones counting more.

    Args:
        read: (N, 9) of one spine: place (mm), turn (degrees) and log stretches of each mean shape.
        levels: N VerSe numbers.

    Returns:
        (N, 9), in steps of `STEP`.

    >>> read = np.zeros((3, 9))
    >>> read[1, 3] = 10.0  # degrees of axial turn that the neighbours do not share
    >>> steady_numbers(read, [18, 19, 20])[:, 3].round(1).tolist()
    [2.0, 7.0, 2.0]
    """
    places = np.array(places_along_spine(levels), float)
    weights = np.exp(-0.5 * ((places[:, None] - places) / REACH_LEVELS) ** 2)
    mean = weights @ read / weights.sum(1, keepdims=True)
    return np.rint(mean / STEP) * STEP
