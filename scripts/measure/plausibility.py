"""Whether each vertebra lies where its neighbours let one expect it: a wrong mark makes a kink in the spine.

A body's centre is compared with the cubic through the two centres above and the two below it (by level, so that a
level left out is no kink). Among 3000 postures drawn from the statistics of 2116 CT scans, half of them scoliotic, one
in a thousand thoracic or lumbar vertebrae lies more than 5 mm off (``docs/measurements.md``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.anatomy.absent import absent_level
from scripts.levels import places_along_spine
from scripts.spine.assembly import LocatedVertebra

# Largest deviation in mm from a cubic through two centres on each side, and from a line through one on each side.
MAX_FROM_CUBIC_MM, MAX_FROM_LINE_MM = 6.0, 13.0
# The marks of C1 and C2 scatter, and their distance is no vertebra's height.
FIRST_ASKED = 3


def kinks(vertebrae: Sequence[LocatedVertebra]) -> dict[int, float]:
    """Vertebrae that do not lie in line, VerSe number -> deviation in mm.

    The worst one is taken out before the others are asked again, because it bends the expectation of its neighbours.

    Args:
        vertebrae: head to foot.
    """
    levels = [v.level for v in vertebrae]
    absent = absent_level(levels, np.array([v.cube.body_centroid_mm for v in vertebrae]))
    rank = dict(zip(levels, map(float, places_along_spine(levels, absent)), strict=True))
    centres = {v.level: np.asarray(v.cube.body_centroid_mm) for v in vertebrae if v.level >= FIRST_ASKED}
    found: dict[int, float] = {}
    while len(centres) >= 3:
        levels = list(centres)
        worst, excess, deviation = 0, 1.0, 0.0
        for i in range(1, len(levels) - 1):
            cubic = 2 <= i < len(levels) - 2
            reach = 2 if cubic else 1
            beside = [*levels[i - reach : i], *levels[i + 1 : i + 1 + reach]]
            expected = _interpolate([rank[n] for n in beside], [centres[n] for n in beside], rank[levels[i]])
            off = float(np.linalg.norm(centres[levels[i]] - expected))
            # Where levels are left out, what lies between is less certain.
            gap = (rank[beside[-1]] - rank[beside[0]]) / (2 * reach)
            limit = (MAX_FROM_CUBIC_MM if cubic else MAX_FROM_LINE_MM) * gap
            if off / limit > excess:
                worst, excess, deviation = levels[i], off / limit, off
        if not worst:
            break
        found[worst] = deviation
        del centres[worst]
    return found


def _interpolate(ranks: list[float], points: list[np.ndarray], at: float) -> np.ndarray:
    """Lagrange's polynomial through points at given ranks."""
    total = np.zeros(3)
    for i, point in enumerate(points):
        others = [r for j, r in enumerate(ranks) if j != i]
        total += point * float(np.prod([(at - r) / (ranks[i] - r) for r in others]))
    return total
