"""Both views' detections brought together: which are one vertebra, in which order, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.localization.anchored import find_anchored
from scripts.localization.anchors import Anchor
from scripts.localization.detection import Detections
from scripts.localization.pairing import Pairing, PairingOptions, pair_by_distance, pair_by_sequence
from scripts.localization.shared_rows import share_rows

NOTHING_FOUND = "no vertebra was found in the films; are they radiographs of a spine?"
# Of AP and LAT, each (row, column) in mm.
PixelSizes = Sequence[np.ndarray]


@dataclass(frozen=True)
class Matched:
    """Vertebrae of two views whose levels are still to be read.

    Args:
        views: detections in AP and LAT, in pixels of the films.
        pairing: of the detections, N vertebrae, head to foot.
        log_level: (N, LEVELS) log probabilities, both views together.
        log_end: (N, 7) of being first or last of a region, both views together.
        score: (N,) probability of being a vertebra.
        steps_mm: (N, N) distances between vertebrae.
        sizes: of the films' pixels at the patient.
        geometry: of both films, if it is known.
        anchors: what the user says of levels.
        places: for each anchor the index of its detection in its view, -1 for the lowest vertebra.
        shapes: of the films, (rows, columns).
    """

    views: tuple[Detections, Detections]
    pairing: Pairing
    log_level: np.ndarray
    log_end: np.ndarray
    score: np.ndarray
    steps_mm: np.ndarray
    sizes: PixelSizes
    geometry: BiplanarGeometry | None
    anchors: tuple[Anchor, ...]
    places: list[int]
    shapes: Sequence[tuple[int, int]]

    @property
    def in_both(self) -> np.ndarray:
        """Which of the N vertebrae both views show."""
        return np.flatnonzero((self.pairing.ap >= 0) & (self.pairing.lat >= 0))


def match_views(
    views: tuple[Detections, Detections],
    sizes: PixelSizes,
    geometry: BiplanarGeometry | None,
    options: PairingOptions,
    anchors: Sequence[Anchor] = (),
    shapes: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> Matched:
    """The vertebrae of two views.

    Args:
        views: detections in AP and LAT, in pixels of the films; one of them may be empty.
        sizes: of the films' pixels at the patient.
        geometry: of both films; without it they are matched by their order alone.
        options: how detections are matched.
        anchors: what the user says of levels.
        shapes: of the films, (rows, columns); only of use with anchors.

    Raises:
        UserError: nothing was detected, or an anchor's place is far from all detections.
    """
    if not any(len(view) for view in views):
        raise UserError(NOTHING_FOUND)
    views, places = find_anchored(views, anchors)
    ap, lat = views
    pairing = _pair(ap, lat, sizes, geometry, options)
    order = _heights(pairing, ap, lat, sizes)
    pairing = Pairing(pairing.ap[order], pairing.lat[order], pairing.residual_mm[order])
    if geometry is not None:
        views = ap, lat = share_rows(views, pairing, geometry, options.lateral_share)
    log_level, log_end = (_together(pairing, getattr(ap, n), getattr(lat, n)) for n in ("log_level", "log_end"))
    score = _scores(pairing, ap.score, lat.score)
    steps = _steps(pairing, ap, lat, sizes, geometry)
    return Matched(views, pairing, log_level, log_end, score, steps, sizes, geometry, tuple(anchors), places, shapes)


def _pair(
    ap: Detections, lat: Detections, sizes: PixelSizes, geometry: BiplanarGeometry | None, options: PairingOptions
) -> Pairing:
    if geometry is None:
        rows = ap.centroid[:, 0] * sizes[0][0], lat.centroid[:, 0] * sizes[1][0]
        return pair_by_sequence(rows[0], rows[1], ap.log_level, lat.log_level, options)
    n, m = len(ap), len(lat)
    residual = np.zeros((n, m))
    if n and m:
        i, j = (v.ravel() for v in np.indices((n, m)))
        residual = geometry.back_project(ap.centroid[i], lat.centroid[j])[1].reshape(n, m)
    return pair_by_distance(residual, ap.log_level, lat.log_level, options)


def _heights(pairing: Pairing, ap: Detections, lat: Detections, sizes: PixelSizes) -> np.ndarray:
    """Order from head to foot; the alignment has it already but for vertebrae seen in one view between two gaps."""
    both = (pairing.ap >= 0) & (pairing.lat >= 0)
    rows_ap, rows_lat = ap.centroid[:, 0] * sizes[0][0], lat.centroid[:, 0] * sizes[1][0]
    shift = np.median(rows_ap[pairing.ap[both]] - rows_lat[pairing.lat[both]]) if both.any() else 0.0
    heights = [rows_ap[i] if i >= 0 else rows_lat[j] + shift for i, j in zip(pairing.ap, pairing.lat, strict=True)]
    return np.argsort(heights, kind="stable") if not both.any() or _interleaved(pairing) else np.arange(len(heights))


def _interleaved(pairing: Pairing) -> bool:
    """Whether gaps of both views follow each other, in whatever order the alignment listed them."""
    kind = np.where(pairing.ap < 0, 1, np.where(pairing.lat < 0, 2, 0))
    return bool(np.any((kind[1:] > 0) & (kind[:-1] > 0) & (kind[1:] != kind[:-1])))


def _together(pairing: Pairing, ap: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Both views' log probabilities of each vertebra in one; neither may rule out what the other sees."""
    floor = np.log(1e-4)
    total = np.zeros((len(pairing.ap), ap.shape[1]))
    for index, values in ((pairing.ap, ap), (pairing.lat, lat)):
        seen = index >= 0
        total[seen] += np.maximum(values[index[seen]], floor)
    return log_softmax(total, axis=1)


def _scores(pairing: Pairing, ap: np.ndarray, lat: np.ndarray) -> np.ndarray:
    missed = np.ones(len(pairing.ap))
    for index, score in ((pairing.ap, ap), (pairing.lat, lat)):
        seen = index >= 0
        missed[seen] *= 1 - np.clip(score[index[seen]], 0, 0.999)
    return 1 - missed


def distances(points: np.ndarray) -> np.ndarray:
    """(N, N) distances between (N, D) points, in their unit."""
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def _steps(
    pairing: Pairing, ap: Detections, lat: Detections, sizes: PixelSizes, geometry: BiplanarGeometry | None
) -> np.ndarray:
    """(N, N) distances between vertebrae: in space where both were seen in both views, else in a view that has both."""
    count = len(pairing.ap)
    steps = np.full((count, count), np.nan)
    for index, view, size in ((pairing.ap, ap, sizes[0]), (pairing.lat, lat, sizes[1])):
        seen = np.flatnonzero(index >= 0)
        flat = distances(view.centroid[index[seen]] * np.asarray(size))
        block = steps[np.ix_(seen, seen)]
        # The longer of two projections is nearer to the truth.
        steps[np.ix_(seen, seen)] = np.fmax(block, flat)
    if geometry is not None:
        both = np.flatnonzero((pairing.ap >= 0) & (pairing.lat >= 0))
        if len(both):
            points, _ = geometry.back_project(ap.centroid[pairing.ap[both]], lat.centroid[pairing.lat[both]])
            steps[np.ix_(both, both)] = distances(points)
    return steps
