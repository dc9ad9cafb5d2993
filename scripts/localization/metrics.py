"""What was found against what is there: one row a vertebra and view, one a vertebra, one a case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.biplanar import View
from scripts.localization.film_cases import FilmCase, on_film
from scripts.localization.found import Localization
from scripts.localization.levels import COUNTED, NAMES, S1_INDEX, region_index

NEAR_MM, VERSE_MM = (5.0, 10.0), 20.0
REGIONS = ("cervical", "thoracic", "lumbar")


@dataclass(frozen=True)
class ViewRow:
    """A true vertebra in one view, or (without a level) a false detection.

    Args:
        case: film pair.
        subject: patient.
        view: ``ap`` or ``lat``.
        visible: true vertebrae in the view.
        region: of the true vertebra.
        level: its name; empty for a false detection.
        off_mm: distance of the nearest detection, NaN if there is none within 10 mm.
        corner_mm: mean distance of its four corners, NaN if they or their truth are missing.
        said: level given to that detection.
        whole: whether all of its body is in the view, as of `whole_bodies`; true of a false detection.
    """

    case: str
    subject: str
    view: str
    visible: int
    region: str
    level: str
    off_mm: float
    corner_mm: float
    said: str
    whole: bool


@dataclass(frozen=True)
class JointRow:
    """A true vertebra in both views together.

    Args:
        case: film pair.
        subject: patient.
        visible: true vertebrae in either view.
        region: of it.
        level: its name.
        identified: by VerSe's rule: what is called so is nearest to it, and nearer than 20 mm.
        strictly: the same, and nearer than half the distance to its next neighbour.
        off_mm: in space where it was found in both views, whatever it is called; else NaN.
        paired: 1 if its detections of both views were matched to each other, 0 if not, -1 if a view lacks it.
        confidence: of what was called so; NaN if nothing was.
        called_right: 1 if the vertebra found here bears its level, 0 if another, -1 if none was found.
        found_confidence: confidence of the vertebra found here; NaN if none was.
        whole: whether all of its body is in both views, as of `whole_bodies`.
    """

    case: str
    subject: str
    visible: int
    region: str
    level: str
    identified: bool
    strictly: bool
    off_mm: float
    paired: int
    confidence: float
    called_right: int
    found_confidence: float
    whole: bool


@dataclass(frozen=True)
class CaseRow:
    """A film pair.

    Args:
        case: film pair.
        subject: patient.
        visible: true vertebrae in either view.
        all_right: every true vertebra identified, and no other called a vertebra.
        shift: by how many levels all that was found is off, 0 if not all by the same.
        margin: the model's own.
        seconds: both views, all steps.
    """

    case: str
    subject: str
    visible: int
    all_right: bool
    shift: int
    margin: float
    seconds: float


def compare(
    name: str, subject: str, truth: FilmCase, found: Localization | None, seconds: float
) -> tuple[list[ViewRow], list[JointRow], CaseRow]:
    """All rows of a film pair; without any finding everything counts as missed."""
    listed = np.flatnonzero(truth.levels != S1_INDEX)
    inside = np.array(
        [on_film(centroids[listed], film.shape) for film, centroids in zip(truth.films, truth.centroids, strict=True)]
    )
    whole = whole_bodies(truth)[:, listed]
    vertebrae = [] if found is None else [v for v in found.vertebrae if v.level != S1_INDEX]
    rows: list[ViewRow] = []
    nearest = np.full((2, len(listed)), -1)
    distances = []
    for which, view in enumerate(("ap", "lat")):
        index = [(v.ap, v.lat)[which] for v in vertebrae]
        centroid = np.full((len(vertebrae), 2), np.nan)
        corners = np.full((len(vertebrae), 4, 2), np.nan)
        for i, k in enumerate(index):
            if k >= 0 and found is not None:
                centroid[i], corners[i] = found.views[which].centroid[k], found.views[which].corners[k]
        true, size = truth.centroids[which][listed], _pixel_mm((truth.geometry.ap, truth.geometry.lat)[which])
        apart = np.linalg.norm((true[:, None] - centroid[None]) * size, axis=-1)
        distances.append(apart)
        matched = _match(np.where(inside[which][:, None], apart, np.nan), NEAR_MM[1])
        nearest[which] = matched
        visible = int(inside[which].sum())
        for t in np.flatnonzero(inside[which]):
            m = matched[t]
            level = int(truth.levels[listed[t]])
            corner = np.nan
            if m >= 0:
                corner = float(np.mean(np.linalg.norm((corners[m] - truth.corners[which][listed[t]]) * size, axis=-1)))
            rows.append(
                ViewRow(
                    name, subject, view, visible, _region(level), NAMES[level],
                    float(apart[t, m]) if m >= 0 else np.nan, corner, NAMES[vertebrae[m].level] if m >= 0 else "",
                    bool(whole[which, t]),
                )
            )  # fmt: skip
        ends = _judged_rows(true[inside[which], 0], truth.complete)
        for i in range(len(vertebrae)):
            if index[i] >= 0 and i not in matched and ends[0] <= centroid[i, 0] <= ends[1]:
                level = vertebrae[i].level
                found_level = NAMES[level]
                rows.append(
                    ViewRow(name, subject, view, visible, _region(level), "", np.nan, np.nan, found_level, True)
                )
    joint = _joint_rows(name, subject, truth, listed, inside, whole, vertebrae, found, nearest, distances)
    false = any(row.level == "" for row in rows)
    right = bool(joint) and all(row.identified for row in joint) and not false
    margin = 0.0 if found is None else min(found.reading.margin, 1e3)
    shift = _shift(joint, truth, listed, inside, vertebrae, nearest)
    return rows, joint, CaseRow(name, subject, int(inside.any(0).sum()), right, shift, margin, seconds)


def whole_bodies(case: FilmCase) -> np.ndarray:
    """(2, N) which bodies are whole in which view: all corners are known and in the film; of C1, its centroid is.

    Corners are unknown where the CT's border cuts the body, and now and then where it could not be measured.
    """
    whole: np.ndarray = np.zeros((2, len(case.levels)), bool)
    for view, film in enumerate(case.films):
        points = np.where(
            (case.levels == NAMES.index("C1"))[:, None, None], case.centroids[view][:, None], case.corners[view]
        )
        whole[view] = on_film(points, film.shape).all(1)
    return whole


def _joint_rows(
    name: str, subject: str, truth: FilmCase, listed: np.ndarray, inside: np.ndarray, whole: np.ndarray,
    vertebrae: list, found: Localization | None, nearest: np.ndarray, distances: list[np.ndarray],
) -> list[JointRow]:  # fmt: skip
    rows = []
    visible = int(inside.any(0).sum())
    # Of a vertebra that is seen in both views, the farther of both.
    apart = np.fmax(distances[0], distances[1])
    sizes = [_pixel_mm(view) for view in (truth.geometry.ap, truth.geometry.lat)]
    steps = [
        np.linalg.norm(np.diff(c[listed], axis=0) * size, axis=1)
        for c, size in zip(truth.centroids, sizes, strict=True)
    ]
    pitch = np.fmax(*steps) if len(listed) > 1 else np.array([])
    for t in np.flatnonzero(inside.any(0)):
        level = int(truth.levels[listed[t]])
        called = [i for i, v in enumerate(vertebrae) if v.level == level]
        identified = strictly = False
        confidence = np.nan
        if called:
            here = apart[:, called[0]]
            confidence = vertebrae[called[0]].confidence
            identified = bool(np.nanargmin(here) == t and here[t] < VERSE_MM)
            neighbours = pitch[max(t - 1, 0) : t + 1]
            strictly = identified and bool(len(neighbours) == 0 or here[t] < 0.5 * neighbours.min())
        a, b = nearest[:, t]
        off, paired, m = np.nan, -1, max(a, b)
        if inside[:, t].all() and a >= 0 and b >= 0:
            paired = int(a == b)
            if a == b and found is not None:
                v = vertebrae[a]
                said, _ = truth.geometry.back_project(found.views[0].centroid[v.ap], found.views[1].centroid[v.lat])
                true, _ = truth.geometry.back_project(truth.centroids[0][listed[t]], truth.centroids[1][listed[t]])
                off = float(np.linalg.norm(said - true))
        right = -1 if m < 0 else int(vertebrae[m].level == level)
        found_confidence = vertebrae[m].confidence if m >= 0 else np.nan
        rows.append(
            JointRow(
                name, subject, visible, _region(level), NAMES[level], identified, strictly, off, paired,
                float(confidence), right, float(found_confidence), bool(whole[:, t].all()),
            )
        )  # fmt: skip
    return rows


def _shift(
    joint: list[JointRow], truth: FilmCase, listed: np.ndarray, inside: np.ndarray, vertebrae: list, nearest: np.ndarray
) -> int:
    """The one number of levels by which all found vertebrae are off."""
    shifts = {
        int(COUNTED[vertebrae[max(nearest[:, t])].level] - COUNTED[truth.levels[listed[t]]])
        for t in np.flatnonzero(inside.any(0))
        if max(nearest[:, t]) >= 0
    }
    return shifts.pop() if len(shifts) == 1 else 0


def _match(apart: np.ndarray, reach: float) -> np.ndarray:
    """For each row its column, nearest pairs first, each column once; -1 where nothing is within reach."""
    matched = np.full(apart.shape[0], -1)
    left = np.where(np.isfinite(apart) & (apart <= reach), apart, np.inf)
    while left.size and np.isfinite(left.min()):
        t, m = np.unravel_index(int(left.argmin()), left.shape)
        matched[t] = m
        left[t], left[:, m] = np.inf, np.inf
    return matched


def _judged_rows(true_rows: np.ndarray, complete: bool) -> tuple[float, float]:
    """Between which rows a detection without truth is false: everywhere, unless the truth may go on."""
    if complete or len(true_rows) < 2:
        return -np.inf, np.inf
    pitch = float(np.median(np.abs(np.diff(true_rows))))
    return float(true_rows.min() - 0.6 * pitch), float(true_rows.max() + 0.6 * pitch)


def _pixel_mm(view: View) -> np.ndarray:
    """(row, column) of a film's pixel in the plane of the isocentre."""
    return np.array(view.pixel_mm)


def _region(level: int) -> str:
    return REGIONS[min(region_index(level), 2)]
