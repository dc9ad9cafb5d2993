"""How spines stand: chains of body centroids drawn from measured statistics.

Distances, directions and how they go together are those of `scripts.anatomy.distances`. Those patients lay; standing
adds lordosis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from scripts.anatomy.distances import measured_pair, pair_correlations, pair_statistics
from scripts.levels import LEVEL_NUMBERS, level_rank

LARGEST_DEVIATION = 2.2
# Lordosis T12-S1 is 49.8 degrees standing and 36.8 lying (n = 627), most of the difference below L3: PMC6680033.
STANDING_LORDOSIS_DEG = 13.0
# How it spreads over the pairs; the rest lies between L5 and the sacrum.
STANDING_SHARE = {"T12-L1": 0.03, "L1-L2": 0.07, "L2-L3": 0.1, "L3-L4": 0.25, "L4-L5": 0.55}


@dataclass(frozen=True)
class PostureOptions:
    """Who is drawn.

    Args:
        size: spread of the one scale that a whole spine has (standard deviation of its logarithm).
        curve: how far curves go from the mean ones, 1 as in the population.
        standing: 0 lying, 1 standing.
        scoliosis_share: of the spines.
        cobb_deg: smallest and largest angle of a scoliosis.
        rotation_per_cobb: axial rotation at the apex as a share of the Cobb angle, smallest and largest.
    """

    size: float = 0.063
    curve: float = 1.0
    standing: float = 1.0
    scoliosis_share: float = 0.3
    cobb_deg: tuple[float, float] = (10.0, 50.0)
    rotation_per_cobb: tuple[float, float] = (0.3, 0.5)


@dataclass(frozen=True)
class Posture:
    """A spine's centroids and how its vertebrae are turned.

    Args:
        levels: (N,) VerSe numbers, head to foot.
        centroids: (N, 3) mm along Inferior, Posterior, Left; the first is the origin.
        axial_rotation_deg: (N,) turn about the vertebra's own long axis, + turns its front to the patient's left.
        cobb_deg: of the scoliosis, 0 without one.
    """

    levels: tuple[int, ...]
    centroids: np.ndarray
    axial_rotation_deg: np.ndarray
    cobb_deg: float

    def frames(self) -> np.ndarray:
        """(N, 3, 3) rotations from each vertebra's own axes (Inferior, Posterior, Left) to the patient's.

        A vertebra's long axis is the direction between its two neighbours. That of C1, whose mark is near to C2's and
        scatters, is the direction to C3.
        """
        tangent = np.gradient(self.centroids, axis=0) if len(self.levels) > 1 else np.array([[1.0, 0, 0]])
        if self.levels[:3] == (1, 2, 3):
            tangent[0] = self.centroids[2] - self.centroids[0]
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        angle = np.radians(self.axial_rotation_deg)
        left = np.array([0.0, 0.0, 1.0]) - tangent[:, 2:] * tangent
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        posterior = np.cross(left, tangent)
        turned_posterior = np.cos(angle)[:, None] * posterior - np.sin(angle)[:, None] * left
        turned_left = np.cos(angle)[:, None] * left + np.sin(angle)[:, None] * posterior
        return np.stack([tangent, turned_posterior, turned_left], axis=2)


def draw_posture(levels: tuple[int, ...], options: PostureOptions, rng: np.random.Generator) -> Posture:
    """A random spine of the given levels.

    Args:
        levels: VerSe numbers, head to foot; T13 may follow T12, and a number may be missing.
        options: who is drawn.
        rng: source of randomness.
    """
    pairs = [measured_pair(upper, lower) for upper, lower in itertools.pairwise(levels)]
    statistics = pair_statistics()
    scale = float(np.exp(np.clip(rng.normal(0, options.size), -2.5 * options.size, 2.5 * options.size)))
    deviation = {name: _correlated(pairs, name, rng) for name in ("distance", "sagittal", "frontal")}
    distance = np.array([statistics[p]["distance_mm"] for p in pairs])
    # Half of the spread of distances is the spine's size, which is drawn for all of them at once.
    own_spread = np.array([statistics[p]["distance_sd_after_scale_mm"] for p in pairs])
    distance = scale * (distance + own_spread * deviation["distance"])
    sagittal = np.array([statistics[p]["sagittal_deg"] for p in pairs])
    # The marks of C1 scatter more than necks do.
    spread = np.array([min(statistics[p]["sagittal_sd_deg"], 12.0) for p in pairs])
    sagittal = sagittal + options.curve * spread * deviation["sagittal"]
    sagittal += _standing(pairs, options.standing)
    spread = np.array([min(statistics[p]["frontal_sd_deg"], 6.0) for p in pairs])
    frontal = options.curve * spread * 0.6 * deviation["frontal"]  # part of the measured spread is the marks' own
    cobb = 0.0
    rotation = rng.normal(0, 2.0, len(levels))
    if rng.random() < options.scoliosis_share:
        cobb = float(rng.uniform(*options.cobb_deg))
        tilt, turn = _scoliosis(levels, cobb, rng)
        frontal = frontal + tilt
        rotation = rotation + turn * cobb * rng.uniform(*options.rotation_per_cobb)
    sagittal, frontal = np.radians(sagittal), np.radians(frontal)
    steps = np.stack([np.cos(sagittal) * np.cos(frontal), np.sin(sagittal) * np.cos(frontal), np.sin(frontal)], axis=1)
    centroids = np.concatenate([np.zeros((1, 3)), np.cumsum(distance[:, None] * steps, axis=0)])
    return Posture(tuple(levels), centroids, rotation, cobb)


def _correlated(pairs: list[str], name: str, rng: np.random.Generator) -> np.ndarray:
    """Standard normal deviations of the pairs, correlated as measured, none further out than a real one."""
    order, correlations = pair_correlations()
    rows = [order.index(pair) for pair in pairs]
    matrix = correlations[name][np.ix_(rows, rows)] + 1e-6 * np.eye(len(rows))
    # A pair that occurs twice makes the matrix singular; the small diagonal keeps the factor real.
    values, vectors = np.linalg.eigh(matrix)
    drawn = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(rows)))
    return np.clip(drawn, -LARGEST_DEVIATION, LARGEST_DEVIATION)


def _standing(pairs: list[str], amount: float) -> np.ndarray:
    """Extra sagittal direction of each pair: the lower lumbar spine runs further backwards going down."""
    added = np.array([STANDING_SHARE.get(pair, 0.0) for pair in pairs]) * STANDING_LORDOSIS_DEG * amount
    return np.cumsum(added)


def _scoliosis(levels: tuple[int, ...], cobb_deg: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frontal direction of each pair (degrees) and relative axial turn of each vertebra (-1 to 1) of one curve.

    Tilt is steepest at the two ends of the curve, Cobb/2 each, and passes zero at the apex, where the turn is largest.
    """
    apex = rng.integers(LEVEL_NUMBERS["T6"], LEVEL_NUMBERS["L3"] + 1)
    half_length = rng.uniform(3.0, 5.0)
    side = rng.choice([-1.0, 1.0])
    rank = np.array([level_rank(level) for level in levels])
    away = (rank - apex) / half_length
    between = (away[:-1] + away[1:]) / 2
    # sqrt(e) * x * exp(-x^2 / 2) has its extremes +-1 at x = +-1.
    tilt = -side * cobb_deg / 2 * np.sqrt(np.e) * between * np.exp(-(between**2) / 2)
    return tilt, side * np.exp(-(away**2) / 2)
