"""From both views' detections to vertebrae: which belong together, in which order, and which levels they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.localization.anchored import find_anchored, read_anchored, whole_vertebrae
from scripts.localization.anchors import Anchor
from scripts.localization.completion import complete_pairs
from scripts.localization.detection import Detections
from scripts.localization.found import Localization, Vertebra, reading_warnings, why_uncertain
from scripts.localization.pairing import Pairing, PairingOptions, pair_by_distance, pair_by_sequence
from scripts.localization.path import Known, PathOptions, Reading, read_levels
from scripts.localization.shared_rows import share_rows

NOTHING_FOUND = "no vertebra was found in the films; are they radiographs of a spine?"
# Of AP and LAT, each (row, column) in mm.
PixelSizes = Sequence[np.ndarray]


def decode(
    views: tuple[Detections, Detections],
    sizes: PixelSizes,
    geometry: BiplanarGeometry | None,
    pairing_options: PairingOptions,
    path_options: PathOptions,
    score_bias: float,
    anchors: Sequence[Anchor] = (),
    shapes: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> Localization:
    """All vertebrae of two views.

    Args:
        views: detections in AP and LAT, in pixels of the films; one of them may be empty.
        sizes: of the films' pixels at the patient.
        geometry: of both films; without it they are matched by their order alone.
        pairing_options: how detections are matched.
        path_options: how levels are read.
        score_bias: added to the log odds of a vertebra's score, as calibration measured it.
        anchors: what the user says of levels.
        shapes: of the films, (rows, columns); only of use with anchors.

    Raises:
        UserError: nothing was detected, or the anchors do not fit it.
    """
    if not any(len(view) for view in views):
        raise UserError(NOTHING_FOUND)
    views, places = find_anchored(views, anchors)
    ap, lat = views
    pairing = _pair(ap, lat, sizes, geometry, pairing_options)
    order = _heights(pairing, ap, lat, sizes)
    pairing = Pairing(pairing.ap[order], pairing.lat[order], pairing.residual_mm[order])
    if geometry is not None:
        views = ap, lat = share_rows(views, pairing, geometry, pairing_options.lateral_share)
    log_level, log_end = (_together(pairing, getattr(ap, n), getattr(lat, n)) for n in ("log_level", "log_end"))
    score = _scores(pairing, ap.score, lat.score)
    steps = _steps(pairing, ap, lat, sizes, geometry)

    def read(known: Known | None) -> Reading:
        return read_levels(log_level, log_end, score, steps, path_options, known)

    if anchors:
        whole = whole_vertebrae(pairing, views, shapes)
        reading, said = read_anchored(read, anchors, places, pairing, whole)
    else:
        reading, said = read(None), []
    confidence = 1 / (1 + np.exp(-score_bias) * (1 - score) / np.maximum(score, 1e-6))
    vertebrae = [
        Vertebra(
            int(level), int(pairing.ap[i]), int(pairing.lat[i]), reading.posterior[i], float(confidence[i]),
            float(pairing.residual_mm[i]),
        )
        for i, level in enumerate(reading.levels)
        if level >= 0
    ]  # fmt: skip
    if geometry is not None:
        views, vertebrae = complete_pairs(views, vertebrae, geometry)
    doubt = "" if anchors else why_uncertain(vertebrae, reading, views)
    warnings = [*said, *reading_warnings(vertebrae, doubt)]
    pixel_mm = tuple((float(s[0]), float(s[1])) for s in sizes)
    return Localization(views, vertebrae, reading, warnings, (pixel_mm[0], pixel_mm[1]), tuple(anchors), bool(doubt))


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
    shifted = total - total.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


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
