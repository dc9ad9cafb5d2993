"""Levels that a person settles: the text, marks renumbered by it, and detections read by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from scripts.levels import level_name, level_number, places_along_spine
from scripts.localization.anchors import Anchor, parse_anchors, renumber
from scripts.localization.decoding import decode
from scripts.localization.detection import Detections
from scripts.localization.found import Localization
from scripts.localization.levels import NAMES
from scripts.localization.pairing import PairingOptions
from scripts.localization.path_options import PathOptions
from tests.conftest import ROOT

SAMPLE = ROOT / "docs" / "sample"
SHAPE = (300, 100)


def marks(*names: str, first_row: float = 20.0, apart: float = 30.0) -> Annotations:
    """The same marks in both views, one below the other."""
    rows = first_row + apart * np.arange(len(names))
    view = ViewMarks(
        SHAPE,
        tuple(Mark(level_number(n), (float(r), 50.0), None, 0.7, "model") for n, r in zip(names, rows, strict=True)),
    )
    return Annotations(view, view, "case", 1.0, ("a warning",), (), levels_uncertain=True)


def names_of(annotations: Annotations) -> list[str]:
    assert [m.level for m in annotations.ap.marks] == [m.level for m in annotations.lat.marks]
    return [level_name(mark.level) for mark in annotations.ap.marks]


@pytest.mark.parametrize("text", ["L9", "L5@top:1,2", "L5@lat:1", "L5@lat:..,2", "L5;T12", "5", "L5,T12"])
def test_what_is_no_anchor_is_said(text: str) -> None:
    with pytest.raises(UserError):
        parse_anchors(text)


def test_marks_follow_one_word() -> None:
    before = marks("T11", "T12", "L1", "L2")
    after = renumber(before, parse_anchors("L3"))
    assert names_of(after) == ["T12", "L1", "L2", "L3"]
    # The name is the user's, the place still the network's; what nobody saw is no surer than before.
    assert all(mark.set_by == "model" and mark.confidence == 0.7 for mark in after.ap.marks)
    unseen = replace(before.lat.marks[1], interpolated=True, confidence=0.0)
    lat = replace(before.lat, marks=(before.lat.marks[0], unseen, *before.lat.marks[2:]))
    lines = (
        "seen in one view only: T12",
        "levels are uncertain by one (margin 1.0)",
        "no view shows T10",
        "L1 film",
    )
    told = renumber(replace(before, lat=lat, warnings=lines), parse_anchors("L3"))
    assert told.lat.marks[1] == replace(unseen, level=level_number("L1"))
    assert told.warnings == ("seen in one view only: L1", "no view shows T11", "L1 film")
    assert after.anchors == ("L3",) and not after.levels_uncertain
    # By place, and what is right already stays as it was.
    assert names_of(renumber(before, parse_anchors("T10@lat:53,45"))) == ["T9", "T10", "T11", "T12"]
    kept = renumber(before, parse_anchors("L2"))
    assert kept.ap == before.ap and not kept.levels_uncertain
    # The doubt about its name is gone, whether it has another one or not; that about its place stays.
    doubtful = replace(before.ap.marks[0], confidence=0.42, level_posterior={"T11": 0.7, "T12": 0.3})
    ap = replace(before.ap, marks=(doubtful, *before.ap.marks[1:]))
    for word, posterior in (("L2", {"T11": 1.0}), ("L3", None)):
        settled = renumber(replace(before, ap=ap), parse_anchors(word)).ap.marks[0]
        assert settled.confidence == pytest.approx(0.6) and settled.level_posterior == posterior
    # A gap of two levels stays one, and the usual spine has neither T13 nor more than an L6.
    assert names_of(renumber(marks("T9", "T11", "L1"), parse_anchors("L3"))) == ["T11", "L1", "L3"]
    assert names_of(renumber(marks("L3", "L4", "L5"), parse_anchors("L6"))) == ["L4", "L5", "L6"]
    assert names_of(renumber(marks("T11", "T12", "L1"), parse_anchors("T13"))) == ["T11", "T12", "T13"]
    assert renumber(before, ()) is before
    # Who said that the levels are right did not mean others.
    confirmed = replace(before, levels_confirmed=True)
    assert renumber(confirmed, parse_anchors("L2")) == replace(confirmed, anchors=("L2",), levels_uncertain=False)
    moved = renumber(confirmed, parse_anchors("L3"))
    assert moved.levels_in_words == "levels not confirmed"
    assert moved.warnings[-1] == "anchor L3 contradicts the confirmed levels: they are confirmed no more"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("L4@lat:20,50,L3@lat:110,50", "contradict"),
        ("C1@ap:110,50", "beyond C1"),
        ("L6@ap:20,50", "beyond L6"),
        ("L4@lat:200,50", "there is no vertebra; the nearest is at 110,50"),
    ],
)
def test_marks_that_do_not_fit_are_said(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        renumber(marks("T11", "T12", "L1", "L2"), parse_anchors(text))


def detections(opinions: list[str], rows: np.ndarray) -> Detections:
    """Bodies of 24 pixels height, each with an opinion of its level."""
    count = len(opinions)
    centroid = np.stack([rows, np.full(count, 50.0)], 1)
    corners = centroid[:, None] + np.array([[-12, -15], [-12, 15], [12, 15], [12, -15]])
    share = np.full((count, len(NAMES)), 0.002)
    for row, name in zip(share, opinions, strict=True):
        place = NAMES.index(name)
        row[place] += 0.6
        row[max(place - 1, 0)] += 0.15
        row[min(place + 1, len(NAMES) - 1)] += 0.15
    logs = np.log(share / share.sum(1, keepdims=True))
    return Detections(
        np.full(count, 0.9), centroid, corners, np.ones((count, 4)), np.zeros((count, 2, 2)), logs,
        np.full((count, 7), -np.log(7)),
    )  # fmt: skip


def found_with(opinions: list[str], anchor: str, rows: np.ndarray | None = None) -> Localization:
    rows = 20.0 + 33.0 * np.arange(len(opinions)) if rows is None else rows
    view = detections(opinions, rows)
    sizes = [np.ones(2), np.ones(2)]
    anchors = parse_anchors(anchor)
    return decode((view, view), sizes, None, PairingOptions(), PathOptions(), 2.0, anchors, (SHAPE, SHAPE))


def said(found: Localization) -> list[str]:
    return [NAMES[vertebra.level] for vertebra in found.vertebrae]


OPINIONS = ["T12", "L1", "L2", "L3", "L4"]


def test_a_spine_read_one_too_high_is_settled() -> None:
    free = found_with(OPINIONS, "")
    assert said(free) == OPINIONS and free.levels_uncertain
    assert any("uncertain by one" in line for line in free.warnings)
    for anchor in ("L5", "L3@lat:86,50", "L1@ap:20,48"):
        settled = found_with(OPINIONS, anchor)
        assert said(settled) == ["L1", "L2", "L3", "L4", "L5"], anchor
        assert not settled.levels_uncertain and not any("uncertain" in line for line in settled.warnings)
        assert any(f"as anchor {anchor} says: 1 lower" in line for line in settled.warnings)
        assert all(vertebra.confidence > 0.85 for vertebra in settled.vertebrae)
    assert found_with(OPINIONS, "L4").warnings == []


def test_a_level_that_changes_alone_is_told_too() -> None:
    """T12 that is settled as T13 moves nothing else, and is another vertebra all the same."""
    settled = found_with(OPINIONS, "T13@lat:20,50")
    assert said(settled) == ["T13", *OPINIONS[1:]]
    assert any("as anchor T13@lat:20,50 says: differently" in line for line in settled.warnings)


def test_the_lowest_whole_one_is_neither_cut_nor_the_sacrum() -> None:
    # The last body reaches 12 mm over the film's lower edge.
    rows = np.array([167.0, 200.0, 233.0, 266.0, 299.0])
    assert said(found_with(OPINIONS, "L4", rows)) == ["L1", "L2", "L3", "L4", "L5"]
    with_sacrum = ["L2", "L3", "L4", "L5", "S1"]
    assert said(found_with(with_sacrum, "L5")) == with_sacrum


def test_a_body_at_the_films_border_is_whole_or_cut_as_its_level_says() -> None:
    """Corners are found to some millimetres, so near the border other evidence decides which one the user means."""
    border = np.array([167.0, 200.0, 233.0, 266.0, 299.0])
    for shift, anchor in ((-11.0, "L3"), (-14.0, "L4"), (-11.0, "L4"), (-14.0, "L3")):
        # The corners of the last body lie 1 mm beyond the film's lower edge, or 2 mm inside.
        assert said(found_with(OPINIONS, anchor, border + shift)) == OPINIONS, (shift, anchor)
    # Far from it nothing is left to decide.
    assert said(found_with(OPINIONS, "L3", border)) == OPINIONS
    assert said(found_with(OPINIONS, "L5", border - 60)) == ["L1", "L2", "L3", "L4", "L5"]


def test_a_vertebra_that_was_missed_is_where_the_user_says() -> None:
    rows = np.array([20.0, 53.0, 119.0, 152.0])
    found = found_with(["T12", "L1", "L3", "L4"], "L2@lat:86,50", rows)
    assert said(found) == ["T12", "L1", "L2", "L3", "L4"]
    named = found.vertebrae[2]
    assert named.ap < 0 and np.allclose(found.views[1].centroid[named.lat], [86, 50])
    with pytest.raises(UserError, match="the nearest is at 20,50"):
        found_with(OPINIONS, "L2@lat:10,290")


def test_anchors_that_no_reading_fits_are_said() -> None:
    with pytest.raises(UserError, match="no numbering"):
        found_with(OPINIONS, "L2@lat:20,50,T12@lat:86,50")


def test_anchored_files_are_read_again(tmp_path: Path) -> None:
    settled = renumber(marks("T11", "T12"), (Anchor(level_number("L2")),))
    unsettled = replace(settled, anchors=(), levels_uncertain=True)
    for written in (settled, unsettled):
        write_annotations(tmp_path / "a.json", written)
        assert read_annotations(tmp_path / "a.json") == written


def test_the_command_line_takes_anchors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = [f"--ap={SAMPLE / 'ap.nii.gz'}", f"--lat={SAMPLE / 'lat.nii.gz'}"]
    output = tmp_path / "a.json"
    truth = read_annotations(SAMPLE / "annotations.json").lat.by_level()
    row, column = truth[level_number("T9")].centroid
    assert main(["annotate", *films, f"--output={output}", "--anchor", f"T8@lat:{row:.0f},{column:.0f}"]) == 0
    found = read_annotations(output)
    assert found.anchors == (f"T8@lat:{row:.0f},{column:.0f}",) and not found.levels_uncertain
    near = min(found.lat.marks, key=lambda mark: abs(mark.centroid[0] - row))
    assert near.level == level_number("T8")
    order = places_along_spine([mark.level for mark in found.lat.marks])
    assert order == list(range(order[0], order[0] + len(order)))
    capsys.readouterr()
    assert main(["annotate", *films, f"--output={tmp_path / 'b.json'}", "--anchor", "L11"]) == 1
    assert "unknown vertebra level 'L11'" in capsys.readouterr().err and not (tmp_path / "b.json").exists()
