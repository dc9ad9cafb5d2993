"""What the marks say about films that do not know their own scale or how they lie to each other.

A film without a pixel spacing takes it from the spine itself: the distances of neighbouring body centroids, level by
level, are known in the population (``scripts/anatomy/distances.json``, 2116 CT scans). People differ in size by
6.3 % (standard deviation), so that is the least uncertainty such a scale can have; shape, and angles, do not suffer.

Two exposures made one after the other share no height. The lateral film is then moved so that the marks of both views
meet, and so that the spine lies in the plane in which each film's spacing holds. If its file places the lateral film in
the world, and that of the frontal one does not, the frontal film is moved instead.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from scripts.anatomy.absent import absent_level
from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.errors import UserError
from scripts.films.film import Films
from scripts.films.pair import pair_geometry
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.annotations import Annotations
from scripts.levels import LEVEL_NUMBERS, LEVEL_ORDER

# Spread of one scale for a whole spine (VID, 2116 scans; see `PostureOptions.size`).
PERSON_SD = 0.063
# How far a mark is off, in mm along each axis.
MARK_SD_MM = 1.5
# The statistics' body points and VerSe's centroids disagree systematically by this share of the distance (same
# patients: L4-L5 35.1 against 32.3 mm; the other pairs agree within 3 %).
DEFINITION_SD = 0.03
DEFINITION_SD_OF = {"C1-C2": 0.09, "L3-L4": 0.07, "L4-L5": 0.1, "L5-L6": 0.17}
LARGEST_RATIO = 3.0
ROUNDS = 20


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


def calibrate(films: Films, annotations: Annotations) -> Films:
    """The films with every scale known and in one frame; unchanged if they already are.

    Args:
        films: both, as read.
        annotations: marks of both views.

    Returns:
        the films with their geometry, uncertainty and warnings brought up to date.

    Raises:
        UserError: the marks are too few, or not those of these films.

    >>> from scripts.films.pair import read_films
    >>> from scripts.io.annotations import read_annotations
    >>> from scripts.paths import BUNDLE_ROOT
    >>> sample = BUNDLE_ROOT / "docs" / "sample"
    >>> films = read_films(sample / "ap.nii.gz", sample / "lat.nii.gz")  # they say how they lie
    >>> calibrate(films, read_annotations(sample / "annotations.json")) is films
    True
    """
    films.check_marks(annotations)
    if films.in_one_frame:
        return films
    if films.ap.spacing_mm is None or films.lat.spacing_mm is None:
        films = _scaled(films, annotations)
    return films if films.registered else _registered(films, annotations)


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
    falls_ap, falls_lat = np.diff(ap[:, 0]), np.diff(lat[:, 0])
    if ap[-1, 0] <= ap[0, 0] or lat[-1, 0] <= lat[0, 0]:
        raise UserError("the marks run from foot to head: is a film upside down, or are the levels?")
    # Rows of one view against the other's: mm a pixel of LAT over that of AP.
    ratio = _slope(lat[:, 0], ap[:, 0])
    if not 1 / LARGEST_RATIO < ratio < LARGEST_RATIO:
        raise UserError(f"heights in the two views differ by a factor of {ratio:.1f}; are the levels right?")
    length_px = np.sqrt(
        ((falls_ap + ratio * falls_lat) / 2) ** 2 + np.diff(ap[:, 1]) ** 2 + (ratio * np.diff(lat[:, 1])) ** 2
    )
    absent = absent_level(levels, np.column_stack([(ap[:, 0] + ratio * lat[:, 0]) / 2, ap[:, 1], ratio * lat[:, 1]]))
    expected = np.array([_expected(a, b, absent) for a, b in itertools.pairwise(levels)])
    mean, spread = expected.T
    extent = float(mean.sum())
    ratio_sd = math.sqrt(2) * math.sqrt(2) * MARK_SD_MM / extent
    if ap_mm is not None:
        return ScaleEstimate(ap_mm, ap_mm * ratio, ratio_sd, len(mean))
    if lat_mm is not None:
        return ScaleEstimate(lat_mm / ratio, lat_mm, ratio_sd, len(mean))
    # Single distances; the errors of marks that two neighbours share cancel, so this is on the safe side.
    single = np.sqrt((spread / mean) ** 2 + 2 * (MARK_SD_MM / mean) ** 2)
    weight = 1 / single**2
    scale = math.exp(float(np.sum(weight * np.log(mean / length_px)) / weight.sum()))
    sd = math.sqrt(PERSON_SD**2 + 1 / weight.sum() + ratio_sd**2 / 4)
    return ScaleEstimate(scale, scale * ratio, sd, len(mean))


def _expected(upper: int, lower: int, absent: int | None) -> tuple[float, float]:
    """Distance of two marked levels and its spread between people of one size, mm; over unmarked levels it adds up."""
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


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of a line through points whose errors are alike along both axes (reduced major axis)."""
    return float(np.std(y) / np.std(x))


def _scaled(films: Films, annotations: Annotations) -> Films:
    known = [None if v.film.spacing_mm is None else float(v.film.spacing_mm[0]) for v in films.views]
    estimate = estimate_scale(annotations, *known)
    out, lines, spread = [], [], []
    for view, given, value in zip(films.views, known, (estimate.ap_mm, estimate.lat_mm), strict=True):
        if given is not None:
            out.append(view.film)
            spread.append(0.0)
            continue
        out.append(replace(view.film, spacing_mm=(value, value)))
        spread.append(estimate.sd)
        source = (
            f"expected distances of {estimate.pairs} pairs of neighbouring levels"
            if known == [None, None]
            else "the other film's scale and the heights of the marks"
        )
        lines.append(
            f"{view.name}: UNCALIBRATED, {value:.4f} mm a pixel estimated from {source}; "
            f"all lengths are uncertain by {100 * estimate.sd:.1f} % (1 SD), angles are not"
        )
    return replace(
        films,
        ap=out[0],
        lat=out[1],
        geometry=pair_geometry(out[0], out[1]),
        warnings=(*films.warnings, *lines),
        scale_sd=(spread[0], spread[1]),
    )


def _registered(films: Films, annotations: Annotations) -> Films:
    """The film that its file does not place moved until the marks meet, and both isocentres into the spine."""
    levels = annotations.paired_levels()
    if not levels:
        raise UserError("no vertebra is marked in both views")
    frontal, lateral = annotations.ap.by_level(), annotations.lat.by_level()
    ap = np.array([frontal[n].centroid for n in levels])
    lat = np.array([lateral[n].centroid for n in levels])
    name = "lateral" if films.lat.placed is None else "frontal"
    isocentre = np.zeros(3)
    geometry = _with_moved(films, isocentre)
    for _ in range(ROUNDS):
        points, _ = geometry.back_project(ap, lat)
        # What the marks miss each other by, as seen in each film; both see half of it.
        missed = sum(
            (pixels - view.project(points))[:, 0] * view.pixel_size_mm(points)[:, 0] * sign
            for view, pixels, sign in ((geometry.ap, ap, 1.0), (geometry.lat, lat, -1.0))
        )
        # How far the spine lies from the plane in which each film's spacing holds.
        beyond_lat = points[:, 0].mean() - geometry.lat.isocentre_mm[0]
        beyond_ap = points[:, 1].mean() - geometry.ap.isocentre_mm[1]
        # World z falls where rows grow.
        down = float(np.median(missed))
        move = np.array([beyond_lat, -beyond_ap, -down] if name == "lateral" else [-beyond_lat, beyond_ap, down])
        isocentre = isocentre + move
        geometry = _with_moved(films, isocentre)
        if np.abs(move).max() < 1e-4:
            break
    line = f"the films share no height: the {name} one was moved until the marks met"
    return replace(films, geometry=geometry, registered=True, warnings=(*films.warnings, line))


def _with_moved(films: Films, isocentre_mm: np.ndarray) -> BiplanarGeometry:
    x, y, z = (float(value) for value in isocentre_mm)
    return pair_geometry(films.ap, films.lat, (x, y, z))
