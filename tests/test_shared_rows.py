"""Rows of a pair: which mark counts how much, in which geometries, and what moves along."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.geometry.beam import Beam
from scripts.geometry.biplanar import BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.localization.detection import Detections
from scripts.localization.levels import LEVELS
from scripts.localization.pairing import Pairing
from scripts.localization.shared_rows import share_rows

POINTS = np.array([[-20.0, -30.0, -40.0], [-22.0, -33.0, -60.0], [-25.0, -30.0, -85.0]])
PAIRED = Pairing(np.array([0, 1, 2, -1]), np.array([0, 1, -1, 2]), np.zeros(4))


def seen(centroid: np.ndarray) -> Detections:
    n = len(centroid)
    corners = centroid[:, None] + np.array([[-3.0, -4.0], [-3.0, 4.0], [3.0, 4.0], [3.0, -4.0]])
    neighbours = centroid[:, None] + np.array([[-9.0, 0.0], [9.0, 0.0]])
    return Detections(
        np.full(n, 0.9), centroid, corners, np.ones((n, 4)), neighbours, np.zeros((n, LEVELS)), np.zeros((n, 7))
    )


def off_in_rows(geometry: BiplanarGeometry, ap: float, lat: float) -> tuple[Detections, Detections]:
    """Detections of `POINTS` with rows that are off by some pixels."""
    marks = geometry.project(POINTS)
    return seen(marks[0] + [ap, 0.0]), seen(marks[1] + [lat, 0.0])


@pytest.mark.parametrize("beam", list(Beam))
def test_rows_of_a_pair_meet_and_the_lateral_one_counts_more(beam: Beam) -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (120, 80, 60)), beam)
    views = off_in_rows(geometry, 4.0, 0.0)
    moved = share_rows(views, PAIRED, geometry, 0.75)
    truth = geometry.project(POINTS)
    # One pixel is left of four, in both views; columns stay.
    for view, true in zip(moved, truth, strict=True):
        assert np.allclose(view.centroid[:2] - true[:2], [1.0, 0.0], atol=0.15)
    assert geometry.back_project(moved[0].centroid[:2], moved[1].centroid[:2])[1].max() < 0.1


def test_corners_and_neighbours_move_along_and_lone_marks_stay() -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (120, 80, 60)))
    views = off_in_rows(geometry, 2.0, -2.0)
    moved = share_rows(views, PAIRED, geometry, 1.0)
    assert np.allclose(moved[0].centroid[:2] - views[0].centroid[:2], [-4.0, 0.0])
    assert np.allclose(moved[1].centroid, views[1].centroid)
    for before, after in zip(views, moved, strict=True):
        step = after.centroid - before.centroid
        assert np.allclose(after.corners - before.corners, step[:, None])
        assert np.allclose(after.neighbours - before.neighbours, step[:, None])
        assert np.allclose(step[2], 0.0)


def test_a_mark_that_the_user_set_stays() -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (120, 80, 60)))
    ap, lat = off_in_rows(geometry, 4.0, 0.0)
    truth = geometry.project(POINTS)
    ap.score[0] = lat.score[1] = 1.0
    moved = share_rows((ap, lat), PAIRED, geometry, 0.65)
    for view, true in zip(moved, truth, strict=True):
        assert np.allclose(view.centroid[:2] - true[:2], [[4.0, 0.0], [0.0, 0.0]])
    ap.score[:], lat.score[:] = 1.0, 1.0
    for before, after in zip((ap, lat), share_rows((ap, lat), PAIRED, geometry, 0.65), strict=True):
        assert np.array_equal(before.centroid, after.centroid)


def test_without_a_pair_nothing_moves() -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (120, 80, 60)))
    views = off_in_rows(geometry, 2.0, 0.0)
    alone = Pairing(np.array([0, 1, 2]), np.full(3, -1), np.full(3, np.nan))
    assert share_rows(views, alone, geometry, 0.65) is views
