"""How far apart neighbouring vertebral bodies lie, and in which direction: statistics of 2116 CT scans.

``distances.json`` was taken from the body key points of VID (Bürgin, Prevost and Stollenga, MICCAI 2023, CC BY-SA 4.0)
by ``python -m scripts.anatomy.build_distances``: per pair of neighbours the distance of the two body centroids
and the direction from the upper to the lower one, in the sagittal and in the frontal plane, with their correlations
along the spine. Those patients lay.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from scripts.levels import LEVEL_NUMBERS, level_name

STATISTICS_FILE = Path(__file__).with_name("distances.json")


@cache
def pair_statistics() -> dict[str, dict[str, float | int]]:
    """Per pair such as ``T4-T5``: scans, distance (mean and standard deviation, mm), sagittal and frontal direction."""
    return json.loads(STATISTICS_FILE.read_text())["pairs"]


@cache
def pair_correlations() -> tuple[list[str], dict[str, np.ndarray]]:
    """Names of the pairs, and (pairs, pairs) correlations of ``distance``, ``sagittal`` and ``frontal`` directions."""
    stored = json.loads(STATISTICS_FILE.read_text())
    return list(stored["pairs"]), {name: np.array(rows) for name, rows in stored["correlations"].items()}


def measured_pair(upper: int, lower: int) -> str:
    """The measured pair that stands for two neighbours, of which some have been measured in too few scans.

    Both neighbours of a T13 count as T12 and L1. Where a vertebra is absent, the one above it counts as its neighbour
    there: T11 and L1 of a spine without T12 as T11 and T12.

    Args:
        upper: VerSe number of the upper one.
        lower: of the lower one.

    >>> measured_pair(19, 28), measured_pair(18, 20)  # T12 and T13, T11 and L1
    ('T12-L1', 'T11-T12')
    """
    substitute = {"T13": "T12", "L6": "L5"}
    names = [level_name(upper), level_name(lower)]
    pair = "-".join(names)
    if pair in pair_statistics():
        return pair
    if "T13" in names:
        return "T12-L1"
    above = substitute.get(names[0], names[0])
    following = level_name(LEVEL_NUMBERS[above] + 1)
    pair = f"{above}-{following}"
    return pair if pair in pair_statistics() else "L4-L5"
