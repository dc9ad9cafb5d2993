"""Levels of detections where the user gives the level of one of them, an anchor (`scripts.localization.anchors`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scripts.errors import UserError
from scripts.levels import LEVEL_ORDER
from scripts.localization.anchors import NEAR_SHARE, Anchor, nearest_mark, pitch
from scripts.localization.detection import Detections
from scripts.localization.levels import COUNTED, LEVELS, LUMBAR_ENDS, S1_INDEX
from scripts.localization.pairing import Pairing
from scripts.localization.path import FORBIDDEN, Known, Reading

# Of vertebrae that may be the lowest whole one, from below: sacra and femoral heads lie below it.
LOWEST_TRIED = 4
# Corners at the border of a film are found to about this: a body with all corners in the film may be cut, and one with
# a corner beyond it may be whole, but not if it is this far outside.
CORNER_MM, CUT_MM = 2.0, -8.0
# A vertebra that the user names is as near to one that was found, in distances of neighbours.
FARTHEST_SHARE = 2.5
Views = tuple[Detections, Detections]


def find_anchored(views: Views, anchors: Sequence[Anchor]) -> tuple[Views, list[int]]:
    """The detections that anchors mean.

    Args:
        views: AP and LAT, in pixels of the films.
        anchors: vertebrae whose level the user knows.

    Returns:
        the views, with a detection more where an anchor names a vertebra that was missed; and for each anchor the
        index of its detection in its view, -1 for the lowest vertebra.

    Raises:
        UserError: an anchor's place is far from all detections.
    """
    out, places = list(views), []
    for anchor in anchors:
        if anchor.pixel is None:
            places.append(-1)
            continue
        which = 0 if anchor.view == "ap" else 1
        view = out[which]
        apart = pitch(view.centroid, 0) if len(view) > 1 else np.inf
        # A vertebra that was missed is where the user says, if the spine runs there.
        place = nearest_mark(anchor, view.centroid, FARTHEST_SHARE * apart)
        if np.linalg.norm(view.centroid[place] - np.array(anchor.pixel)) > NEAR_SHARE * apart:
            view, place = _added(view, place, np.array(anchor.pixel))
        out[which] = view
        places.append(place)
    return (out[0], out[1]), places


def _added(view: Detections, like: int, centroid: np.ndarray) -> tuple[Detections, int]:
    """A view with one certain detection more, shaped like a given one, and its place."""
    place = int(np.searchsorted(view.centroid[:, 0], centroid[0]))
    ends = view.log_end.shape[1]
    unknown = {"log_level": np.full((1, LEVELS), -np.log(LEVELS)), "log_end": np.full((1, ends), -np.log(ends))}
    return view.added(like, centroid, place, score=np.ones(1), **unknown), place


def inside_films(
    pairing: Pairing, views: Views, shapes: Sequence[tuple[int, int]], sizes: Sequence[np.ndarray]
) -> np.ndarray:
    """(N,) how far inside the films that show it the outermost corner of each paired vertebra lies, mm.

    Args:
        pairing: N vertebrae.
        views: AP and LAT, in pixels of the films.
        shapes: (rows, columns) of the films.
        sizes: (row, column) mm of the films' pixels.
    """
    inside: np.ndarray = np.full(len(pairing.ap), np.inf)
    for index, view, shape, size in zip((pairing.ap, pairing.lat), views, shapes, sizes, strict=True):
        seen = np.flatnonzero(index >= 0)
        corners = view.corners[index[seen]]
        borders = np.minimum(corners, np.array(shape) - 1 - corners) * np.asarray(size)
        inside[seen] = np.minimum(inside[seen], borders.min((1, 2)))
    return inside


def read_anchored(
    read: Callable[[Known | None], Reading],
    anchors: Sequence[Anchor],
    places: Sequence[int],
    pairing: Pairing,
    inside_mm: np.ndarray,
) -> tuple[Reading, list[str]]:
    """The likeliest reading in which all anchors hold.

    Args:
        read: levels of the paired vertebrae, given what is known.
        anchors: vertebrae whose level the user knows.
        places: for each anchor the index of its detection in its view, -1 for the lowest vertebra.
        pairing: of the detections, head to foot.
        inside_mm: (N,) how far each vertebra lies inside the films (`inside_films`).

    Returns:
        the reading, and what the user should know of it.

    Raises:
        UserError: no reading fits.
    """
    free = read(None)
    # What is a vertebra at all is read without the anchors; they say only which.
    taken = free.levels >= 0
    ways = _ways(anchors, places, pairing, inside_mm, taken)
    reading = max((read(known) for known in ways), key=lambda way: way.score)
    names = ", ".join(str(anchor) for anchor in anchors)
    if reading.score < FORBIDDEN / 2:
        raise UserError(f"anchor {names}: no numbering of the vertebrae that were found fits it")
    both = (free.levels >= 0) & (reading.levels >= 0)
    if (reading.levels == free.levels)[both].all():
        return reading, []
    moved = np.unique(COUNTED[reading.levels[both]] - COUNTED[free.levels[both]])
    # T13 in place of L1, and L1 in place of T13, is another level at the same place.
    alike = len(moved) == 1 and moved[0] != 0
    apart = f"{abs(int(moved[0]))} {'lower' if moved[0] > 0 else 'higher'}" if alike else "differently"
    return reading, [f"levels are as anchor {names} says: {apart} than the films were read without it"]


def _ways(
    anchors: Sequence[Anchor], places: Sequence[int], pairing: Pairing, inside_mm: np.ndarray, taken: np.ndarray
) -> Iterator[Known]:
    """What is known of each vertebra; one way for each that may be the lowest whole one."""
    count, levels = len(pairing.ap), np.arange(LEVELS)
    log_prior: np.ndarray = np.repeat(np.where(taken, 0.0, FORBIDDEN)[:, None], LEVELS, axis=1)
    certain: np.ndarray = np.zeros(count, bool)
    lowest: int | None = None
    for anchor, place in zip(anchors, places, strict=True):
        level = LEVEL_ORDER.index(anchor.level)
        if anchor.pixel is None:
            lowest = level
            continue
        vertebra = int(np.flatnonzero((pairing.ap if anchor.view == "ap" else pairing.lat) == place)[0])
        possible = (log_prior[vertebra] == 0) | ~certain[vertebra]
        log_prior[vertebra] = np.where((levels == level) & possible, 0.0, FORBIDDEN)
        certain[vertebra] = True
    if lowest is None:
        yield Known(log_prior, certain)
        return
    candidates = np.flatnonzero((inside_mm > CUT_MM) & (taken | certain))[::-1][:LOWEST_TRIED]
    for last in candidates if len(candidates) else [count - 1]:
        ours, sure = log_prior.copy(), certain.copy()
        ours[last] += np.where(levels == lowest, _log_chance(inside_mm[last]), FORBIDDEN)
        sure[last] = True
        # Below it: the sacrum, a vertebra that the film's edge cuts, or what is not a vertebra.
        for below in range(last + 1, count):
            cut = _log_chance(-inside_mm[below]) if taken[below] else FORBIDDEN
            ours[below] = np.where(levels > lowest, cut, FORBIDDEN)
            if lowest in LUMBAR_ENDS:
                ours[below, S1_INDEX] = 0.0
        yield Known(ours, sure)


def _log_chance(beyond_mm: np.ndarray | float) -> float:
    """Log probability that a corner lies on the side of a film's border on which it was found, or not."""
    return float(-np.logaddexp(0.0, -beyond_mm / CORNER_MM))
