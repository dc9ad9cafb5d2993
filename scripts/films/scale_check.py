"""Whether the marks fit what is known of their films: the size of the spine, its neighbours, and both films' scales.

A wrong pixel size makes a spine that nobody has, and a wrong name a gap or two vertebrae in one place. All of this is
worded as a question: children are smaller, and some spines are unlike others.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from scripts.films.film import Films
from scripts.films.scale_estimate import compare_distances, ratio_sd
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.annotations import Annotations
from scripts.levels import level_name

UNLIKELY_SD = 3.0
# Fractures, operations and marks of bodies that are hard to see change single distances by less than this share and by
# fewer standard deviations; a level that was skipped doubles one, a name that was halves it.
NEIGHBOUR_SHARE, NEIGHBOUR_SD = 0.45, 4.0
# How a film's view leans against the patient is not known of most, and changes a spine's length in it by less.
LEAST_RATIO = 0.1


@dataclass(frozen=True)
class ScaleFit:
    """The marks of calibrated films against what people have.

    Args:
        levels: VerSe numbers that are marked in both views.
        length_mm: (N-1,) distances of the bodies.
        expected_mm: (N-1,) of a person of the size that the other distances say.
        unlike: (N-1,) bool, distances that nobody has.
        log_size: log of the spine's size over that of an average adult, without the distances that nobody has.
        size_sd: standard deviation of ``log_size`` between people.
        log_ratio: log of the AP film's scale over the one that the LAT film's marks give it.
        ratio_sd: standard deviation of ``log_ratio``.
    """

    levels: list[int]
    length_mm: np.ndarray
    expected_mm: np.ndarray
    unlike: np.ndarray
    log_size: float
    size_sd: float
    log_ratio: float
    ratio_sd: float


def check_scale(films: Films, annotations: Annotations) -> list[str]:
    """Questions about scale and levels that the marks of calibrated films raise; none if they fit.

    Args:
        films: calibrated.
        annotations: their marks.
    """
    fit = scale_fit(films.geometry, annotations)
    if fit is None:
        return []
    lines = [
        f"{level_name(upper)} and {level_name(lower)} lie {length:.0f} mm apart; the rest of this spine suggests "
        f"{expected:.0f} mm: is a level skipped, or a name wrong?"
        for (upper, lower), length, expected, unlike in zip(
            itertools.pairwise(fit.levels), fit.length_mm, fit.expected_mm, fit.unlike, strict=True
        )
        if unlike
    ]
    known = [sd == 0 for sd in films.scale_sd]
    if any(known) and abs(fit.log_size) > UNLIKELY_SD * fit.size_sd:
        word, child = ("larger", "") if fit.log_size > 0 else ("smaller", ", or is it a child")
        lines.append(
            f"with this scale the spine is {_percent(fit.log_size)} % {word} than that of an average adult (people "
            f"differ by {100 * fit.size_sd:.0f} %, 1 SD): are the pixel sizes and the levels right{child}?"
        )
    if all(known) and abs(fit.log_ratio) > max(UNLIKELY_SD * fit.ratio_sd, math.log1p(LEAST_RATIO)):
        word = "longer" if fit.log_ratio > 0 else "shorter"
        lines.append(
            f"by their pixel sizes the spine is {_percent(fit.log_ratio)} % {word} in AP than in LAT (marks tell this "
            f"to {100 * fit.ratio_sd:.1f} %): are both pixel sizes right, and are equal names the same vertebra?"
        )
    return lines


def scale_fit(geometry: BiplanarGeometry, annotations: Annotations) -> ScaleFit | None:
    """How well marks fit their films; None if fewer than two levels are marked in both.

    Args:
        geometry: of calibrated films.
        annotations: their marks.
    """
    levels = annotations.paired_levels()
    if len(levels) < 2:
        return None
    marks = [np.array([view.by_level()[n].centroid for n in levels]) for view in (annotations.ap, annotations.lat)]
    points, _ = geometry.back_project(*marks)
    found = compare_distances(levels, points)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1)
    unlike = _unlike(found.log_scale, found.sd)
    like = ~unlike if not unlike.all() else np.ones_like(unlike)
    log_scale, size_sd = found.common(like)
    expected = length * np.exp(found.log_scale - log_scale)
    log_ratio = _log_ratio(geometry, points, marks)
    return ScaleFit(levels, length, expected, unlike, -log_scale, size_sd, log_ratio, ratio_sd(found.extent_mm))


def _unlike(log_scale: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Which distances are unlike the middle one; of two nobody can say which."""
    if len(sd) < 3:
        return np.zeros(len(sd), bool)
    share = np.abs(np.expm1(np.median(log_scale) - log_scale))
    return share > np.maximum(NEIGHBOUR_SD * sd, NEIGHBOUR_SHARE)


def _log_ratio(geometry: BiplanarGeometry, points: np.ndarray, marks: list[np.ndarray]) -> float:
    """How much longer a spine is along the rows of AP than along those of LAT, as a logarithm.

    Args:
        geometry: of the films.
        points: (N, 3) mm, between what the marks of both views say.
        marks: AP and LAT, (N, 2) pixels.
    """
    # What each film's rows say beyond the points, in mm down.
    ap, lat = (
        (pixels - view.project(points))[:, 0] * view.pixel_size_mm(points)[:, 0]
        for view, pixels in zip((geometry.ap, geometry.lat), marks, strict=True)
    )
    down = -(points[:, 2] - points[:, 2].mean())
    extent = float(down @ down)
    return float(down @ (ap - lat)) / extent if extent else 0.0


def _percent(logarithm: float) -> str:
    return f"{100 * abs(math.expm1(logarithm)):.0f}"
