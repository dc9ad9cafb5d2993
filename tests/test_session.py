"""A session: what changed is done again and nothing else; progress, cancelling, overlaps, confidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.geometry.biplanar import geometry_of_grid
from scripts.geometry.cropping import CUBE_SIZE
from scripts.geometry.frames import Grid
from scripts.io.annotations import Annotations, Mark, ViewMarks
from scripts.reconstruction.predictor import Predictor
from scripts.reconstruction.steady import steady_numbers
from scripts.spine.assembly import ReconstructedVertebra, largest_component, resolve_overlaps
from scripts.spine.reconstruction import Reconstruction
from scripts.spine.session import CancelledError, Progress, Session
from tests.conftest import films_of

GRID = Grid((0.0, 0.0, 0.0), (400, 150, 150))
LEVELS = (18, 19, 20, 21)
HEIGHTS = (80.0, 115.0, 150.0, 310.0)


class BallPredictor:
    """A ball of 20 mm around the body's centroid, and a count of how often it was asked."""

    takes_level = False

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, inputs: Sequence[torch.Tensor], *_: object) -> Iterator[np.ndarray]:
        for item in inputs:
            self.asked += 1
            row, left = np.unravel_index(int(item[1].argmax()), (CUBE_SIZE, CUBE_SIZE))
            behind = int(item[3].argmax()) % CUBE_SIZE
            i, p, q = np.ogrid[:CUBE_SIZE, :CUBE_SIZE, :CUBE_SIZE]
            distance = np.sqrt((i - row) ** 2 + (p - behind) ** 2 + (q - left) ** 2)
            yield (1 / (1 + np.exp(distance - 20.0))).astype(np.float32)


def annotations(moved: dict[int, float] | None = None, confidence: float = 1.0) -> Annotations:
    """Marks; some moved to the left by so many mm."""
    points = GRID.to_world(
        np.array([[h, 60.0, 70.0 + (moved or {}).get(n, 0)] for n, h in zip(LEVELS, HEIGHTS, strict=True)])
    )
    geometry = geometry_of_grid(GRID)
    views = [
        ViewMarks(v.shape, tuple(Mark(n, (p[0], p[1]), confidence=confidence) for n, p in zip(LEVELS, ps, strict=True)))
        for v, ps in zip((geometry.ap, geometry.lat), geometry.project(points), strict=True)
    ]
    return Annotations(*views)


def session() -> tuple[Session, BallPredictor]:
    films = [np.random.default_rng(i).random((400, 150)).astype(np.float32) for i in range(2)]
    predictor = BallPredictor()
    return Session(films_of(films[0], films[1], geometry_of_grid(GRID)), cast(Predictor, predictor)), predictor


def same(a: Reconstruction, b: Reconstruction) -> bool:
    return bool(np.array_equal(a.labels, b.labels)) and all(
        np.array_equal(p.probability, q.probability) for p, q in zip(a.parts, b.parts, strict=True)
    )


def test_a_moved_mark_reconstructs_what_it_changes_and_gives_what_a_new_session_gives() -> None:
    one, predictor = session()
    first = one.reconstruct(annotations())
    assert predictor.asked == first.computed == 4
    # Two neighbours lean another way now; too little for that, and it is the vertebra alone.
    second = one.reconstruct(annotations({19: 6.0}))
    assert predictor.asked == 7 and second.computed == 3
    assert one.reconstruct(annotations({19: 0.2})).computed == 1
    assert same(second, session()[0].reconstruct(annotations({19: 6.0}))) and not same(first, second)
    # The last one is too far away to be touched: the very same object, surface and all.
    assert second.parts[3] is first.parts[3] and second.parts[0] is not first.parts[0]
    again = one.reconstruct(annotations())
    assert predictor.asked == 8 and same(first, again)


class ReadingPredictor(BallPredictor):
    """Reads an axial turn of one degree a level, and remembers what it was told."""

    takes_level = True

    def __init__(self) -> None:
        super().__init__()
        self.read_levels: list[int] = []
        self.told: dict[int, float] = {}

    def read(self, inputs: Sequence[torch.Tensor], levels: Sequence[int], tilts: Sequence[float]) -> np.ndarray:
        assert len(inputs) == len(levels) == len(tilts)
        self.read_levels += levels
        read = np.zeros((len(levels), 9))
        read[:, 3] = levels
        return read

    def __call__(self, inputs: Sequence[torch.Tensor], *given: Any) -> Iterator[np.ndarray]:
        self.told.update({level: numbers[3] for level, numbers in zip(given[0], given[2], strict=True)})
        return super().__call__(inputs)


def test_readings_of_the_whole_spine_place_each_vertebra():
    films, predictor = session()[0].films, ReadingPredictor()
    one = Session(films, cast(Predictor, predictor))
    one.reconstruct(annotations(), levels=[20])
    # The others are read, as they steady it, but not reconstructed.
    assert predictor.read_levels == list(LEVELS) and predictor.asked == 1
    wanted = steady_numbers(np.array([[0, 0, 0, n, 0, 0, 0, 0, 0] for n in LEVELS], float), LEVELS)[:, 3]
    one.reconstruct(annotations())
    assert predictor.read_levels == list(LEVELS) and predictor.asked == 4
    assert predictor.told == dict(zip(LEVELS, wanted, strict=True))
    one.reconstruct(annotations(moved={21: 0.4}))
    assert predictor.read_levels[4:].count(21) == 1


def test_chosen_levels_and_what_is_forgotten() -> None:
    one, predictor = session()
    assert [p.level for p in one.reconstruct(annotations(), [21, 18]).parts] == [18, 21]
    one.reconstruct(annotations())
    assert predictor.asked == 4
    small = Session(one.films, cast(Predictor, predictor), capacity=2)
    small.reconstruct(annotations())
    small.reconstruct(annotations(), [20, 21])
    assert predictor.asked == 8
    small.reconstruct(annotations(), [18])
    assert predictor.asked == 9


def test_progress_counts_and_cancelling_keeps_what_is_done() -> None:
    one, predictor = session()
    steps: list[Progress] = []
    one.reconstruct(annotations(), progress=steps.append)
    network = [s for s in steps if s.stage == "network"]
    assert [s.done for s in network] == [0, 1, 2, 3, 4] and [s.level for s in network] == [None, *LEVELS]
    assert steps[-1] == Progress("assemble", 1, 1)
    other, predictor = session()
    calls = iter([False, False, True])
    with pytest.raises(CancelledError):
        other.reconstruct(annotations(), cancelled=lambda: next(calls))
    assert predictor.asked == 2
    assert same(other.reconstruct(annotations()), one.reconstruct(annotations())) and predictor.asked == 4


def test_overlap_is_resolved_by_probability_and_reported() -> None:
    one, _ = session()
    result = one.reconstruct(annotations({19: 0.0}))
    upper, lower = result.parts[0], result.parts[1]
    # Balls of 20 mm at 35 mm: what both claim is cut in the middle plane.
    assert upper.contested == pytest.approx(lower.contested, abs=0.02) and 0.005 < upper.contested < 0.05
    shift = lower.vertebra.cube.start[0] - upper.vertebra.cube.start[0]
    assert not (upper.mask[shift:] & lower.mask[:-shift]).any()
    for part in result.parts:
        start = np.rint(result.grid.to_index(np.array(part.vertebra.cube.grid.origin_mm))).astype(int)
        box = tuple(slice(s, s + CUBE_SIZE) for s in start)
        assert np.array_equal(result.labels[box] == part.level, part.mask)
        assert part.mesh.is_watertight
        assert part.mesh.volume == pytest.approx(part.mask.sum(), rel=0.02)
    # Two balls that nearly coincide: what neighbours take is reported.
    views = []
    for view, column in zip((annotations().ap, annotations().lat), (70.0, 60.0), strict=True):
        marks = (view.marks[0], replace(view.marks[1], centroid=(88.0, column)), *view.marks[2:])
        views.append(ViewMarks(view.shape, marks))
    warnings = one.reconstruct(Annotations(*views)).warnings
    assert any("T12" in w and "two marks on one vertebra" in w for w in warnings)


def test_resolved_surfaces_stay_between_voxels() -> None:
    """A plane where two linear ramps cross lies where they cross, not at a voxel's face."""
    one, _ = session()
    vertebrae = one.reconstruct(annotations(), [18, 19]).vertebrae
    shift = vertebrae[1].cube.start[0] - vertebrae[0].cube.start[0]
    height = np.arange(CUBE_SIZE, dtype=np.float32)[:, None, None]
    inside = np.zeros((CUBE_SIZE,) * 3, np.float32)
    inside[:, 40:80, 40:80] = 1
    upper = np.clip(0.9 - 0.02 * (height - 50.3), 0, 1) * inside
    lower = np.clip(0.9 + 0.02 * (height + shift - 50.3), 0, 1) * inside
    parts = resolve_overlaps([(vertebrae[0], upper), (vertebrae[1], lower)])
    z = parts[0].vertebra.cube.grid.to_index(parts[0].mesh.vertices)[:, 0]
    middle = parts[0].vertebra.cube.grid.to_index(parts[0].mesh.vertices)[:, 1:]
    centre = np.abs(middle - 60).max(axis=1) < 10
    assert z[centre].max() == pytest.approx(50.3, abs=0.05)


def test_confidence_falls_with_doubt_residual_and_mark() -> None:
    one, _ = session()
    sure = one.reconstruct(annotations(), [21]).parts[0]
    assert 0.88 < sure.shape_confidence <= 1 and sure.confidence == pytest.approx(sure.shape_confidence)
    doubtful = ReconstructedVertebra(sure.vertebra, np.where(sure.mask, 0.6, 0.3).astype(np.float32))
    assert doubtful.shape_confidence < 0.5
    apart = ReconstructedVertebra(replace(sure.vertebra, residual_mm=3.0), sure.probability)
    assert apart.confidence == pytest.approx(sure.confidence * np.exp(-0.5))
    assert one.reconstruct(annotations(confidence=0.4), [21]).parts[0].confidence == pytest.approx(
        0.4 * sure.confidence
    )
    nothing = ReconstructedVertebra(sure.vertebra, np.zeros_like(sure.probability))
    assert nothing.confidence == 0 and not nothing.found


def test_expected_dice_is_what_calibrated_probabilities_give() -> None:
    """Draw truths from the probabilities: the mean Dice of the mask is the shape's confidence."""
    one, _ = session()
    sure = one.reconstruct(annotations(), [21]).parts[0]
    rng = np.random.default_rng(0)
    soft = np.clip(sure.probability * 0.9, 0, 1).astype(np.float32)
    part = ReconstructedVertebra(sure.vertebra, soft)
    truth = rng.random(soft.shape) < soft
    dice = 2 * (truth & part.mask).sum() / (truth.sum() + part.mask.sum())
    assert part.shape_confidence == pytest.approx(dice, abs=0.01)


def test_damaged_weights_are_named() -> None:
    one, predictor = session()

    class Damaged(BallPredictor):
        def __call__(self, inputs: Sequence[torch.Tensor], *_: object) -> Iterator[np.ndarray]:
            return (np.full_like(ball, np.nan) for ball in BallPredictor()(inputs))

    one.predictor = cast(Predictor, Damaged())
    with pytest.raises(UserError, match="NaN"):
        one.reconstruct(annotations(), [18])
    assert predictor.asked == 0


def test_largest_component_of_nothing_is_nothing() -> None:
    assert not largest_component(np.zeros((4, 4, 4), np.float32)).any()


def test_marks_that_do_not_fit_each_other_are_questioned_with_every_call() -> None:
    """Two of them are 160 mm apart; a session goes on while marks change, so its films cannot hold the question."""
    one, _ = session()
    asked = "L1 and L2 lie 160 mm apart; the rest of this spine suggests 3"
    assert [line for line in one.reconstruct(annotations()).warnings if line.startswith(asked)]
    near = replace(annotations(), lat=replace(annotations().lat, marks=annotations().lat.marks[:3]))
    assert not any("apart" in line for line in one.reconstruct(near).warnings)
