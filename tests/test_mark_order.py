"""Marks from the wrong end, or with rows and columns exchanged: refused, whichever levels are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.films.mark_order import check_order, order_complaints
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from tests.conftest import DATA, SAMPLE

SPINE = read_annotations(SAMPLE / "annotations.json")


def turned_over(view: ViewMarks) -> ViewMarks:
    """The same places, levels from the other end."""
    levels = [mark.level for mark in view.marks]
    marks = [replace(m, level=n) for m, n in zip(view.marks, reversed(levels), strict=True)]
    return replace(view, marks=tuple(reversed(marks)))


def upside_down(view: ViewMarks) -> ViewMarks:
    """The film's lower end up."""
    rows = view.shape[0]
    return replace(view, marks=tuple(replace(m, centroid=(rows - m.centroid[0], m.centroid[1])) for m in view.marks))


def exchanged(view: ViewMarks) -> ViewMarks:
    return replace(view, marks=tuple(replace(m, centroid=(m.centroid[1], m.centroid[0])) for m in view.marks))


SPOILT = {
    "levels from below": (turned_over, "run from foot to head, L1 above T1"),
    "upside down": (upside_down, "run from foot to head, L1 above T1"),
    "exchanged": (exchanged, "run across the film, not down it: are rows and columns exchanged"),
}


@pytest.mark.parametrize("views", ["ap", "lat", "both"])
@pytest.mark.parametrize("how", SPOILT)
def test_it_is_said_which_view_runs_the_wrong_way(how: str, views: str) -> None:
    spoil, words = SPOILT[how]
    marks = SPINE
    for name in ("ap", "lat"):
        if views in (name, "both"):
            marks = replace(marks, **{name: spoil(getattr(marks, name))})
    with pytest.raises(UserError) as error:
        check_order(marks, "m.json")
    which = "AP and LAT" if views == "both" else views.upper()
    assert str(error.value).startswith(f"m.json: the {which} marks {words}")


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("more", [[], ["--levels=T11"], ["--anchor=L1"]])
def test_the_command_refuses_them_also_for_one_level(
    how: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil: Callable[[ViewMarks], ViewMarks] = SPOILT[how][0]
    write_annotations(tmp_path / "m.json", replace(SPINE, ap=spoil(SPINE.ap), lat=spoil(SPINE.lat)))
    films = [f"--{name}={SAMPLE}/{name}.nii.gz" for name in ("ap", "lat")]
    marks = [f"--annotations={tmp_path}/m.json", f"--output={tmp_path}/out"]
    assert main(["reconstruct", *films, *marks, *more]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and f"{tmp_path}/m.json: the AP and LAT marks {SPOILT[how][1]}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_real_spines_pass_and_two_levels_are_enough() -> None:
    for marks in (SPINE, read_annotations(DATA / "films" / "annotations.json")):
        assert check_order(marks) == []
    two = [replace(view, marks=turned_over(view).marks[5:7]) for view in (SPINE.ap, SPINE.lat)]
    assert order_complaints(Annotations(two[0], two[1]))[0]
    one = [replace(view, marks=view.marks[:1]) for view in (SPINE.ap, SPINE.lat)]
    assert check_order(Annotations(one[0], one[1])) == []


def test_two_neighbours_exchanged_and_a_flat_line_are_asked() -> None:
    upper, lower, *rest = SPINE.lat.marks
    marks = (replace(upper, centroid=lower.centroid), replace(lower, centroid=upper.centroid), *rest)
    assert check_order(replace(SPINE, lat=replace(SPINE.lat, marks=marks))) == ["LAT: T2 is marked above T1"]
    flat = ViewMarks((100, 200), (Mark(20, (10.0, 10.0)), Mark(21, (30.0, 40.0))))
    assert check_order(Annotations(flat, flat))[0] == (
        "the AP marks run more across the film than down it; are they right?"
    )


def test_the_cases_of_json_are_as_written(tmp_path: Path) -> None:
    """What a spoilt file says of its levels is what is asked: not the order of its lines."""
    document = json.loads((SAMPLE / "annotations.json").read_text())
    for view in document["views"].values():
        view["vertebrae"].reverse()
    (tmp_path / "m.json").write_text(json.dumps(document))
    assert check_order(read_annotations(tmp_path / "m.json")) == []
