"""Levels of detections where the user gives the level of one of them, an anchor (`scripts.localization.anchors`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scripts.errors import UserError
from scripts.levels import LEVEL_ORDER
from scripts.localization.anchors import NEAR_SHARE, Anchor, nearest_mark, pitch
from scripts.localization.detection import Detections
from scripts.localization.films import on_film
from scripts.localization.levels import LEVELS, LUMBAR_ENDS, NAMES, S1_INDEX
from scripts.localization.pairing import Pairing
from scripts.localization.path import FORBIDDEN, Known, Reading

# Of vertebrae that may be the lowest whole one, from below: sacra and femoral heads lie below it.
LOWEST_TRIED = 4
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


def whole_vertebrae(pairing: Pairing, views: Views, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """(N,) whether all corners of each paired vertebra lie on the films that show it.

    Args:
        pairing: N vertebrae.
        views: AP and LAT, in pixels of the films.
        shapes: (rows, columns) of the films.
    """
    whole: np.ndarray = np.ones(len(pairing.ap), bool)
    for index, view, shape in zip((pairing.ap, pairing.lat), views, shapes, strict=True):
        seen = np.flatnonzero(index >= 0)
        corners = view.corners[index[seen]]
        whole[seen] &= on_film(corners, shape).all(1)
    return whole


def read_anchored(
    read: Callable[[Known | None], Reading],
    anchors: Sequence[Anchor],
    places: Sequence[int],
    pairing: Pairing,
    whole: np.ndarray,
) -> tuple[Reading, list[str]]:
    """The likeliest reading in which all anchors hold.

    Args:
        read: levels of the paired vertebrae, given what is known.
        anchors: vertebrae whose level the user knows.
        places: for each anchor the index of its detection in its view, -1 for the lowest vertebra.
        pairing: of the detections, head to foot.
        whole: (N,) bool, whether each vertebra lies on the films with all its corners.

    Returns:
        the reading, and what the user should know of it.

    Raises:
        UserError: no reading fits.
    """
    free = read(None)
    # What is a vertebra at all is read without the anchors; they say only which.
    taken = free.levels >= 0
    ways = _ways(anchors, places, pairing, whole, taken)
    reading = max((read(known) for known in ways), key=lambda way: way.score)
    names = ", ".join(str(anchor) for anchor in anchors)
    if reading.score < FORBIDDEN / 2:
        raise UserError(f"anchor {names}: no numbering of the vertebrae that were found fits it")
    both = (free.levels >= 0) & (reading.levels >= 0)
    # Counted in vertebrae of a usual spine, which has no T13.
    counted = np.arange(LEVELS) - (np.arange(LEVELS) > NAMES.index("T12"))
    moved = np.unique(counted[reading.levels[both]] - counted[free.levels[both]])
    if not moved.any():
        return reading, []
    apart = f"{abs(int(moved[0]))} {'lower' if moved[0] > 0 else 'higher'}" if len(moved) == 1 else "differently"
    return reading, [f"levels are as anchor {names} says: {apart} than the films were read without it"]


def _ways(
    anchors: Sequence[Anchor], places: Sequence[int], pairing: Pairing, whole: np.ndarray, taken: np.ndarray
) -> Iterator[Known]:
    """What is known of each vertebra; one way for each that may be the lowest whole one."""
    count = len(pairing.ap)
    allowed: np.ndarray = np.repeat(taken[:, None], LEVELS, axis=1)
    certain: np.ndarray = np.zeros(count, bool)
    lowest: int | None = None
    for anchor, place in zip(anchors, places, strict=True):
        level = LEVEL_ORDER.index(anchor.level)
        if anchor.pixel is None:
            lowest = level
            continue
        vertebra = int(np.flatnonzero((pairing.ap if anchor.view == "ap" else pairing.lat) == place)[0])
        allowed[vertebra] = (np.arange(LEVELS) == level) & (allowed[vertebra] | ~certain[vertebra])
        certain[vertebra] = True
    if lowest is None:
        yield Known(allowed, certain)
        return
    candidates = np.flatnonzero(whole & (taken | certain))[::-1][:LOWEST_TRIED]
    for last in candidates if len(candidates) else [count - 1]:
        ours, sure = allowed.copy(), certain.copy()
        ours[last] &= np.arange(LEVELS) == lowest
        sure[last] = True
        # Below it: the sacrum, a vertebra that the film's edge cuts, or what is not a vertebra.
        below = np.arange(count) > last
        sacrum = (np.arange(LEVELS) == S1_INDEX) & (lowest in LUMBAR_ENDS)
        cut = (np.arange(LEVELS) > lowest) & taken[below][:, None]
        ours[below] = np.where(whole[below][:, None], sacrum, cut | sacrum)
        yield Known(ours, sure)
