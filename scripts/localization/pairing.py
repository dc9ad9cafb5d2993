"""Which detection of one view is which of the other: two lists from head to foot, aligned like sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class PairingOptions:
    """Costs of an alignment.

    Args:
        sigma_mm: expected distance of two rays through one vertebra, where the geometry is known.
        level_weight: of the views' agreement on the level.
        gap: cost of a detection that the other view lacks.
        farthest_mm: rays farther apart than this are never paired.
        lateral_share: weight of the lateral mark in the rows that a pair shares; the rest is the frontal one's.
        offset_mm: how far the films' heights may differ where the geometry is not known (standard deviation).
        scale_spread: of the logarithm of the ratio of the views' magnifications there (standard deviation).
        unknown_scale_spread: the same where the pixels' sizes are not known: each is then one of ten guesses.
    """

    sigma_mm: float = 4.0
    level_weight: float = 1.0
    gap: float = 3.0
    farthest_mm: float = 20.0
    lateral_share: float = 0.65
    offset_mm: float = 60.0
    scale_spread: float = 0.1
    unknown_scale_spread: float = 0.2


@dataclass(frozen=True)
class Pairing:
    """Matched detections.

    Args:
        ap: (N,) index of each vertebra's detection in the AP view, -1 where only the LAT view has it; head to foot.
        lat: (N,) index of its detection in the LAT view, -1 where only the AP view has it.
        residual_mm: (N,) distance of the two rays (or the mismatch of heights), NaN for those in one view.
    """

    ap: np.ndarray
    lat: np.ndarray
    residual_mm: np.ndarray


def agreement(log_ap: np.ndarray, log_lat: np.ndarray) -> np.ndarray:
    """(N, M) log probability that two detections are of one level, from (N, LEVELS) and (M, LEVELS)."""
    return logsumexp(log_ap[:, None] + log_lat[None], axis=-1)


def pair_by_distance(
    distance_mm: np.ndarray, log_ap: np.ndarray, log_lat: np.ndarray, options: PairingOptions
) -> Pairing:
    """Alignment where the geometry is known.

    Args:
        distance_mm: (N, M) between the rays through AP detection i and LAT detection j, both lists from head to foot.
        log_ap: (N, LEVELS) log probabilities.
        log_lat: (M, LEVELS).
        options: costs of distances, of different levels and of unmatched detections.
    """
    cost = distance_mm**2 / (2 * options.sigma_mm**2) - options.level_weight * _bounded(agreement(log_ap, log_lat))
    cost = np.where(distance_mm > options.farthest_mm, np.inf, cost)
    return _align(cost, distance_mm, options.gap)[0]


def pair_by_sequence(
    ap_rows_mm: np.ndarray, lat_rows_mm: np.ndarray, log_ap: np.ndarray, log_lat: np.ndarray, options: PairingOptions
) -> Pairing:
    """Alignment where it is not: the best affine map of heights, from many starts, refined three times.

    Heights are of little use there, so that the levels count twice.

    Args:
        ap_rows_mm: (N,) heights of the detections, ascending.
        lat_rows_mm: (M,).
        log_ap: (N, LEVELS).
        log_lat: (M, LEVELS).
        options: costs of distances, of different levels and of unmatched detections.
    """
    level_cost = -2 * options.level_weight * _bounded(agreement(log_ap, log_lat))
    best: tuple[float, Pairing] | None = None
    if not len(ap_rows_mm) or not len(lat_rows_mm):
        return _align(np.empty((len(ap_rows_mm), len(lat_rows_mm))), np.empty((0, 0)), options.gap)[0]
    starts = np.arange(-2.5, 2.51, 0.2) * options.offset_mm
    for scale in np.exp(options.scale_spread * np.array([-1.0, 0.0, 1.0])):
        for offset in starts:
            a, b = float(scale), float(offset)
            for _ in range(3):
                away = np.abs(ap_rows_mm[:, None] - (a * lat_rows_mm + b)[None])
                pairing, cost = _align(away**2 / (2 * 6.0**2) + level_cost, away, options.gap)
                both = (pairing.ap >= 0) & (pairing.lat >= 0)
                if both.sum() < 3:
                    break
                a, b = np.polyfit(lat_rows_mm[pairing.lat[both]], ap_rows_mm[pairing.ap[both]], 1)
                if a <= 0 or abs(np.log(a)) > 3.5 * options.scale_spread:
                    break
            else:
                total = cost + 0.5 * (b / options.offset_mm) ** 2 + 0.5 * (np.log(a) / options.scale_spread) ** 2
                if best is None or total < best[0]:
                    best = (total, pairing)
    if best is None:
        return _align(level_cost, np.zeros_like(level_cost), options.gap)[0]
    return best[1]


def _bounded(log_probability: np.ndarray) -> np.ndarray:
    """No two opinions rule each other out."""
    return np.maximum(log_probability, -8.0) + 3.0


def _align(cost: np.ndarray, distance_mm: np.ndarray, gap: float) -> tuple[Pairing, float]:
    """Needleman and Wunsch's alignment of two lists (1970) by costs (N, M) and gaps."""
    n, m = cost.shape
    total = np.zeros((n + 1, m + 1))
    total[:, 0], total[0] = gap * np.arange(n + 1), gap * np.arange(m + 1)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            total[i, j] = min(total[i - 1, j - 1] + cost[i - 1, j - 1], total[i - 1, j] + gap, total[i, j - 1] + gap)
    found: list[tuple[int, int, float]] = []
    i, j = n, m
    while i or j:
        if i and j and total[i, j] == total[i - 1, j - 1] + cost[i - 1, j - 1]:
            i, j = i - 1, j - 1
            found.append((i, j, float(distance_mm[i, j])))
        elif i and total[i, j] == total[i - 1, j] + gap:
            i -= 1
            found.append((i, -1, np.nan))
        else:
            j -= 1
            found.append((-1, j, np.nan))
    found.reverse()
    pairing = Pairing(
        np.array([f[0] for f in found], int),
        np.array([f[1] for f in found], int),
        np.array([f[2] for f in found], float),
    )
    return pairing, float(total[n, m])
