"""A first proposal of body centroids: discs found along the straightened spine, counted from one that a person named.

A disc is a dark band across the body's width, often between two bright endplates: both are a positive second
derivative along the spine. Discs of one spine are chosen together, so that their distances are those of real spines
(``distances.json``) times one size (dynamic programming).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.data.labelling.slices import straightened
from scripts.data.labelling.spine_line import SpineLine
from scripts.data.labelling.volume import CtVolume
from scripts.levels import LEVEL_ORDER, in_order

# From the disc below C2 up to the body centroid of C2 and the ring's centre of C1, mm in a neck of average size (the
# library's real necks; the tip of the dens lies at 40).
C2_ABOVE_ITS_DISC_MM, C1_ABOVE_ITS_DISC_MM = 13.0, 30.0
_HALF_BODY_MM = 8
_TILTS = np.tan(np.radians([-24, -16, -8, 0, 8, 16, 24]))


@dataclass(frozen=True)
class Anchor:
    """What a person read off the picture.

    Args:
        below: VerSe number of the vertebra whose lower disc lies at ``arc_mm``.
        arc_mm: along the spine's line.
        spread_mm: how exact that is (standard deviation).
    """

    below: int
    arc_mm: float
    spread_mm: float = 4.0


def disc_response(ct: CtVolume, line: SpineLine) -> np.ndarray:
    """(N,) how much each place of the line looks like a disc, about 0 to 1."""
    hu = np.clip(straightened(ct, line, 30.0), -100, 1200)
    mean = ndimage.gaussian_filter(hu, (15, 8))
    spread = np.sqrt(ndimage.gaussian_filter((hu - mean) ** 2, (20, 15))) + 40
    contrast = (hu - mean) / spread
    # Where slices are thick or discs worn, the two endplates merge to one bright band instead.
    dark = sum(ndimage.gaussian_laplace(contrast, (s, 2.0)) * s**2 for s in (2.0, 3.0)) / 2
    bright = -ndimage.gaussian_laplace(contrast, (4.5, 2.0)) * 4.5**2
    seen = np.stack([1.5 * dark, 0.25 * bright])
    arc: np.ndarray = np.arange(len(hu), dtype=float)[:, None]
    across = np.arange(-_HALF_BODY_MM, _HALF_BODY_MM + 1)
    sums = []
    for tilt in _TILTS:
        rows = arc + across[None] * tilt
        columns = np.broadcast_to(across[None] + 30.0, rows.shape)
        along = [ndimage.map_coordinates(s, [rows, columns], order=1, mode="nearest").mean(1) for s in seen]
        sums.append(np.max(along, axis=0) - 0.05 * abs(tilt))
    return np.max(sums, axis=0)


def propose_discs(
    response: np.ndarray, anchor: Anchor, levels: tuple[int, ...] = LEVEL_ORDER, end_mm: float | None = None
) -> dict[int, float]:
    """Arc length in mm of the disc below each vertebra.

    Args:
        response: of `disc_response`.
        anchor: one disc that is known roughly.
        levels: that this spine has, head to foot.
        end_mm: arc where the bodies end, the line's own end if None.
    """
    last = float(len(response) - 1 if end_mm is None else end_mm)
    best: tuple[float, dict[int, float]] = (-np.inf, {})
    for size in np.arange(0.78, 1.25, 0.03):
        score, discs = _chain(response, anchor, levels, float(size), last)
        score -= float((size - 1) / 0.12) ** 2 / 40
        if discs and score > best[0]:
            best = (score, discs)
    return best[1]


def bodies_between(discs: dict[int, float], size: float | None = None) -> dict[int, float]:
    """Arc length of each body's middle from the discs below it and above it; C2 and C1 from the disc below C2.

    Args:
        discs: number of the vertebra above -> arc in mm.
        size: of this spine against the average; measured on the discs if None.
    """
    numbers = in_order(list(discs))
    size = spine_size(discs) if size is None else size
    bodies = {lower: (discs[upper] + discs[lower]) / 2 for upper, lower in itertools.pairwise(numbers)}
    if numbers[0] == 2:
        bodies[2] = discs[2] - C2_ABOVE_ITS_DISC_MM * size
        bodies[1] = discs[2] - C1_ABOVE_ITS_DISC_MM * size
    return {number: bodies[number] for number in in_order(list(bodies))}


def spine_size(discs: dict[int, float]) -> float:
    """Scale of a spine against the average one, from the distances of its discs."""
    numbers = in_order(list(discs))
    if len(numbers) < 2:
        return 1.0
    expected = sum(disc_pitch(lower) for lower in numbers[1:])
    return (discs[numbers[-1]] - discs[numbers[0]]) / expected


def disc_pitch(number: int) -> float:
    """Mean distance in mm between the discs above and below a vertebra."""
    place = LEVEL_ORDER.index(number)
    pairs = [measured_pair(*LEVEL_ORDER[i : i + 2]) for i in (place - 1, place) if 1 < i + 1 < len(LEVEL_ORDER)]
    pairs = [p for p in pairs if p not in ("C1-C2", "C2-C3")]
    return float(np.mean([pair_statistics()[p]["distance_mm"] for p in pairs]))


def _chain(
    response: np.ndarray, anchor: Anchor, levels: tuple[int, ...], size: float, last: float
) -> tuple[float, dict[int, float]]:
    """Discs up and down from the anchor, each direction by dynamic programming."""
    arc = np.arange(len(response))
    start = response - ((arc - anchor.arc_mm) / anchor.spread_mm) ** 2 / 8
    here = levels.index(anchor.below)
    # Going up from C2 there is no disc.
    above = [n for n in reversed(levels[:here]) if n >= 2]
    up_steps = [disc_pitch(levels[i]) * size for i in range(here, here - len(above), -1)]
    below = list(levels[here + 1 :])
    down_steps = [disc_pitch(n) * size for n in below]
    up_score, up = _follow(response, [-s for s in up_steps], last)
    down_score, down = _follow(response, down_steps, last)
    total = start + up_score + down_score
    first = int(total.argmax())
    discs = {anchor.below: float(first)}
    discs |= {n: float(a) for n, a in zip(above, _trace(up, first), strict=False)}
    discs |= {n: float(a) for n, a in zip(below, _trace(down, first), strict=False)}
    count = len(discs)
    return float(total[first]) / count, {n: discs[n] for n in in_order(list(discs))}


def _follow(response: np.ndarray, steps: list[float], last: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Best score from each place on through the steps, and for each step where it leads; -1: it leads outside."""
    count = len(response)
    score = np.zeros(count)
    leads: list[np.ndarray] = []
    arc = np.arange(count)
    for step in reversed(steps):
        spread = max(0.09 * abs(step), 1.5)
        moves: np.ndarray = np.arange(round(abs(step) * 0.7), round(abs(step) * 1.3) + 1) * int(np.sign(step))
        options = np.full((len(moves), count), -np.inf)
        for row, move in enumerate(moves):
            target = arc + move
            inside = (target >= 3) & (target <= last - 2)
            penalty = ((move - step) / spread) ** 2 / 40
            options[row, inside] = response[target[inside]] + score[target[inside]] - penalty
        best = options.max(0)
        ends = ~np.isfinite(best)
        lead = arc + moves[options.argmax(0)]
        lead[ends] = -1
        leads.append(lead)
        score = np.where(ends, 0.0, best)
    return score, leads[::-1]


def _trace(leads: list[np.ndarray], first: int) -> list[int]:
    places = []
    at = first
    for lead in leads:
        at = int(lead[at])
        if at < 0:
            break
        places.append(at)
    return places
