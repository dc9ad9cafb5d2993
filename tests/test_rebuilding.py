"""A dataset prepared again at its place: what has changed is made anew, and nothing contradicts it meanwhile."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.cli.data import prepare as prepare_command
from scripts.data import building, prepare
from scripts.data.building import stamp_of
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.datalist import read_datalist
from scripts.data.items import VertebraItem
from scripts.data.metal import MetalEvidence
from scripts.data.prepare import prepare_dataset
from scripts.data.split import SplitOptions
from scripts.data.subset import SpineRecord, SubsetOptions
from scripts.data.vertebrae import CASE_FILE, PreparedCase, PrepareOptions
from scripts.errors import UserError
from scripts.jobs import run_jobs
from tests.conftest import SimulatedCase, simulate_case

EVERYTHING_TRAINS = SplitOptions(test_share=0, validation_share=0)


@pytest.fixture(autouse=True)
def no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are most of the time of a build as small as these."""
    monkeypatch.setattr(prepare, "write_statistics", lambda *_: None)


def relabel(case: SimulatedCase) -> None:
    """Each vertebra gets the number of the next one; the file keeps its size."""
    image, size = nib.load(case.mask), case.mask.stat().st_size
    labels = np.asanyarray(image.dataobj).copy()
    labels[labels > 0] += 1
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), case.mask)
    with case.mask.open("ab") as stream:
        stream.write(bytes(max(size - case.mask.stat().st_size, 0)))


def stand_in(case: CaseFiles, folder: Path, *_: object) -> PreparedCase:
    """What `prepare_case` leaves of a case, without its images; those of patients named cut... are in no list."""
    excluded = "cut" if case.subject.startswith("cut") else ""
    spine = SpineRecord(case.key, case.subject, "", (20,), MetalEvidence(1500.0, 0.0, 0.0, False), usable=not excluded)
    item = VertebraItem("i", "l", case.key, "", "L1", (1.0, 2.5, -3.0), "annotated", 0.0, 0.0, "", "", excluded)
    prepared = PreparedCase(spine, (item,))
    (folder / CASE_FILE).write_text(json.dumps(asdict(prepared)))
    return prepared


def test_a_corrected_mask_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    case = simulate_case(tmp_path / "source", "p", levels=(20,))
    prepare_dataset(tmp_path / "source", tmp_path / "d", PrepareOptions(), EVERYTHING_TRAINS)
    size = case.mask.stat().st_size
    relabel(case)
    assert case.mask.stat().st_size == size
    prepare_dataset(tmp_path / "source", tmp_path / "d", PrepareOptions(), EVERYTHING_TRAINS)
    assert [item["level"] for item in read_datalist(tmp_path / "d", "training")] == ["L2"]
    assert not (tmp_path / "d" / "cases" / "p" / "L1_mask.nii.gz").exists()


@pytest.mark.parametrize("name", ["p_ct.nii.gz", "p_ctd.json", "p_vert_msk.json", "p_seg-vert_msk.nii.gz"])
def test_the_stamp_knows_the_content_of_every_input(tmp_path: Path, name: str) -> None:
    for file in ("p_ct.nii.gz", "p_ctd.json", "p_vert_msk.nii.gz", "p_vert_msk.json"):
        (tmp_path / file).write_bytes(b"1")
    if "seg-" in name:
        (tmp_path / "p_vert_msk.nii.gz").rename(tmp_path / name)
        name = "p_landmarks.json"
        (tmp_path / name).write_bytes(b"1")
    (case,) = find_cases(tmp_path)
    before = stamp_of(case, PrepareOptions())
    assert before == stamp_of(case, PrepareOptions())
    (tmp_path / name).write_bytes(b"2")
    assert stamp_of(case, PrepareOptions()) != before


def test_the_stamp_knows_the_content_of_every_surface(tmp_path: Path) -> None:
    case = CaseFiles("p", "", None, tmp_path, paint=True)
    (tmp_path / "L1.stl").write_bytes(b"1")
    stamps = [stamp_of(case, PrepareOptions())]
    (tmp_path / "L1.stl").write_bytes(b"2")
    stamps.append(stamp_of(case, PrepareOptions()))
    (tmp_path / "L2.stl").write_bytes(b"2")
    stamps.append(stamp_of(case, PrepareOptions()))
    assert len(set(stamps)) == 3


def test_a_patient_s_variants_read_its_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = building.hashlib.file_digest
    monkeypatch.setattr(building.hashlib, "file_digest", lambda *a: opened.append(a) or real(*a))
    simulate_case(tmp_path, "p", levels=(20,))
    (case,) = find_cases(tmp_path)
    stamps = {stamp_of(case, PrepareOptions()) for _ in range(5)}
    assert len(stamps) == 1 and len(opened) == 2
    assert json.loads(stamps.pop())["format"] == building.FORMAT


def test_lists_do_not_outlive_the_cases_that_they_describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first of two cases was replaced; a build of new cases only leaves the lists as they are."""

    def stopped(*arguments: object, **options: object) -> Iterator[object]:
        yield next(iter(run_jobs(*arguments, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "prepare_case", stand_in)
    rows = [{"subject": name, "ct": None, "mask": None} for name in ("p1", "p2", "p3")]
    source, out = tmp_path / "cases.json", tmp_path / "d"

    def build(patients: int, options: PrepareOptions, run: object = run_jobs) -> None:
        monkeypatch.setattr(prepare, "run_jobs", run)
        source.write_text(json.dumps(rows[:patients]))
        prepare.prepare_dataset(source, out, options, EVERYTHING_TRAINS)

    build(2, PrepareOptions())
    first = (out / "dataset.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        build(3, PrepareOptions(), stopped)
    assert (out / "dataset.json").read_bytes() == first
    with pytest.raises(KeyboardInterrupt):
        build(2, PrepareOptions(along_spine=True), stopped)
    with pytest.raises(UserError, match=r"no such file; is .* a prepared dataset"):
        read_datalist(out, "training")
    build(2, PrepareOptions(along_spine=True))
    assert len(read_datalist(out, "training")) == 2 and not (out / "dataset.json.outdated").exists()


def test_names_that_look_like_one_patient_s_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "prepare_case", stand_in)
    (tmp_path / "source").mkdir()
    for name in ("p1", "p1_2", "p2"):
        (tmp_path / "source" / f"{name}_ct.nii.gz").touch()
    counts = prepare_dataset(tmp_path / "source", tmp_path / "d", PrepareOptions(), EVERYTHING_TRAINS)
    with (tmp_path / "d" / "warnings.csv").open(newline="") as stream:
        rows = {row["case"]: row["warning"] for row in csv.DictReader(stream)}
    assert counts["warnings"] == 2 and rows.keys() == {"p1", "p1_2"} and "another patient than p1_2" in rows["p1"]


def test_lists_are_drawn_from_patients_who_can_be_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patients whose vertebrae are all cut change no draw, are named in warnings.csv, and get no variants."""
    monkeypatch.setattr(building, "prepare_case", stand_in)
    monkeypatch.setattr(prepare, "write_statistics", lambda output, *_: (output / "table1.md").touch())

    def build(name: str, *patients: str, **options: object) -> dict[str, list[str]]:
        for patient in patients:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{patient}_ct.nii.gz").touch()
        split, subset = SplitOptions(**options), SubsetOptions()
        prepare_command(str(tmp_path / name), tmp_path / f"{name}_d", subset, split, variants=1)
        document = json.loads((tmp_path / f"{name}_d" / "dataset.json").read_bytes())
        return {name: sorted({i["subject"] for i in document[name]}) for name in ("training", "validation", "test")}

    whole = [f"p{number}" for number in range(5)]
    without = build("without", *whole)
    assert "warning: the validation list is empty: a share of 0.1 of so few" in capsys.readouterr().out
    lists = build("with", *whole, *(f"cut{number}" for number in range(20)))
    assert lists == without and len(lists["test"]) == 1
    with (tmp_path / "with_d" / "warnings.csv").open(newline="") as stream:
        warned = {row["case"] for row in csv.DictReader(stream) if "none of its vertebrae can be" in row["warning"]}
    assert warned == {f"cut{number}" for number in range(20)} and not list((tmp_path / "with_d/cases").glob("cut*~v*"))
    capsys.readouterr()
    build("with", test=("cut3",), test_share=0, validation_share=0)
    assert "warning: the test list is empty: no vertebra of cut3 can be in a list" in capsys.readouterr().out
    build("with", test=("p3",), test_share=0, validation_share=0)
    assert "list is empty" not in capsys.readouterr().out
    build("cut", "cut1", "cut2")
    assert "warning: no vertebra is in any list" in capsys.readouterr().out


def test_a_patient_can_be_named_as_either_release_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "prepare_case", stand_in)
    for release, name in (("verse19", "verse100"), ("verse20", "verse700"), ("verse20", "verse701")):
        for kind, ending in (("rawdata", "ct"), ("derivatives", "seg-vert_msk")):
            path = tmp_path / release / kind / f"sub-{name}" / f"sub-{name}_{ending}.nii.gz"
            path.parent.mkdir(parents=True)
            voxels = np.full((4, 4, 4), int(name == "verse701"), np.int16)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    for name in ("verse100", "verse700"):
        split = SplitOptions(0, 0, test=(name, "verse700"))
        prepare_dataset(tmp_path, tmp_path / "d", PrepareOptions(), split)
        assert [item["subject"] for item in read_datalist(tmp_path / "d", "test")] == ["verse700"]
    with pytest.raises(UserError, match="'verse700' is named for two lists"):
        split = SplitOptions(0, 0, test=("verse100",), training=("verse700",))
        prepare_dataset(tmp_path, tmp_path / "d", PrepareOptions(), split)
