"""Films without a pixel size, by made-up detections: distances speak once a level is settled, doubts are told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from scripts.anatomy.distances import pair_statistics
from scripts.errors import UserError
from scripts.levels import LEVEL_NUMBERS
from scripts.localization.anchors import Anchor
from scripts.localization.decoding import decode
from scripts.localization.detection import Detections
from scripts.localization.found import Localization
from scripts.localization.levels import NAMES
from scripts.localization.matching import PixelSizes
from scripts.localization.pairing import PairingOptions
from scripts.localization.path_options import PathOptions
from scripts.localization.unknown_size import GUESSED, find_at_any_size

ROWS, COLUMNS = 2500, 2200
TRUE_MM = 300 / ROWS
LUMBAR = ["L1", "L2", "L3", "L4", "L5"]


def lumbar_film(score: float, known: bool) -> Detections:
    """Five lumbar vertebrae at their average distances, in pixels; their levels known or not at all."""
    steps = [pair_statistics()[f"{a}-{b}"]["distance_mm"] for a, b in itertools.pairwise(LUMBAR)]
    rows = 300 + np.r_[0, np.cumsum(steps)] / TRUE_MM
    centroid = np.stack([rows, np.full(5, 1000.0)], 1)
    corners = centroid[:, None] + np.array([[-100, -150], [-100, 150], [100, 150], [100, -150]])
    log_level = np.full((5, len(NAMES)), -np.log(len(NAMES)))
    if known:
        log_level = np.log(np.full((5, len(NAMES)), 0.1 / (len(NAMES) - 1)))
        log_level[range(5), [NAMES.index(name) for name in LUMBAR]] = np.log(0.9)
    around = np.stack([centroid - [300, 0], centroid + [300, 0]], 1)
    ends = np.full((5, 7), -np.log(7.0))
    return Detections(np.full(5, score), centroid, corners, np.ones((5, 4)), around, log_level, ends)


def read(known: bool, anchors: Sequence[Anchor] = (), scores: tuple[float, float] = (0.8, 0.8)) -> Localization:
    """The film at any size: as sure (`scores`) at sizes up to 0.7 of the true one as at it."""
    film = np.zeros((ROWS, COLUMNS), np.float32)

    def detect(film: np.ndarray, size_mm: np.ndarray, frontal: bool) -> Detections:
        small = size_mm[0] < 0.75 * TRUE_MM
        return lumbar_film(scores[0] if small else scores[1], known)

    def decode_at(views: tuple, sizes: PixelSizes, anchors: Sequence[Anchor], path: PathOptions) -> Localization:
        shapes = ((0, 0), (ROWS, COLUMNS))
        return decode(views, sizes, None, PairingOptions(), path, 2.0, anchors, shapes)

    def reread(found: Localization, path: PathOptions) -> Localization:
        return found

    return find_at_any_size((None, film), anchors, PathOptions(), 2048.0, detect, decode_at, reread)


def test_levels_that_are_seen_tell_the_size() -> None:
    found = read(known=True)
    assert [NAMES[v.level] for v in found.vertebrae] == LUMBAR
    assert abs(np.log(found.pixel_mm[1][0] / TRUE_MM)) < 0.2


@pytest.mark.parametrize("anchor", [Anchor(LEVEL_NUMBERS["L5"]), Anchor(LEVEL_NUMBERS["L3"], "lat", (900.0, 1010.0))])
def test_an_anchor_tells_the_size(anchor: Anchor) -> None:
    """Although the network is as sure of all at a size at which they would be thoracic."""
    found = read(known=False, anchors=(anchor,), scores=(0.81, 0.8))
    assert [NAMES[v.level] for v in found.vertebrae] == LUMBAR
    assert abs(np.log(found.pixel_mm[1][0] / TRUE_MM)) < 0.2
    assert GUESSED not in found.warnings and not found.levels_uncertain


def test_a_size_that_is_as_good_as_others_is_called_a_guess() -> None:
    found = read(known=False)
    assert GUESSED in found.warnings and found.levels_uncertain
    # No vertebra is more certain than its size.
    assert max(v.score for v in found.vertebrae) < 0.5


def test_an_anchor_far_from_everything_is_refused_by_its_own_words() -> None:
    with pytest.raises(UserError, match="L3@lat:2400,100"):
        read(known=True, anchors=(Anchor(LEVEL_NUMBERS["L3"], "lat", (2400.0, 100.0)),))
