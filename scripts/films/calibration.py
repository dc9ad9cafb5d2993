"""What the marks say about films that do not know their own scale or how they lie to each other.

A film without a pixel spacing takes it from the spine (`scripts.films.scale_estimate`).

Two exposures made one after the other share no height. The lateral film is then moved so that the marks of both views
meet, and so that the spine lies in the plane in which each film's spacing holds. If its file places the lateral film in
the world, and that of the frontal one does not, the frontal film is moved instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Films
from scripts.films.pair import pair_geometry
from scripts.films.scale_estimate import estimate_scale
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.annotations import Annotations

ROUNDS = 20


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
    # The marks of the next level fit nearly as well: patients who lean spoil the pattern of heights more than that.
    line = (
        f"the films share no height: the {name} one was moved until the marks met, so nothing checks that equal names "
        "are the same vertebra in both"
    )
    return replace(films, geometry=geometry, registered=True, warnings=(*films.warnings, line))


def _with_moved(films: Films, isocentre_mm: np.ndarray) -> BiplanarGeometry:
    x, y, z = (float(value) for value in isocentre_mm)
    return pair_geometry(films.ap, films.lat, (x, y, z))
