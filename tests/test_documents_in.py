"""JSON and YAML of any origin: what is read, what is refused by its field, and that NaN is never written."""

from __future__ import annotations

import codecs
import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.__main__ import main
from scripts.anatomy.centroids import _read_points
from scripts.anatomy.landmarks import read_landmarks
from scripts.data.cases import find_cases
from scripts.data.datalist import read_document
from scripts.data.vertebrae import read_case_file
from scripts.deploy.study import job_of_folder
from scripts.errors import UserError
from scripts.films.geometry_file import read_geometry
from scripts.geometry.biplanar import geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from scripts.io.documents import parse_json, read_json, read_small, to_json, write_json
from scripts.release.bundle import read_object
from scripts.render.report import withheld
from scripts.render.report_page import report_page
from tests.conftest import SAMPLE

MARKS = json.loads((SAMPLE / "annotations.json").read_text())
EXACT = geometry_of_grid(Grid((0.0, 0.0, 0.0), (333, 275, 360))).to_dict()
ENCODINGS = {"utf-8 with a mark": "utf-8-sig", "utf-16": "utf-16"}


@pytest.mark.parametrize("encoding", ENCODINGS.values())
def test_byte_order_marks_are_read_over(encoding: str, tmp_path: Path) -> None:
    def written(name: str, document: Any) -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding=encoding)
        assert path.read_bytes().startswith((codecs.BOM_UTF8, codecs.BOM_UTF16))
        return path

    assert read_annotations(written("a.json", MARKS)) == read_annotations(SAMPLE / "annotations.json")
    assert read_geometry(written("g.json", EXACT)).exact is not None
    assert read_geometry(written("g.yaml", "beam: parallel")).ap.beam is not None
    assert _read_points(written("p_ctd.json", [{"label": 20, "X": 1, "Y": 2, "Z": 3}]))[1][20].tolist() == [1, 2, 3]
    written("dataset.json", {"test": []})
    assert read_document(tmp_path) == {"test": []}
    cases = find_cases(written("m.json", [{"subject": "p", "ct": "a.nii.gz", "mask": "b.nii.gz"}]))
    assert [case.subject for case in cases] == ["p"]
    for name in ("ap.png", "lat.png"):
        (tmp_path / name).touch()
    written("anchor.txt", "L5\r\n")
    assert [str(anchor) for anchor in job_of_folder(tmp_path).anchor] == ["L5"]


def changed(path: str, value: Any, document: Any = MARKS) -> str:
    """A document with one value replaced by any JSON text."""
    copy = json.loads(json.dumps(document))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = copy
    for part in way:
        inner = inner[part]
    inner[last] = "@@"
    return json.dumps(copy).replace('"@@"', value)


NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400)
FIELDS = {
    "views.ap.vertebrae.3.centroid.1": "$.views.ap.vertebrae[3].centroid[1]",
    "views.lat.vertebrae.0.confidence": "$.views.lat.vertebrae[0].confidence",
    "views.ap.shape.0": "$.views.ap.shape[0]",
    "shift_margin": "$.shift_margin",
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("path", FIELDS)
def test_numbers_of_marks_are_finite(path: str, number: str, tmp_path: Path) -> None:
    (tmp_path / "marks.json").write_text(changed(path, number))
    with pytest.raises(UserError, match="no finite number") as error:
        read_annotations(tmp_path / "marks.json")
    assert f"marks.json: at {FIELDS[path]}:" in str(error.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_nan_corners_are_refused_too(number: str, tmp_path: Path) -> None:
    corners = f"[[1, 2], [1, 9], [8, 9], [8, {number}]]"
    (tmp_path / "marks.json").write_text(changed("views.ap.vertebrae.0.corners", corners))
    with pytest.raises(UserError, match=r"vertebrae\[0\]\.corners\[3\]\[1\]"):
        read_annotations(tmp_path / "marks.json")


@pytest.mark.parametrize("path", ["ap.isocentre_mm.0", "lat.principal_point.1", "ap.pixel_spacing_mm.0"])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_numbers_of_geometries_are_finite(path: str, suffix: str, tmp_path: Path) -> None:
    number = {"json": "NaN", "yaml": ".nan"}[suffix]
    (tmp_path / f"g.{suffix}").write_text(changed(path, number, EXACT))
    with pytest.raises(UserError, match=rf"g\.{suffix}: at \$\.{path.split('.')[0]}\..*no finite number"):
        read_geometry(tmp_path / f"g.{suffix}")
    (tmp_path / "lines.yaml").write_text("beam: parallel\nap: {pixel_spacing_mm: .nan}")
    with pytest.raises(UserError, match=r"\$\.ap\.pixel_spacing_mm"):
        read_geometry(tmp_path / "lines.yaml")


@pytest.mark.parametrize("value", ['"abc"', "[1, 2]", "[1, [2], 3]", "7", "{}"])
def test_an_exact_geometry_of_wrong_kinds_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(changed("ap.isocentre_mm", value, EXACT))
    with pytest.raises(UserError, match="not a readable geometry file"):
        read_geometry(tmp_path / "g.json")


def test_json_geometries_have_json_numbers(tmp_path: Path) -> None:
    """YAML takes 1e-05, as Python writes it, for a text."""
    (tmp_path / "g.json").write_text(changed("ap.isocentre_mm.0", "1e-05", EXACT))
    exact = read_geometry(tmp_path / "g.json").exact
    assert exact is not None and exact.ap.isocentre_mm[0] == 1e-05


DEEP = 100_000
BOMBS = {
    "deep.json": "[" * DEEP + "]" * DEEP,
    "less_deep.json": "[" * 400 + "]" * 400,
    "objects.json": '{"a":' * DEEP,
    "many.json": json.dumps([0] * 60_000),
    "large.json": '"' + "a" * 2**20 + '"',
    "deep.yaml": "[" * DEEP,
    "less_deep.yaml": "[" * 100 + "]" * 100,
    "aliases.yaml": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merged.yaml": "a: &a {k: 1}\n"
    + "".join(
        f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself.yaml": "a: &a [*a]",
    "twice.json": '{"beam": "parallel", "beam": "cone"}',
    "twice.yaml": "beam: parallel\nbeam: cone",
    "half.json": '{"case": "\\ud800"}',
    "int.yaml": "beam: !!int ''",
    "time.yaml": "beam: !!timestamp x",
    "code.yaml": "beam: !!python/object/apply:os.system ['true']",
    "latin.json": b'{"case": "M\xfcller"}',
    "zeros.json": b"\0" * 1000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_stop_the_engine_is_one_line(name: str, tmp_path: Path) -> None:
    text = BOMBS[name]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    readers: list[Callable[[Path], object]] = [read_geometry]
    readers += [read_annotations] if name.endswith("json") else []
    for read in readers:
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and len(str(error.value)) < 400
        assert len(str(error.value).splitlines()) == 1


def test_honest_aliases_of_yaml_still_work(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("beam: parallel\nap: &one {pixel_spacing_mm: 0.2}\nlat: {<<: *one, roll_deg: 3}\n")
    setup = read_geometry(tmp_path / "g.yaml")
    assert setup.ap_spacing_mm == setup.lat_spacing_mm == (0.2, 0.2) and setup.lat.turned_deg == (0, 0, 3)
    assert read_small(tmp_path / "g.yaml", "file") == yaml.safe_load((tmp_path / "g.yaml").read_text())


def test_marks_beyond_their_film_are_refused(tmp_path: Path) -> None:
    far = {
        "views.ap.vertebrae.3.centroid.1": ("1e300", r"\$\.views\.ap\.vertebrae\[3\]\.centroid: "),
        "views.lat.vertebrae.0.centroid.0": ("-500", r"\$\.views\.lat\.vertebrae\[0\]\.centroid: "),
        "views.ap.vertebrae.2.corners": (
            "[[1,1],[1,9],[9,9],[9,1e6]]",
            r"\$\.views\.ap\.vertebrae\[2\]\.corners\[3\]: ",
        ),
    }
    for path, (value, field) in far.items():
        (tmp_path / "marks.json").write_text(changed(path, value))
        with pytest.raises(UserError, match=f"at {field}.* lies beyond its film"):
            read_annotations(tmp_path / "marks.json")


def test_large_documents_cost_no_time(tmp_path: Path) -> None:
    keys = ",".join(f'"{i}":1' for i in range(60_000))
    items = "[" + "1," * 400_000 + "1]"
    tries = {
        "twice.json": (f'{{{keys},"59999":1}}', "'59999' is there twice"),
        "long.yaml": (items, "larger than 64 kB"),
    }
    for name, (text, words) in tries.items():
        (tmp_path / name).write_text(text)
        started = time.process_time()
        with pytest.raises(UserError, match=words):
            read_small(tmp_path / name, "file")
        assert time.process_time() - started < 10, name
    started = time.process_time()
    with pytest.raises(UserError, match="larger than 1 MB"):
        parse_json(items * 20, "the marks")
    assert time.process_time() - started < 1


@pytest.mark.parametrize("read", [read_landmarks, read_case_file, read_object], ids=lambda read: read.__name__)
def test_a_file_that_was_cut_is_one_line(read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(MARKS)[:100])
    with pytest.raises(UserError, match=re.escape(str(path)) + ": not a readable [a-zA-Z ]+ .*char"):
        read(path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("before")
    with pytest.raises(UserError, match=r"a\.json: at \$\.x\[1\]"):
        write_json(target, {"x": [1.0, math.nan]})
    marks = ViewMarks((100, 80), (Mark(20, (math.inf, 4.0)),))
    with pytest.raises(UserError, match=r"centroid\[0\]"):
        write_annotations(target, Annotations(marks, marks))
    assert target.read_text() == "before" and len(list(tmp_path.iterdir())) == 1
    write_json(target, {"x": [1.0, None]})
    assert read_json(target) == {"x": [1.0, None]}


def test_a_report_withholds_what_is_not_finite_and_says_so() -> None:
    angle = {"degrees": math.nan, "sd": 1.0}
    measures = dict.fromkeys(
        ("tilt_frontal", "tilt_sagittal", "axial_rotation", "wedge_sagittal", "heights_mm", "width_mm", "depth_mm",
         "anterior_ratio", "middle_ratio", "posterior_ratio")
    )  # fmt: skip
    row = {
        "level": "T5", "confidence": math.nan, "residual_mm": 1.0, "flags": [], "use": "check", "reasons": [],
        "marks_set_by": {"ap": "automatic", "lat": "by hand"},
        "measurements": {**measures, "width_mm": math.inf, "tilt_frontal": angle, "heights_mm": [1.0, math.nan, 2.0]},
        "reprojection": {name: {"mark_mm": -math.inf} for name in ("ap", "lat")},
    }  # fmt: skip
    ends = {"upper_end": "T4", "lower_end": "T12", "end_vertebrae_chosen_by": "program"}
    spine = {
        "cobb": [],
        "no_cobb": "no curve",
        "midline_bend": None,
        "kyphosis": [{**angle, **ends}],
        "lordosis": [],
        "without": [],
    }
    report = withheld(
        {"case": "x", "vertebrae": [row], "measurements": spine, "warnings": ["one"], "levels": "levels not confirmed",
         "films": {"ap": {"scale_sd_percent": 0.0, "scale_from": "file"}}, "lengths": "estimated <b>",
         "versions": {"bundle": "1"}, "weights": "w",
         "weights_sha256": "", "made": "2026-01-02T03:04:05+01:00"}
    )  # fmt: skip
    assert json.loads(to_json(report, "report.json"))["vertebrae"][0]["confidence"] is None
    assert report["warnings"][0] == "one" and "T5: confidence withheld: it has no finite value" in report["warnings"]
    assert "measurements.kyphosis[0].degrees withheld: it has no finite value" in report["warnings"]
    page = report_page(report, {})
    assert (
        "Lengths, every mm: estimated &lt;b&gt;" in page
        and "nan" not in page
        and "inf" not in re.sub("no finite value", "", page)
    )
    assert withheld({"vertebrae": [], "warnings": []}) == {"vertebrae": [], "warnings": []}


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ap.nii.gz", "lat.nii.gz"):
        shutil.copy(SAMPLE / name, tmp_path)
    films = [f"--ap={tmp_path}/ap.nii.gz", f"--lat={tmp_path}/lat.nii.gz", f"--output={tmp_path}/out"]
    for text in (changed("views.ap.vertebrae.3.centroid.1", "NaN"), BOMBS["deep.json"]):
        (tmp_path / "marks.json").write_text(text)
        assert main(["reconstruct", *films, f"--annotations={tmp_path}/marks.json"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path}/marks.json: ") and len(said.splitlines()) == 1
