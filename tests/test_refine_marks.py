"""Automatic marks are moved to where the reconstruction network sees the bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.anatomy.placement import from_mark, to_shape_frame
from scripts.films.film import Films
from scripts.films.pair import read_films
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations
from scripts.reconstruction.predictor import Predictor
from scripts.spine.refine_marks import LARGEST_MOVE_MM, refine_marks
from tests.conftest import SAMPLE

OFF_PX = 5.0


@pytest.fixture(scope="module")
def films() -> Films:
    return read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(device="cpu")


def shifted(view: ViewMarks, by: str, columns: float) -> ViewMarks:
    def move(mark: Mark) -> Mark:
        row, column = mark.centroid
        return replace(mark, centroid=(row, column + columns), corners=((row, column),) * 4, set_by=by)

    return replace(view, marks=tuple(move(mark) for mark in view.marks))


def columns(view: ViewMarks) -> np.ndarray:
    return np.array([mark.centroid[1] for mark in view.marks])


# To the side the reader is as misled as the annotation network, so there it moves marks by less.
@pytest.mark.parametrize(("view", "left"), [("ap", 0.95), ("lat", 0.75)])
def test_marks_beside_their_bodies_come_nearer(films: Films, predictor: Predictor, view: str, left: float) -> None:
    truth = read_annotations(SAMPLE / "annotations.json")
    off = replace(truth, ap=shifted(truth.ap, "model", 0.0), lat=shifted(truth.lat, "model", 0.0))
    off = replace(off, **{view: shifted(getattr(truth, view), "model", OFF_PX)})
    found = refine_marks(films, off, predictor)
    before, after = (np.abs(columns(getattr(marks, view)) - columns(getattr(truth, view))) for marks in (off, found))
    assert after.mean() < left * before.mean()
    for old, new in zip((*off.ap.marks, *off.lat.marks), (*found.ap.marks, *found.lat.marks), strict=True):
        move = np.array(new.centroid) - old.centroid
        assert np.linalg.norm(move) <= LARGEST_MOVE_MM + 1e-9
        np.testing.assert_allclose(np.array(new.corners) - np.array(old.corners), np.tile(move, (4, 1)), atol=1e-9)
        assert (new.level, new.confidence, new.set_by) == (old.level, old.confidence, old.set_by)


def test_marks_that_a_person_set_stay(films: Films, predictor: Predictor) -> None:
    truth = read_annotations(SAMPLE / "annotations.json")
    edited = replace(truth, ap=shifted(truth.ap, "model", OFF_PX), lat=shifted(truth.lat, "edited", OFF_PX))
    assert refine_marks(films, edited, predictor) == edited


def test_nothing_moves_without_a_frame_or_a_pair(films: Films, predictor: Predictor) -> None:
    truth = read_annotations(SAMPLE / "annotations.json")
    found = replace(truth, ap=shifted(truth.ap, "model", 0.0), lat=shifted(truth.lat, "model", 0.0))
    assert refine_marks(replace(films, registered=False), found, predictor) == found
    alone: Annotations = replace(found, lat=replace(found.lat, marks=()))
    assert refine_marks(films, alone, predictor) == alone


def test_what_cannot_be_read_stays(films: Films, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks at no place in the room, and answers of damaged weights; `reconstruct` says what is wrong."""
    truth = read_annotations(SAMPLE / "annotations.json")
    far = replace(truth, ap=shifted(truth.ap, "model", 1e7), lat=shifted(truth.lat, "model", 0.0))
    assert refine_marks(films, far, predictor) == far
    found = replace(truth, ap=shifted(truth.ap, "model", 0.0), lat=shifted(truth.lat, "model", 0.0))
    monkeypatch.setattr(predictor, "read", lambda inputs, levels, tilts: np.full((len(levels), 9), np.nan))
    assert refine_marks(films, found, predictor) == found


def test_a_body_lies_where_the_mean_shape_has_its_centroid() -> None:
    rng = np.random.default_rng(0)
    for tilt in (-20.0, 0.0, 35.0):
        numbers = rng.normal(size=9) * [5, 5, 5, 20, 20, 20, 0.2, 0.2, 0.2]
        linear, shift = to_shape_frame(torch.from_numpy(numbers)[None], torch.tensor([tilt], dtype=torch.float64))
        np.testing.assert_allclose(linear[0] @ from_mark(numbers, tilt) + shift[0].numpy(), 0, atol=1e-9)
