"""Angles between the program's end vertebrae or the user's, the lines that they are drawn with, and the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, View, geometry_of_grid
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR, Grid
from scripts.io.annotations import Annotations, EndVertebrae, Mark, ViewMarks, read_annotations, write_annotations
from scripts.io.tables import read_csv
from scripts.levels import LEVEL_NUMBERS
from scripts.localization.anchors import parse_anchors, renumber
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, tilt
from scripts.measure.morphometry import measure_spine
from scripts.measure.plate_lines import film_lines, plate_lines
from scripts.measure.pose import Endplate, VertebraPose
from scripts.measure.review import Review
from scripts.measure.spine_angles import ChosenBy, SpineAngle, spine_angles
from scripts.measure.status import Status, Use
from scripts.render.report import spine_row
from scripts.render.report_page import _text
from scripts.render.report_tables import vertebra_rows, write_tables

FRONTAL_TILTS = {"T4": 0, "T5": 15, "T6": 8, "T7": 0, "T8": -8, "T9": -15, "T10": -10, "T11": -4, "T12": 2, "L1": 5}

# One long curve that bends back a little, from T7 to T9.
LONG_TILTS = (20, 12, 5, 0, 2, 4, -5, -12, -16, -20)


def pose(name: str, frontal: float, sagittal: float, down: float) -> VertebraPose:
    """A vertebra whose endplates lean by as much to the left and forwards, as seen from the front and from the side."""
    slopes = np.tan(np.radians([frontal, sagittal]))
    normal = -INFERIOR + slopes[0] * LEFT - slopes[1] * POSTERIOR
    normal /= np.linalg.norm(normal)
    middle = np.array([3.0, -2.0, -down])
    plates = [Endplate(middle + [0, 0, step], normal, (1.0, 1.0)) for step in (10.0, -10.0)]
    return VertebraPose(
        LEVEL_NUMBERS[name], middle, np.eye(3), plates[0], plates[1], 1.0, 40.0, 30.0, (20.0, 20.0, 20.0), True
    )


@pytest.fixture
def poses() -> dict[int, VertebraPose]:
    made = [pose(name, t, 30 - 7 * i, 25.0 * i) for i, (name, t) in enumerate(FRONTAL_TILTS.items())]
    return {p.level: p for p in made}


def chosen(measure: str, upper: str, lower: str) -> EndVertebrae:
    return EndVertebrae(measure, LEVEL_NUMBERS[upper], LEVEL_NUMBERS[lower])


def told(angles: tuple[SpineAngle, ...]) -> list[tuple[str, str, str, int | None]]:
    return [(a.measure, a.ends, a.chosen_by.value, round(a.angle.degrees) if a.angle else None) for a in angles]


def test_end_vertebrae_are_the_program_s_until_the_user_s(poses: dict[int, VertebraPose]) -> None:
    assert told(spine_angles(poses, {})) == [
        ("cobb", "T5-T9", "program", 30), ("cobb", "T9-L1", "program", 20), ("kyphosis", "T4-T12", "program", 56),
    ]  # fmt: skip
    own = spine_angles(poses, {}, [chosen("cobb", "T6", "T8"), chosen("kyphosis", "T5", "T10")])
    # In place of the curve that it has most in common with; the other one stays the program's.
    assert told(own) == [
        ("cobb", "T9-L1", "program", 20), ("cobb", "T6-T8", "user", 16), ("kyphosis", "T5-T10", "user", 35),
    ]  # fmt: skip
    assert own[1].curve is not None and (own[1].curve.apex, own[1].curve.convex_to) == (LEVEL_NUMBERS["T7"], "right")
    # One that is only touched is not replaced; neighbours can be measured; the uncertainty is that of both endplates.
    beside = spine_angles(poses, {}, [chosen("cobb", "T4", "T5")])
    assert told(beside)[:3] == [("cobb", "T5-T9", "program", 30), ("cobb", "T9-L1", "program", 20),
                                ("cobb", "T4-T5", "user", 15)]  # fmt: skip
    assert beside[2].angle is not None and beside[2].angle.sd == pytest.approx(2**0.5)
    # Two for one curve replace that one only, in either order.
    both = [chosen("cobb", "T5", "T9"), chosen("cobb", "T6", "T10")]
    for pair in (both, both[::-1]):
        assert ("cobb", "T9-L1", "program", 20) in told(spine_angles(poses, {}, pair))
    # One that bends the other way is no part of the curve around it.
    against = [pose(n, t, 0, 25.0 * i) for i, (n, t) in enumerate(zip(FRONTAL_TILTS, LONG_TILTS, strict=True))]
    inside = spine_angles({p.level: p for p in against}, {}, [chosen("cobb", "T7", "T9")])
    assert told(inside)[:2] == [("cobb", "T4-L1", "program", 40), ("cobb", "T7-T9", "user", 4)]
    lordosis = spine_angles(poses, {}, [chosen("lordosis", "T12", "L1")])[-1]
    assert lordosis.angle is not None and lordosis.angle.degrees == pytest.approx(-7)


def test_what_cannot_be_measured_stays_withheld_with_its_reason(poses: dict[int, VertebraPose]) -> None:
    ends = [chosen("cobb", "T5", "T10"), chosen("kyphosis", "T2", "T12"), chosen("lordosis", "T6", "L1")]
    bad, t6 = LEVEL_NUMBERS["T10"], LEVEL_NUMBERS["T6"]
    usable = {n: p for n, p in poses.items() if n != bad} | {t6: replace(poses[t6], upper=None)}
    angles = spine_angles(usable, {bad: "endplates 60° askew to the line through the bodies"}, ends)
    missing = {a.measure: a.missing for a in angles if a.angle is None}
    assert missing == {
        "cobb": "T10: endplates 60° askew to the line through the bodies",
        "kyphosis": "T2: not reconstructed",
        "lordosis": "T6 has no upper endplate that could be measured",
    }
    assert all(a.chosen_by is ChosenBy.USER for a in angles if a.angle is None)
    lines = film_lines(usable, angles, geometry_of_grid(Grid((0.0, 0.0, 0.0), (300, 200, 200)), Beam.PARALLEL))
    drawn = [a for film in lines for a in film.angles]
    assert drawn and all(a.angle is not None for a in drawn) and bad not in lines[0].plates
    # Where the program has no two thoracic vertebrae, nobody asks for a kyphosis.
    assert spine_angles({LEVEL_NUMBERS["T4"]: poses[LEVEL_NUMBERS["T4"]]}, {}) == ()


@pytest.mark.parametrize("beam", list(Beam))
def test_what_is_drawn_is_what_was_measured(poses: dict[int, VertebraPose], beam: Beam) -> None:
    """In space the lines lie in their endplate; on the films they cross at the angle that is written there."""
    geometry = geometry_of_grid(Grid((60.0, 60.0, 10.0), (300, 200, 200)), beam)
    for p in poses.values():
        for plate, both in zip((p.upper, p.lower), plate_lines(p), strict=True):
            assert plate is not None
            for plane, line in zip((FRONTAL, SAGITTAL), both, strict=True):
                assert (line - plate.centre_mm) @ plate.normal == pytest.approx([0, 0], abs=1e-9)
                across = POSTERIOR if plane == FRONTAL else LEFT
                assert (line - plate.centre_mm) @ across == pytest.approx([0, 0], abs=1e-9)
                assert np.linalg.norm(line[1] - line[0]) == pytest.approx((40, 30)[plane])
    angles = spine_angles(poses, {}, [chosen("cobb", "T6", "T12")])
    for film, view, plane in zip(
        film_lines(poses, angles, geometry), (geometry.ap, geometry.lat), (FRONTAL, SAGITTAL), strict=True
    ):
        for number, lines in film.plates.items():
            upper = poses[number].upper
            assert upper is not None and lines.mean(axis=1)[0] == pytest.approx(view.project(upper.centre_mm)[0], abs=1)
            assert plate_lines(poses[number])[0, plane] == pytest.approx(seen(view, lines[0], upper, plane), abs=1e-6)
        assert film.angles
        for angle, both in film.angles.items():
            (first, second) = (ends[1] - ends[0] for ends in both)
            cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
            assert angle.angle is not None
            # A slot magnifies along the columns only.
            near = 0.01 if beam is not Beam.SLOT else 8.0
            assert np.degrees(np.arccos(cosine)) == pytest.approx(abs(angle.angle.degrees), abs=near)
            # They converge at the second end.
            assert np.linalg.norm(both[0, 1] - both[1, 1]) < np.linalg.norm(both[0, 0] - both[1, 0])


def seen(view: View, pixels: np.ndarray, plate: Endplate, plane: int) -> np.ndarray:
    """Where the rays through two pixels pass the frontal or sagittal plane through an endplate's middle."""
    across = POSTERIOR if plane == FRONTAL else LEFT
    origins, directions = view.ray_basis()
    rays = [(np.array([1.0, *p]) @ origins, np.array([1.0, *p]) @ directions) for p in pixels]
    return np.array([o + d * ((plate.centre_mm - o) @ across) / (d @ across) for o, d in rays])


def test_the_choice_is_kept_checked_and_renumbered(tmp_path: Path) -> None:
    view = ViewMarks((400, 300), tuple(Mark(n, (20.0 * n, 100.0)) for n in (12, 13, 14, 15)))
    annotations = Annotations(view, view, "a", end_vertebrae=(chosen("cobb", "T5", "T8"),))
    write_annotations(tmp_path / "a.json", annotations)
    assert read_annotations(tmp_path / "a.json") == annotations
    document = json.loads((tmp_path / "a.json").read_text())
    for bad, words in (
        ({"measure": "cobb", "upper": "T8", "lower": "T5"}, "not below"),
        ({"measure": "cobb", "upper": "T5", "lower": "T5"}, "not below"),
        ({"measure": "cobb", "upper": "T5", "lower": "X5"}, "unknown vertebra level"),
        ({"measure": "tilt", "upper": "T5", "lower": "T8"}, r"\$.end_vertebrae\[0\]"),
    ):
        (tmp_path / "b.json").write_text(json.dumps({**document, "end_vertebrae": [bad]}))
        with pytest.raises(UserError, match=words):
            read_annotations(tmp_path / "b.json")
    twice = [{"measure": "cobb", "upper": "T5", "lower": "T8"}] * 2
    (tmp_path / "b.json").write_text(json.dumps({**document, "end_vertebrae": twice}))
    with pytest.raises(UserError, match="T5-T8 are given twice"):
        read_annotations(tmp_path / "b.json")
    moved = renumber(annotations, parse_anchors("T10"))
    assert moved.end_vertebrae == (chosen("cobb", "T7", "T10"),)
    # They need no mark, and cannot leave the spine.
    beyond = replace(annotations, end_vertebrae=(chosen("cobb", "T2", "T11"),))
    assert renumber(beyond, parse_anchors("T10")).end_vertebrae == (chosen("cobb", "T4", "L1"),)
    with pytest.raises(UserError, match="end vertebra C1 would lie beyond"):
        renumber(replace(annotations, end_vertebrae=(chosen("cobb", "C1", "T11"),)), parse_anchors("T7"))


def test_tables_say_all_that_the_report_says(tmp_path: Path) -> None:
    angle = {"degrees": 3.5, "sd": 0.5}
    row = {
        "level": "T5", "use": "check", "reasons": ["one, two", "three"], "centroid_mm": [1.0, 2.0, 3.0],
        "marks_set_by": {"ap": "automatic", "lat": "by hand"},
        "reprojection": {"ap": {"mark_mm": 2.25, "outside_film": 0.0}},
        "measurements": {"tilt_frontal": angle, "wedge_frontal": None, "heights_mm": [20.0, 19.0, 18.0],
                         "width_mm": None},
        "withheld": {"width": "90 mm is no width"},
    }  # fmt: skip
    spine = {
        "cobb": [{**angle, "upper_end": "T5", "lower_end": "T9", "end_vertebrae_chosen_by": "user", "apex": "T7",
                  "convex_to": "left"}],
        "kyphosis": [{"degrees": None, "sd": None, "withheld": "T4: not reconstructed", "upper_end": "T4",
                      "lower_end": "T12", "end_vertebrae_chosen_by": by} for by in ("program", "user")],
        "lordosis": [{"degrees": None, "sd": None, "withheld": "L1: do not use, two marks", "upper_end": "L1",
                      "lower_end": "L5", "end_vertebrae_chosen_by": "program"}],
        "midline_bend": {**angle, "upper_end": "T5", "lower_end": "T9"}, "without": ["L1", "L2"],
        "discs": [{"between": "T5-T6", "frontal": angle, "sagittal": angle}],
    }  # fmt: skip
    report = {
        "vertebrae": [row, {"level": "T6", "heights_mm": None}], "measurements": spine,
        "levels": "levels not confirmed",
        "levels_confirmed": False, "levels_uncertain": False, "made": "2026-01-02T03:04:05+01:00", "weights": "m.pt",
        "weights_sha256": "ab", "lengths": "estimated, films not calibrated (sd 6 %)",
    }  # fmt: skip
    write_tables(tmp_path, report)
    first, second = read_csv(tmp_path / "vertebrae.csv")
    assert first == {
        "level": "T5", "use": "check", "reasons": "one, two; three", "centroid_mm_x": "1.0", "centroid_mm_y": "2.0",
        "centroid_mm_z": "3.0", "marks_set_by_ap": "automatic", "marks_set_by_lat": "by hand",
        "reprojection_ap_mark_mm": "2.25", "reprojection_ap_outside_film": "0.0",
        "tilt_frontal_deg": "3.5", "tilt_frontal_sd_deg": "0.5",
        "wedge_frontal_deg": "", "wedge_frontal_sd_deg": "", "heights_front_mm": "20.0", "heights_middle_mm": "19.0",
        "heights_back_mm": "18.0", "width_mm": "", "withheld": "width: 90 mm is no width",
        "levels": "levels not confirmed", "levels_confirmed": "False", "levels_uncertain": "False",
        "made": "2026-01-02T03:04:05+01:00", "weights": "m.pt", "weights_sha256": "ab",
        "lengths": "estimated, films not calibrated (sd 6 %)",
    }  # fmt: skip
    assert second["heights_front_mm"] == "" and vertebra_rows(report)[1]["level"] == "T6"
    rows = read_csv(tmp_path / "spine.csv")
    asked = ("measure", "upper_end", "degrees", "end_vertebrae_chosen_by", "withheld")
    assert [tuple(r[key] for key in asked) for r in rows] == [
        ("Cobb", "T5", "3.5", "user", ""), ("kyphosis", "T4", "", "user", "T4: not reconstructed"),
        ("lordosis", "L1", "", "program", "L1: do not use, two marks"),
        ("line through the bodies", "T5", "3.5", "program", ""), ("disc, frontal", "T5", "3.5", "", ""),
        ("disc, sagittal", "T5", "3.5", "", ""),
    ]  # fmt: skip
    assert rows[0]["apex"] == "T7" and rows[0]["sd"] == "0.5" and rows[0]["made"] == report["made"]
    assert {r["without"] for r in rows} == {"L1; L2"}


def test_pictures_and_pages_round_the_same_number_once(poses: dict[int, VertebraPose]) -> None:
    for degrees, shown in ((10.501, 11), (10.496, 11), (10.4949, 10), (9.499, 10), (0.2, 0)):
        angle = SpineAngle("cobb", 12, 16, ChosenBy.PROGRAM, Angle(degrees, 1.0))
        reported = {"degrees": round(degrees, 2), "sd": 1.0}
        assert angle.drawn == f"Cobb {shown}°" and _text(reported).startswith(f"{shown}&deg;")


def test_a_vertebra_that_is_not_to_be_used_is_no_end(poses: dict[int, VertebraPose]) -> None:
    """The program takes others, what the user chose is withheld; kyphosis and the discs beside it likewise."""
    bad = LEVEL_NUMBERS["T9"]
    parts = {n: SimpleNamespace(level=n) for n in poses}
    statuses = {n: Status(Use.NOT, ("confidence 0.01",)) if n == bad else Status(Use.GOOD) for n in parts}
    ends = [chosen("cobb", "T5", "T9"), chosen("kyphosis", "T4", "T9")]
    measures = measure_spine(list(poses.values()), [bad])
    checked = Review(poses, {}, measures, {}, {}, statuses)
    assert told(checked.angles([]))[:2] == [("cobb", "T5-T10", "program", 25), ("cobb", "T10-L1", "program", 15)]
    withheld = {a.measure: a.missing for a in checked.angles(ends) if a.angle is None}
    assert withheld == dict.fromkeys(("cobb", "kyphosis"), "T9: do not use, confidence 0.01")
    assert checked.marked == {bad}
    row = spine_row(checked, checked.angles(ends))
    assert row["without"] == ["T9"] and row["kyphosis_T4_T12"] is not None
    assert not any("T9" in disc["between"] for disc in row["discs"]) and len(row["discs"]) == 7
    t4 = replace(checked, statuses={**statuses, LEVEL_NUMBERS["T4"]: Status(Use.NOT, ("confidence 0.02",))})
    assert "T4: do not use" in t4.angles([])[-1].missing


def test_the_poses_of_these_tests_lean_as_they_say(poses: dict[int, VertebraPose]) -> None:
    t9 = poses[LEVEL_NUMBERS["T9"]].lower
    assert tilt(t9, FRONTAL).degrees == pytest.approx(-15) and tilt(t9, SAGITTAL).degrees == pytest.approx(-5)
