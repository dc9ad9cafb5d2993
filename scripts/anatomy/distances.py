"""How far apart neighbouring vertebral bodies lie, and in which direction: statistics of 2116 CT scans.

``distances.json`` was taken from the body key points of VID (Bürgin, Prevost and Stollenga, MICCAI 2023, CC BY-SA 4.0)
by ``python -m scripts.anatomy.build_distances``: per pair of neighbours the distance of the two body centroids
and the direction from the upper to the lower one, in the sagittal and in the frontal plane, with their correlations
along the spine. Those patients lay.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from scripts.anatomy.absent import absent_level
from scripts.levels import LEVEL_NUMBERS, LEVEL_ORDER, level_name

STATISTICS_FILE = Path(__file__).with_name("distances.json")
# The statistics' body points and VerSe's centroids disagree systematically by this share of the distance (same
# patients: L4-L5 35.1 against 32.3 mm; the other pairs agree within 3 %).
DEFINITION_SD = 0.03
DEFINITION_SD_OF = {"C1-C2": 0.09, "L3-L4": 0.07, "L4-L5": 0.1, "L5-L6": 0.17}


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


def expected_distances(levels: Sequence[int], centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far apart marked levels that follow each other are expected, and how far people of one size differ in that.

    Args:
        levels: VerSe numbers, head to foot. Over levels between them that are not marked distances add up.
        centres: (N, 2) or (N, 3) of the bodies, in any unit: they tell a T12 that is absent from one without a mark.

    Returns:
        (N-1,) means and (N-1,) standard deviations, mm.
    """
    absent = absent_level(levels, centres)
    rows = [_expected(upper, lower, absent) for upper, lower in itertools.pairwise(levels)]
    mean, spread = np.array(rows).reshape(-1, 2).T
    return mean, spread


def _expected(upper: int, lower: int, absent: int | None) -> tuple[float, float]:
    statistics = pair_statistics()
    mean, variance = 0.0, 0.0
    between = LEVEL_ORDER[LEVEL_ORDER.index(upper) : LEVEL_ORDER.index(lower) + 1]
    # T13 is there only if it is marked.
    without = {absent, LEVEL_NUMBERS["T13"]} - {upper, lower}
    chain = [n for n in between if n not in without]
    for a, b in itertools.pairwise(chain):
        name = measured_pair(a, b)
        row = statistics[name]
        distance = float(row["distance_mm"])
        definition = DEFINITION_SD_OF.get(name, DEFINITION_SD)
        mean += distance
        variance += float(row["distance_sd_after_scale_mm"]) ** 2 + (definition * distance) ** 2
    return mean, math.sqrt(variance)
