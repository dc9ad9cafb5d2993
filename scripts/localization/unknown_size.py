"""Films whose pixels have no known size: each is read at several sizes, and the most plausible ones are taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.errors import UserError
from scripts.localization.anchored import Views
from scripts.localization.anchors import Anchor
from scripts.localization.detection import Detections
from scripts.localization.found import Localization, Vertebra
from scripts.localization.levels import NAMES
from scripts.localization.matching import NOTHING_FOUND, PixelSizes
from scripts.localization.path_options import PathOptions

# Heights of film to try, mm; the network was trained at 0.8 to 1.25 of true size.
HEIGHTS_MM = (140.0, 170.0, 200.0, 240.0, 285.0, 340.0, 400.0, 480.0, 620.0, 800.0)
# Weight of a certain detection against the cost of its path, and the difference of plausibilities that counts.
DETECTION_WORTH, PLAUSIBILITY_SCALE = 8.0, 4.0
# Of one view alone, distances between vertebrae count in full: they tell a size from others.
DISTANCE_WEIGHT_ALONE = 1.0
# Both views are read at sizes half a step between two of the heights above off (standard deviation of the logarithm,
# people's own included).
SIZE_SPREAD = 0.12
UNLIKELY = -40.0
KEPT = 3
# Below this probability of its size, a film's levels are called a guess.
SURE_SHARE = 0.5
NOTE = "the size of the films' pixels is not known: it was guessed, and levels rest on shapes alone"
GUESSED = "other sizes of the pixels are as likely, with other levels: give the size (--spacing) or an anchor"


Film = np.ndarray | None
# Detections of one film at one size of its pixels; whether it is the frontal one.
Detect = Callable[[np.ndarray, np.ndarray, bool], Detections]
Decode = Callable[[Views, PixelSizes, Sequence[Anchor], PathOptions], Localization]
Reread = Callable[[Localization, PathOptions], Localization]


@dataclass(frozen=True)
class _Try:
    """A view read at one size of its pixels.

    Args:
        plausibility: how well it looks like a spine.
        size_mm: (row, column).
        found: at that size, in pixels of the film.
        share: probability of the size among all that were tried.
    """

    plausibility: float
    size_mm: np.ndarray
    found: Detections
    share: float = 1.0


def find_at_any_size(
    films: tuple[Film, Film],
    anchors: Sequence[Anchor],
    path: PathOptions,
    largest_mm: float,
    detect: Detect,
    decode: Decode,
    reread: Reread,
) -> Localization:
    """Each view at several sizes, then both at the sizes at which they agree best.

    Args:
        films: AP and LAT, (rows, columns); None for a missing one.
        anchors: what the user says of levels; at a wrong size, distances do not fit them.
        path: how levels are read where sizes are known.
        largest_mm: sizes that make a film longer than this are not tried.
        detect: finds vertebrae in one film.
        decode: levels and pairs of what was found.
        reread: reads the levels again, once the sizes are chosen.

    Raises:
        UserError: there is no vertebra in the films, or the anchors do not fit what is found.
    """
    alone, together = replace(path, spacing=DISTANCE_WEIGHT_ALONE), replace(path, size=SIZE_SPREAD)
    tries = [_likeliest_sizes(film, i, anchors, alone, largest_mm, detect, decode) for i, film in enumerate(films)]
    best: tuple[float, Localization, _Try, _Try] | None = None
    refused = NOTHING_FOUND
    for one, other in itertools.product(*tries):
        try:
            found = decode((one.found, other.found), [one.size_mm, other.size_mm], anchors, together)
        except UserError as error:
            # An anchor without a detection is reported; a size that shows nothing is not.
            refused = str(error) if anchors and len(one.found) + len(other.found) else refused
            continue
        total = found.reading.score + one.plausibility + other.plausibility
        if best is None or total > best[0]:
            best = (total, found, one, other)
    if best is None:
        raise UserError(refused)
    _, found, one, other = best
    found = reread(found, together)
    # No vertebra is more certain than the size at which the film is read.
    vertebrae = [_doubted(v, one.share, other.share) for v in found.vertebrae]
    guessed = not anchors and min(one.share, other.share) < SURE_SHARE
    notes = [NOTE, GUESSED] if guessed else [NOTE]
    return replace(
        found,
        vertebrae=vertebrae,
        warnings=[*notes, *found.warnings],
        levels_uncertain=found.levels_uncertain or guessed,
    )


def no_detections() -> Detections:
    """Of a film that is not there."""
    return Detections(*(np.empty((0, *shape)) for shape in ((), (2,), (4, 2), (4,), (2, 2), (len(NAMES),), (7,))))


def _likeliest_sizes(
    film: Film,
    which: int,
    anchors: Sequence[Anchor],
    path: PathOptions,
    largest_mm: float,
    detect: Detect,
    decode: Decode,
) -> list[_Try]:
    if film is None:
        return [_Try(0.0, np.ones(2), no_detections())]
    own = [anchor for anchor in anchors if anchor.view in ("", ("ap", "lat")[which])]
    tries = []
    for height in HEIGHTS_MM:
        size = np.full(2, height / film.shape[0])
        if max(film.shape) * size[0] <= largest_mm:
            found = detect(film, size, which == 0)
            tries.append(_Try(_plausibility(found, which, size, own, path, decode), size, found))
    apart = np.array([t.plausibility for t in tries])
    weights = np.exp((apart - apart.max()) / PLAUSIBILITY_SCALE)
    shared = [replace(t, share=float(w)) for t, w in zip(tries, weights / weights.sum(), strict=True)]
    return sorted(shared, key=lambda t: -t.plausibility)[:KEPT]


def _plausibility(
    found: Detections, which: int, size: np.ndarray, anchors: Sequence[Anchor], path: PathOptions, decode: Decode
) -> float:
    """How well a view at some size looks like a spine: sure detections at the distances their levels have."""
    if len(found) < 2:
        return UNLIKELY
    views = (found, no_detections()) if which == 0 else (no_detections(), found)
    try:
        alone = decode(views, [size, size], anchors, path)
    except UserError:
        return UNLIKELY
    view = alone.views[which]
    # What an anchor added was not seen.
    seen = view.score[[(v.ap, v.lat)[which] for v in alone.vertebrae]].sum() - (len(view) - len(found))
    return float(DETECTION_WORTH * seen + alone.reading.score)


def _doubted(vertebra: Vertebra, ap: float, lat: float) -> Vertebra:
    """A vertebra whose views' pixels have their size with some probability only."""
    seen = [share for share, index in ((ap, vertebra.ap), (lat, vertebra.lat)) if index >= 0]
    return replace(vertebra, score=vertebra.score * float(np.mean(seen)))
