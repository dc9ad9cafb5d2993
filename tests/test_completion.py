"""What one view lacks between two vertebrae is marked where the other view's ray says, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.geometry.beam import Beam
from scripts.geometry.biplanar import BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.localization.completion import complete_pairs
from scripts.localization.detection import Detections
from scripts.localization.found import Localization, Vertebra, reading_warnings, to_annotations
from scripts.localization.levels import LEVELS, NAMES
from scripts.localization.path import Reading
from tests.test_shared_rows import seen

GRID = Grid((0.0, 0.0, 0.0), (140, 80, 60))
# Every 18 mm down a straight line that leans to the left and to the back.
POINTS = np.array([(-20.0 - 3 * i, -30.0 - 4 * i, -25.0 - 18 * i) for i in range(6)])


def spine(
    geometry: BiplanarGeometry, lacks_ap: tuple[int, ...], lacks_lat: tuple[int, ...]
) -> tuple[tuple[Detections, Detections], list[Vertebra], tuple[np.ndarray, np.ndarray]]:
    """Six vertebrae; each view without some of them."""
    marks = geometry.project(POINTS)
    have = [[i for i in range(len(POINTS)) if i not in lacks] for lacks in (lacks_ap, lacks_lat)]
    views = tuple(seen(mark[list(kept)]) for mark, kept in zip(marks, have, strict=True))
    posterior = np.eye(LEVELS)
    vertebrae = [
        Vertebra(10 + i, *(kept.index(i) if i in kept else -1 for kept in have), posterior[10 + i], 0.9, 0.0)
        for i in range(len(POINTS))
    ]
    return (views[0], views[1]), vertebrae, marks


@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("which", [0, 1])
def test_a_vertebra_between_two_is_marked_where_it_is(beam: Beam, which: int) -> None:
    geometry = geometry_of_grid(GRID, beam)
    lacks = [(), ()]
    lacks[which] = (2, 3)
    views, vertebrae, truth = spine(geometry, *lacks)
    before = [view.centroid.copy() for view in views]
    marked, completed = complete_pairs(views, vertebrae, geometry)
    name = ("ap", "lat")[which]
    for place in (2, 3):
        index = getattr(completed[place], name)
        # The spine is straight here, its films nearly so under a cone; the line is searched in steps of 0.5 mm.
        assert np.linalg.norm(marked[which].centroid[index] - truth[which][place]) < 1.0
        assert np.isnan(marked[which].corners[index]).all()
        assert completed[place].completed == name and completed[place].seen_in == ("lat", "ap")[which]
    for view, was in zip(marked, before, strict=True):
        np.testing.assert_array_equal(view.centroid[: len(was)], was)
    assert [v for i, v in enumerate(completed) if i not in (2, 3)] == [
        v for i, v in enumerate(vertebrae) if i not in (2, 3)
    ]


def test_nothing_is_marked_beyond_the_last_one_or_far_from_others() -> None:
    geometry = geometry_of_grid(GRID)
    views, vertebrae, _ = spine(geometry, (5,), (0,))
    marked, completed = complete_pairs(views, vertebrae, geometry)
    assert completed == vertebrae and [len(view) for view in marked] == [5, 5]
    views, vertebrae, _ = spine(geometry, (), (1, 2, 3))
    assert complete_pairs(views, vertebrae, geometry)[1] == vertebrae


@pytest.mark.parametrize(
    ("names", "complete"),
    [
        ("T10 T11 T12 L1 L2 L3", True),
        ("T11 T12 T13 L1 L2 L3", True),
        ("T12 L1 L2 L3 L4 L5", True),
        ("T10 T11 T12 L1 L3 L4", False),  # L2 is in neither view
        ("L2 L3 L4 L5 S1", True),
    ],
)
def test_neighbours_are_as_far_apart_as_their_spine_has_vertebrae(names: str, complete: bool) -> None:
    geometry = geometry_of_grid(GRID)
    levels = [NAMES.index(name) for name in names.split()]
    views, vertebrae, _ = spine(geometry, (2, 3), ())
    vertebrae = [replace(v, level=level) for v, level in zip(vertebrae, levels, strict=False)]
    assert all(v.ap >= 0 for v in complete_pairs(views, vertebrae, geometry)[1]) == complete


def test_the_file_says_that_a_mark_was_not_seen() -> None:
    geometry = geometry_of_grid(GRID)
    views, vertebrae, _ = spine(geometry, (), (2,))
    marked, completed = complete_pairs(views, vertebrae, geometry)
    reading = Reading(np.arange(10, 16), np.eye(LEVELS)[10:16], 5.0, 1.0, 0.0)
    shape = (140, 80)
    marks = to_annotations(Localization(marked, completed, reading), (shape, shape))
    lateral, frontal = marks.lat.marks[2], marks.ap.marks[2]
    assert lateral.interpolated and lateral.confidence == 0 and lateral.corners is None and lateral.seen_in == "ap"
    assert not frontal.interpolated and frontal.confidence == pytest.approx(0.9) and frontal.seen_in == "ap"
    assert not any(mark.interpolated for i, mark in enumerate(marks.lat.marks) if i != 2)
    assert any("seen in one view only" in text for text in reading_warnings(completed))
