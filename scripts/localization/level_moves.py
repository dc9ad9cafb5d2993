"""Moves from one vertebra to the next that was found: how likely each is, and what its distance says.

One level down, with rare moves to T13 and L6, past an absent T12 or L5, and past vertebrae that were missed.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.levels import LEVEL_ORDER
from scripts.localization.levels import END_NAMES, LEVELS, NAMES, S1_INDEX, region_index
from scripts.localization.path_options import PathOptions

# From the last lumbar body to that of S1: not among the measured pairs; a disc and half of both bodies.
S1_PITCH_MM, S1_PITCH_SD_MM = 36.0, 4.0
LAST_OF_REGION = tuple(END_NAMES.index(name) for name in ("last cervical", "last thoracic", "last lumbar"))


@cache
def _moves(options: PathOptions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For 1, 2, ... levels down: log share, mean distance and variance of each move, (hops, LEVELS, LEVELS) each."""
    single = np.full((LEVELS, LEVELS), -np.inf)
    names = {name: i for i, name in enumerate(NAMES)}
    for a, b in itertools.pairwise(names):
        if "T13" not in (a, b) and "L6" not in (a, b):
            single[names[a], names[b]] = 0.0
    rare = {
        ("T12", "T13"): options.t13, ("T12", "L1"): 0.0, ("T13", "L1"): 0.0, ("T11", "L1"): options.no_t12,
        ("L5", "L6"): options.l6, ("L5", "S1"): 0.0, ("L6", "S1"): 0.0, ("L4", "S1"): options.no_l5,
    }  # fmt: skip
    for (a, b), share in rare.items():
        single[names[a], names[b]] = share
    mean, variance = np.zeros((2, LEVELS, LEVELS))
    for i, j in zip(*np.nonzero(np.isfinite(single)), strict=True):
        if j == S1_INDEX:
            mean[i, j], variance[i, j] = S1_PITCH_MM, S1_PITCH_SD_MM**2
        else:
            row = pair_statistics()[measured_pair(LEVEL_ORDER[i], LEVEL_ORDER[j])]
            mean[i, j], variance[i, j] = row["distance_mm"], row["distance_sd_mm"] ** 2
    shares, means, variances = [single], [mean], [variance]
    for _ in range(options.most_missed):
        before = shares[-1]
        through = before[:, :, None] + single[None] + options.missed
        middle = through.argmax(1)
        rows, columns = np.indices((LEVELS, LEVELS))
        shares.append(through.max(1))
        means.append(means[-1][rows, middle] + mean[middle, columns])
        variances.append(variances[-1][rows, middle] + variance[middle, columns])
    return np.stack(shares), np.stack(means), np.stack(variances)


def start(options: PathOptions) -> np.ndarray:
    """(LEVELS,) log score of each level as the first one that was found."""
    first = np.zeros(LEVELS)
    first[NAMES.index("T13")], first[NAMES.index("L6")], first[S1_INDEX] = options.t13, options.l6, options.missed
    return first


def link(step_mm: float, size: float, options: PathOptions) -> np.ndarray:
    """(LEVELS, LEVELS) log score of going from each level (row) to each level (column) over a distance.

    Args:
        step_mm: the distance; NaN where it is not known.
        size: of the patient, relative to the mean.
        options: costs.
    """
    shares, means, variances = _moves(options)
    if not np.isfinite(step_mm):
        return shares.max(0)
    squared = (step_mm - size * means) ** 2 / (options.spread**2 * np.maximum(variances, 1e-6))
    overlapping = step_mm < options.overlap * size * means
    return (shares - options.spacing * np.minimum(squared / 2, 9.0) + options.overlapping * overlapping).max(0)


@cache
def _crossings() -> np.ndarray:
    """(LEVELS, LEVELS) place in `END_NAMES` of the upper level of a move, 0 if it stays in its region."""
    regions = np.array([region_index(level) for level in range(LEVELS)])
    crossing: np.ndarray = np.zeros((LEVELS, LEVELS), int)
    for region, end in enumerate(LAST_OF_REGION):
        crossing[(regions[:, None] == region) & (regions[None] == region + 1)] = end
    return crossing


def last_evidence(log_end: np.ndarray, options: PathOptions) -> np.ndarray:
    """(LEVELS, LEVELS) what the network says of the upper detection being the last of its region, for every move.

    Args:
        log_end: (7,) log probabilities of that detection, in the order of `END_NAMES`.
        options: costs.
    """
    not_last = np.log(max(1 - np.exp(log_end[list(LAST_OF_REGION)]).sum(), 1e-4))
    said = np.maximum(log_end, np.log(1e-4)).copy()
    said[0] = not_last
    return options.end * said[_crossings()]
