"""CTs without masks: the spine's line, marks, fitted shapes, and that nobody takes them for truth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.anatomy.shapes import SHAPE_SPACING_MM, load_subject
from scripts.data.cases import find_cases
from scripts.data.datalist import truth_only
from scripts.data.items import VertebraItem
from scripts.data.labelling.fit import FitOptions, fit_spine
from scripts.data.labelling.labelmap import draw_labels
from scripts.data.labelling.marks import CaseMarks, VertebraMark, read_marks, write_marks
from scripts.data.labelling.propose import Anchor, bodies_between, disc_response, propose_discs
from scripts.data.labelling.refine import centred
from scripts.data.labelling.spine_line import find_spine, frame_along
from scripts.data.labelling.volume import CtVolume
from scripts.data.labelling.write import FITTED, write_case
from scripts.data.split import SplitOptions, split_truth
from scripts.data.volumes import read_case
from scripts.errors import UserError
from scripts.geometry.frames import Grid
from tests.conftest import ROOT

MARKS = ROOT / "docs" / "training" / "bodies"
PITCH_MM = 18.0


def phantom() -> tuple[CtVolume, np.ndarray]:
    """A neck-like spine on a curve: bodies with discs, canal and arch behind; the bodies' line (I, 3) in world mm."""
    grid = Grid((60.0, 60.0, 180.0), (90, 60, 60), 2.0)
    i, p, left = np.meshgrid(*[np.arange(n) * 2.0 for n in grid.shape], indexing="ij")
    middle_p, middle_l = 50 + 12 * np.sin(i / 60), 60 + 6 * np.cos(i / 50)
    back, side = p - middle_p, left - middle_l
    hu = np.where(np.hypot(back, side) < 52, 40.0, -1000.0)
    body = (np.hypot(back, side) < 11) & (np.abs((i + 9) % PITCH_MM - 9) > 2)
    ring = np.hypot(back - 17, side)
    arch = (ring > 7) & (ring < 11) & ((back > 14) | (np.abs(side) > 6))
    hu = np.where(body | (np.hypot(back, side) < 11) & (hu > 0), np.where(body, 300.0, 70.0), hu)
    hu = np.where(arch & ~body, 500.0, hu).astype(np.float32)
    rows = np.arange(grid.shape[0])
    index = np.stack([rows, middle_p[:, 0, 0] / 2, middle_l[:, 0, 0] / 2], 1)
    return CtVolume(hu, grid, np.ones(grid.shape, bool), (2.0, 2.0, 2.0)), grid.to_world(index)


def test_the_spine_is_found_and_its_discs_are_counted_from_one() -> None:
    ct, truth = phantom()
    line = find_spine(ct)
    gaps = np.linalg.norm(line.points_mm[:, None] - truth[None], axis=-1).min(1)
    assert np.median(gaps) < 3 and np.percentile(gaps, 90) < 6
    # The first disc that lies inside is at 18 mm of height.
    first = line.place(truth[9])[0]
    discs = propose_discs(disc_response(ct, line), Anchor(3, float(first)))
    heights = np.array([line.world(arc)[2] for arc in discs.values()])
    off = np.abs((180.0 - heights + 9) % PITCH_MM - 9)
    assert len(discs) >= 6 and np.median(off) < 2.5 and off.max() < 6
    places = centred(ct, line, bodies_between(discs))
    across = [np.linalg.norm((truth - point)[:, :2], axis=1)[int((180 - point[2]) / 2)] for point in places.values()]
    assert np.max(across) < 3.5


def test_a_place_along_the_line_comes_back() -> None:
    t = np.linspace(0, 1, 60)[:, None]
    line = frame_along(np.hstack([3 * t, 20 * t**2, -120 * t]))
    assert np.allclose(line.place(line.world(50.0, 4.0, -3.0)), [50, 4, -3], atol=0.3)
    # Back points backwards (-y in RAS), left to the left (-x), the line downwards.
    assert line.back[30][1] < -0.9 and line.left[30][0] < -0.99


def marks_of(levels: tuple[int, ...], **more: str) -> CaseMarks:
    return CaseMarks(
        "one", "one_ct.nii.gz", tuple(VertebraMark(n, (0.0, 0.0, -20.0 * n), "by eye") for n in levels), **more
    )


def test_marks_travel_and_bad_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    marks = marks_of((3, 2, 4)).decided({3: ("accepted", ""), 4: ("rejected", "blurred")})
    write_marks(path, marks)
    again = read_marks(path)
    assert [m.level for m in again.vertebrae] == [2, 3, 4] and again.accepted() == [3]
    assert again.vertebrae[2].reason == "blurred"
    with pytest.raises(UserError, match="no mark"):
        marks.decided({9: ("accepted", "")})
    for old, new, words in (
        ('"C3"', '"C2"', "occurs twice"),
        ('"by eye"', '"somebody"', "set_by is one of"),
        ('"version": 1', '"version": 7', "version 7"),
        ("-40.0", "NaN", "no finite number"),
    ):
        write_marks(path, marks)
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(UserError, match=words):
            read_marks(path)


def test_marks_that_come_with_the_program_are_spines() -> None:
    """Neighbours follow one another downwards at distances of real spines; ten necks are kept apart."""
    every = [read_marks(path) for path in sorted(MARKS.glob("*.json"))]
    assert len(every) == 68 and sum(m.use == "looking" for m in every) == 10
    for marks in every:
        levels = [m.level for m in marks.vertebrae]
        assert levels == list(range(levels[0], levels[-1] + 1)), marks.case
        places = np.array([m.centroid_mm for m in marks.vertebrae])
        gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert (np.diff(places[:, 2]) < 0).all() and gaps.min() > 9.5 and gaps.max() < 42, marks.case
        assert marks.licence and marks.source and marks.levels_by


def spine_ct(subject: str, levels: tuple[int, ...]) -> tuple[CtVolume, np.ndarray, dict[int, np.ndarray]]:
    """A CT of one library subject's vertebrae in a straight row, bone of 300 HU in soft tissue, slightly blurred."""
    shapes = load_subject(subject)
    grid = Grid((60.0, 40.0, 0.0), (64, 60, 60), 2.0)
    labels = np.zeros(grid.shape, np.uint8)
    marks, depth = {}, 22.0
    for number in levels:
        shape = shapes[number]
        origin = np.array([depth, 44.0, 60.0])
        where = np.stack(np.meshgrid(*[np.arange(n) * 2.0 for n in grid.shape], indexing="ij"), -1) - origin
        index = np.rint(where / SHAPE_SPACING_MM + shape.origin).astype(int)
        inside = ((index >= 0) & (index < shape.signed_distance.shape)).all(-1)
        distance = np.full(grid.shape, 9.0)
        distance[inside] = shape.signed_distance[tuple(index[inside].T)]
        labels[(distance < 0) & (labels == 0)] = number
        marks[number] = grid.to_world(origin / 2.0)
        depth += shape.pitch_mm
    hu = np.where(labels > 0, 300.0, 40.0) + np.random.default_rng(0).normal(0, 15, grid.shape)
    hu[:, :4, :4] = -1000.0
    return CtVolume(hu.astype(np.float32), grid, np.ones(grid.shape, bool), (2.0, 2.0, 2.0)), labels, marks


def test_other_peoples_shapes_find_the_bone(tmp_path: Path) -> None:
    ct, truth, marks = spine_ct("verse010", (21, 22, 23))
    rng = np.random.default_rng(3)
    shifted = {n: p + rng.normal(0, 2, 3) for n, p in marks.items()}
    fitted = fit_spine(ct, shifted, FitOptions(), ("verse004", "remus"))
    labels = draw_labels(fitted, ct.grid)
    dice = {n: 2 * ((labels == n) & (truth == n)).sum() / ((labels == n).sum() + (truth == n).sum()) for n in marks}
    assert min(dice.values()) > 0.75, dice
    for vertebra in fitted:
        assert np.linalg.norm(vertebra.centroid_mm - marks[vertebra.level]) < 5
        assert "verse010" not in vertebra.subjects
    # Only what is accepted gets a label, and prepare reads the case.
    case = CaseMarks("one", "x", tuple(VertebraMark(n, tuple(map(float, p)), "by eye") for n, p in marks.items()))
    case = case.decided({21: ("accepted", ""), 22: ("accepted", ""), 23: ("rejected", "blurred")})
    x, y, z = (round(float(v), 1) for v in marks[23])
    s1 = (x, y, z - 10.0)
    write_marks(tmp_path / "marks.json", replace(case, s1_mm=s1))
    case = read_marks(tmp_path / "marks.json")
    row = write_case(tmp_path / "one", ct, fitted, case)
    (tmp_path / "manifest.json").write_text(json.dumps([row]))
    files = find_cases(tmp_path / "manifest.json")[0]
    assert files.label_origin == FITTED
    assert files.unlabelled_mm == {"L4": pytest.approx(marks[23], abs=0.06), "S1": pytest.approx(s1)}
    volumes = read_case(files, rng)
    assert set(np.unique(volumes.labels)) == {0, 21, 22}
    assert set(volumes.annotated) == {21, 22}
    for n, point in volumes.annotated.items():
        assert np.linalg.norm(point - marks[n]) < 5
    with np.load(tmp_path / "one" / "one.npz") as stored:
        assert stored["hu"].dtype == np.int16 and stored["hu"].shape == stored["labels"].shape
        assert list(stored["numbers"]) == [21, 22] and len(stored["body_numbers"]) == 3
        at = np.rint(stored["centroids"]).astype(int)
        assert [stored["labels"][tuple(a)] for a in at] == [21, 22]


def test_fitted_labels_only_train() -> None:
    subjects = [f"p{n}" for n in range(10)]
    split = split_truth(subjects, {"p3", "p4"}, SplitOptions(0.5, 0.5), 0)
    assert split["p3"] == split["p4"] == "training" and sum(v == "test" for v in split.values()) == 4
    with pytest.raises(UserError, match="no truth"):
        split_truth(subjects, {"p3"}, SplitOptions(test=("p3",)), 0)
    item = VertebraItem("a", "b", "p3", "", "L1", (0, 0, 0), "annotated", 0, 0, "s", "l", label_origin=FITTED)
    with pytest.raises(UserError, match="p3"):
        truth_only([vars(item)])


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.data.labelling", "decide", "--marks", str(tmp_path / "none.json")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode != 0 and found.stderr.startswith("error:") and "Traceback" not in found.stderr
