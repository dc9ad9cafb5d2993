"""How large the pixels of two films are, by the distances of the vertebrae that are marked in them.

A film without a pixel spacing takes it from the spine itself: the distances of neighbouring body centroids, level by
level, are known in the population (``scripts/anatomy/distances.json``, 2116 CT scans). People differ in size by
6.3 % (standard deviation), so that is the least uncertainty such a scale can have; shape, and angles, do not suffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.anatomy.distances import expected_distances
from scripts.errors import UserError
from scripts.io.annotations import Annotations

# Spread of one scale for a whole spine (VID, 2116 scans; see `PostureOptions.size`).
PERSON_SD = 0.063
# How far a mark is off, in mm along each axis.
MARK_SD_MM = 1.5
LARGEST_RATIO = 3.0
SHORTEST = 1e-6  # of two marks at one place


@dataclass(frozen=True)
class ScaleEstimate:
    """mm a pixel of both films, in the plane of the spine.

    Args:
        ap_mm: of the AP film.
        lat_mm: of the LAT film.
        sd: relative standard deviation that both share.
        pairs: neighbours it rests on.
    """

    ap_mm: float
    lat_mm: float
    sd: float
    pairs: int


@dataclass(frozen=True)
class Distances:
    """Distances of marked levels that follow each other, against those that people have.

    Args:
        log_scale: (N,) log of the expected distance over the one of the marks.
        sd: (N,) standard deviations, between people of one size and by the places of the marks.
        extent_mm: how long the marked part is expected to be.
    """

    log_scale: np.ndarray
    sd: np.ndarray
    extent_mm: float

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.sd)

    def common(self, of: np.ndarray | None = None) -> tuple[float, float]:
        """Weighted mean of the log scales, and its standard deviation for a person of any size.

        Args:
            of: (N,) bool, which distances count; all if None.
        """
        of = np.ones(self.pairs, bool) if of is None else of
        weight = 1 / self.sd[of] ** 2
        mean = float(np.sum(weight * self.log_scale[of]) / weight.sum())
        return mean, math.sqrt(PERSON_SD**2 + 1 / weight.sum())


def compare_distances(levels: Sequence[int], centres: np.ndarray) -> Distances:
    """The distances of marked bodies against those that are expected.

    Args:
        levels: VerSe numbers, head to foot; two at least.
        centres: (N, 3) of the bodies, in any unit.
    """
    mean, spread = expected_distances(levels, centres)
    length = np.maximum(np.linalg.norm(np.diff(centres, axis=0), axis=1), SHORTEST)
    # Of single distances; the errors of marks that two neighbours share cancel, so this is on the safe side.
    sd = np.sqrt((spread / mean) ** 2 + 2 * (MARK_SD_MM / mean) ** 2)
    return Distances(np.log(mean / length), sd, float(mean.sum()))


def ratio_sd(extent_mm: float) -> float:
    """Relative standard deviation of the ratio of two films' scales, from the heights of marks over some length."""
    return 2 * MARK_SD_MM / extent_mm


def estimate_scale(annotations: Annotations, ap_mm: float | None = None, lat_mm: float | None = None) -> ScaleEstimate:
    """Scale of two films from the levels' expected spacing; square pixels, rays nearly parallel.

    Heights are common to both views, so the ratio of the two scales follows from the rows of the marks; one known
    scale therefore gives the other without any statistics.

    Args:
        annotations: marks of both views.
        ap_mm: the AP film's scale if it is known.
        lat_mm: the LAT film's.

    Raises:
        UserError: fewer than two levels are marked in both views, or the marks' order makes no sense.
    """
    levels = annotations.paired_levels()
    if len(levels) < 2:
        raise UserError("the films have no scale and fewer than two levels are marked in both: give --spacing")
    frontal, lateral = annotations.ap.by_level(), annotations.lat.by_level()
    ap = np.array([frontal[n].centroid for n in levels])
    lat = np.array([lateral[n].centroid for n in levels])
    if ap[-1, 0] <= ap[0, 0] or lat[-1, 0] <= lat[0, 0]:
        raise UserError("the marks run from foot to head: is a film upside down, or are the levels?")
    # Rows of one view against the other's: mm a pixel of LAT over that of AP.
    ratio = _slope(lat[:, 0], ap[:, 0])
    if not 1 / LARGEST_RATIO < ratio < LARGEST_RATIO:
        raise UserError(f"heights in the two views differ by a factor of {ratio:.1f}; are the levels right?")
    centres = np.column_stack([(ap[:, 0] + ratio * lat[:, 0]) / 2, ap[:, 1], ratio * lat[:, 1]])
    found = compare_distances(levels, centres)
    of_ratio = ratio_sd(found.extent_mm)
    if ap_mm is not None:
        return ScaleEstimate(ap_mm, ap_mm * ratio, of_ratio, found.pairs)
    if lat_mm is not None:
        return ScaleEstimate(lat_mm / ratio, lat_mm, of_ratio, found.pairs)
    log_scale, sd = found.common()
    scale = math.exp(log_scale)
    return ScaleEstimate(scale, scale * ratio, math.hypot(sd, of_ratio / 2), found.pairs)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of a line through points whose errors are alike along both axes (reduced major axis)."""
    return float(np.std(y) / np.std(x))
