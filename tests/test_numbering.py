"""Whose labels are whose, and which level each means: by exact names and by evidence, never by a guess."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.__main__ import main
from scripts.anatomy.landmarks import SpineLandmarks, known_landmarks, write_landmarks
from scripts.data.cases import find_cases
from scripts.data.numbering import find_numbering, names_beside
from scripts.errors import UserError
from scripts.levels import TOTALSEGMENTATOR_TO_VERSE
from tests.conftest import simulate_case

TO_TOTALSEGMENTATOR = {verse: number for number, verse in TOTALSEGMENTATOR_TO_VERSE.items()}


def stack(*numbers: int, tops: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Blocks from the head to the feet in voxels of 2 mm, RAS."""
    labels = np.zeros((20, 20, 20 * len(numbers)), np.uint8)
    for place, number in enumerate(reversed(numbers)):
        labels[2:18, 2:18, 20 * place + 2 : 20 * place + 14] = number
    return labels, np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("numbers", "levels"),
    [
        ((19, 20, 21), {19: 19, 20: 20, 21: 21}),
        ((20,), {20: 20}),
        ((19, 28, 20), {19: 19, 28: 28, 20: 20}),
        ((22, 23, 24, 26, 27), {22: 22, 23: 23, 24: 24}),
        ((30, 29, 28), {30: 21, 29: 22, 28: 23}),
        ((28, 27, 26, 25), {28: 23, 27: 24}),
        ((43, 42), {43: 8, 42: 9}),
    ],
)
def test_order_along_the_spine_tells_the_numbering(numbers: tuple[int, ...], levels: dict[int, int]) -> None:
    found = find_numbering(*stack(*numbers), {})
    assert {n: found.levels[n] for n in numbers if n in found.levels} == levels
    assert bool(found.notes) == (levels != {n: n for n in levels})


def test_organs_beside_the_spine_do_not_disturb() -> None:
    labels, affine = stack(29, 28, 27)
    labels[0:2, :, 5:40], labels[18:20, :, 5:50], labels[:, 0:2, 20:60] = 1, 5, 90
    assert {n: find_numbering(labels, affine, {}).levels[n] for n in (27, 28, 29)} == {27: 24, 28: 23, 29: 22}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((28,), "label 28 is then T13.*label 28 is then L4.*--labels"),
        ((28, 29, 30), "29, 30 would be unknown.*levels do not follow one another downwards"),
        ((22, 21, 20), "levels do not follow one another"),
        ((28, 23, 24), "T13 without T12 or L1"),
        ((20, 200), "200 would be unknown"),
        ((26,), "no vertebra in it"),
    ],
)
def test_what_fits_no_numbering_or_two_is_refused(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_numbering(*stack(*numbers), {})


def test_a_choice_settles_it_and_says_what_is_left_out() -> None:
    assert find_numbering(*stack(28), {}, "totalsegmentator").levels[28] == 23
    assert find_numbering(*stack(28), {}, "verse").levels[28] == 28
    (note,) = find_numbering(*stack(30, 29, 28), {}, "verse").notes
    assert "29, 30 are no VerSe numbers" in note
    (note,) = find_numbering(*stack(28), {28: "vertebrae_L4"}, "verse").notes
    assert "label 28 is named vertebrae_L4" in note
    with pytest.raises(UserError, match="unknown label numbering 'mine'; use verse, totalsegmentator"):
        find_numbering(*stack(28), {}, "mine")


def test_names_tell_any_numbering() -> None:
    found = find_numbering(*stack(3, 2, 1), {1: "L5", 2: "vertebrae_L4", 3: "L3 vertebra"})
    assert found.levels == {1: 24, 2: 23, 3: 22} and "by their names" in found.notes[0]
    assert find_numbering(*stack(20, 21), {20: "L1", 21: "L2"}).notes == ()
    with pytest.raises(UserError, match="1, 2 have the same level"):
        find_numbering(*stack(2, 1), {1: "L5", 2: "L5"})
    with pytest.raises(UserError, match="leave out 3"):
        find_numbering(*stack(3, 2), {2: "L5"})


@pytest.mark.parametrize(
    "content",
    [
        {"28": "L4", "29": "L3"},
        {"labels": {"background": 0, "vertebrae_L4": 28, "vertebrae_L3": 29}},
        [{"28": "vertebra L4"}, {"29": "vertebra L3"}],
    ],
)
@pytest.mark.parametrize("name", ["a_mask.json", "dataset.json"])
def test_names_in_a_json_file_beside_the_mask(tmp_path: Path, content: object, name: str) -> None:
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8-sig")
    names = names_beside(tmp_path / "a_mask.nii.gz")
    assert find_numbering(*stack(29, 28), names).levels == {29: 22, 28: 23}
    (tmp_path / name).write_text(json.dumps({"labels": {"0": "background", "1": "vertebra"}}))
    assert names_beside(tmp_path / "a_mask.nii.gz") == {}
    (tmp_path / name).write_text("no JSON")
    assert names_beside(tmp_path / "a_mask.nii.gz") == {}


def renumber(mask: Path, table: dict[int, int], names: dict[int, str] | None = None) -> None:
    image = nib.load(mask)
    labels = np.asanyarray(image.dataobj)
    other = nib.Nifti1Image(sum((labels == a) * np.uint8(b) for a, b in table.items()).astype(np.uint8), image.affine)
    if names:
        rows = "".join(f'<Label Key="{n}" Red="1.0"><![CDATA[{name}]]></Label>' for n, name in names.items())
        text = (
            f"<CaretExtension><VolumeInformation><LabelTable>{rows}</LabelTable></VolumeInformation></CaretExtension>"
        )
        other.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    nib.save(other, mask)


def rows(path: Path) -> dict[str, str]:
    with path.open(newline="") as stream:
        return {row["case"]: next(v for k, v in row.items() if k != "case") for row in csv.DictReader(stream)}


def prepared(source: Path, output: Path, *options: str, status: int = 0) -> dict[str, set[str]]:
    """Levels of each subject in the training list."""
    words = [f"--source={source}", f"--output={output}", "--test-share=0", "--validation-share=0", *options]
    assert main(["prepare", *words]) == status
    found: dict[str, set[str]] = {}
    if not status:
        for item in json.loads((output / "dataset.json").read_text())["training"]:
            found.setdefault(item["subject"], set()).add(item["level"])
    return found


def test_prepare_recognises_numbers_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    levels = (21, 22, 23)
    for name in ("plain", "named", "verse"):
        case = simulate_case(source, name, levels=levels)
        table = {n: TO_TOTALSEGMENTATOR[n] for n in levels}
        if name == "plain":
            renumber(case.mask, table)
        elif name == "named":
            renumber(case.mask, {21: 3, 22: 2, 23: 1}, {3: "vertebrae_L2", 2: "vertebrae_L3", 1: "vertebrae_L4"})
    found = prepared(source, tmp_path / "d")
    assert found == {name: {"L2", "L3", "L4"} for name in ("plain", "named", "verse")}
    warnings = rows(tmp_path / "d" / "warnings.csv")
    assert set(warnings) == {"plain", "named"} and "TotalSegmentator numbers" in warnings["plain"]
    assert "warning: 1 case: labels are taken as TotalSegmentator numbers" in capsys.readouterr().out
    assert prepared(source, tmp_path / "ts", "--labels=totalsegmentator") == {"plain": {"L2", "L3", "L4"}}
    assert prepared(source, tmp_path / "x", "--labels=mine", status=1) == {}
    assert "verse or totalsegmentator" in capsys.readouterr().err


def test_prepare_keeps_debris_out_and_says_why(tmp_path: Path) -> None:
    case = simulate_case(tmp_path / "source", "p", levels=(20, 21))
    image = nib.load(case.mask)
    labels = np.asanyarray(image.dataobj).copy()
    labels[38:40, 38:40, 5] = 22
    nib.save(nib.Nifti1Image(labels, image.affine), case.mask)
    assert prepared(tmp_path / "source", tmp_path / "d") == {"p": {"L1", "L2"}}
    excluded = json.loads((tmp_path / "d" / "dataset.json").read_text())["excluded"]
    assert [(item["level"], item["excluded"]) for item in excluded] == [("L3", "debris: 4 voxels, 32 mm3")]
    marks = json.loads((tmp_path / "d" / "cases" / "p" / "annotations.json").read_text())
    assert "L3" not in json.dumps(marks) and "L2" in json.dumps(marks)
    with (tmp_path / "d" / "subset.csv").open() as stream:
        assert [row["levels"] for row in csv.DictReader(stream)] == ["L1 L2"]
    labels[labels != 22] = 0
    nib.save(nib.Nifti1Image(labels, image.affine), case.mask)
    prepared(tmp_path / "source", tmp_path / "e", status=1)
    assert rows(tmp_path / "e" / "rejected.csv")["p"] == "no whole vertebra in the mask: L3 is debris: 4 voxels, 32 mm3"


def files(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "pairs", "problems"),
    [
        (["p1_mask", "p1_2_mask", "p1_2_ct"], {"p1": "p1_mask", "p1_2": "p1_2_mask"}, {}),
        (["p1_2_mask", "p1_2_ct"], {"p1": None, "p1_2": "p1_2_mask"}, {}),
        (["p1_2_mask"], {"p1": None}, {"p1": "p1_2_mask.nii.gz may be another patient's"}),
        (["p1_seg-vert_msk"], {"p1": "p1_seg-vert_msk"}, {}),
        (["p1_ct_label"], {"p1": "p1_ct_label"}, {}),
        (["p1_vert_msk_verse-labels"], {"p1": "p1_vert_msk_verse-labels"}, {}),
        (["p1_mask", "p1_seg"], {"p1": None}, {"p1": "several labelmaps: p1_mask.nii.gz, p1_seg.nii.gz"}),
        (["p1_seg_mask", "p1_seg_ct"], {"p1": None, "p1_seg": "p1_seg_mask"}, {}),
        (["p10_mask", "p10_ct"], {"p1": None, "p10": "p10_mask"}, {}),
    ],
)
def test_masks_are_paired_by_exact_names(
    tmp_path: Path, names: list[str], pairs: dict[str, str | None], problems: dict[str, str]
) -> None:
    files(tmp_path, "p1_ct.nii.gz", *(f"{name}.nii.gz" for name in names))
    cases = {case.key: case for case in find_cases(tmp_path)}
    found = {key: case.mask and case.mask.name.removesuffix(".nii.gz") for key, case in cases.items()}
    assert found == pairs
    assert {key for key, case in cases.items() if case.problem} == set(problems)
    assert all(text in cases[key].problem for key, text in problems.items())


def test_centroid_files_are_paired_likewise(tmp_path: Path) -> None:
    files(tmp_path, "p1_ct.nii.gz", "p1_mask.nii.gz", "p1_2_ct.nii.gz", "p1_2_mask.nii.gz", "p1_2_ctd.json")
    cases = {case.key: case for case in find_cases(tmp_path)}
    assert cases["p1"].centroids is None and cases["p1_2"].centroids == tmp_path / "p1_2_ctd.json"
    files(tmp_path, "p1_seg-vb_ctd.json")
    assert find_cases(tmp_path)[0].centroids == tmp_path / "p1_seg-vb_ctd.json"
    files(tmp_path, "p1_ctd.json")
    assert "several centroid files" in find_cases(tmp_path)[0].problem


def test_a_pair_that_is_not_known_costs_its_row_only(tmp_path: Path) -> None:
    for name in ("good", "p1"):
        case = simulate_case(tmp_path / "source", name)
    shutil.copy(case.mask, tmp_path / "source" / "p1_mask.nii.gz")
    simulate_case(tmp_path / "source", "p2").mask.rename(tmp_path / "source" / "p2_7_mask.nii.gz")
    assert set(prepared(tmp_path / "source", tmp_path / "d")) == {"good"}
    rejected = rows(tmp_path / "d" / "rejected.csv")
    assert "several labelmaps" in rejected["p1"] and "p2_7_mask.nii.gz may be another" in rejected["p2"]


def test_landmarks_are_those_of_exactly_this_patient(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "sub-a_landmarks.json", SpineLandmarks((), None, True))
    assert known_landmarks(tmp_path / "sub-a_seg-vert_msk.nii.gz") is not None
    for name in ("sub-a_2_seg-vert_msk.nii.gz", "sub-a_2_mask.nii.gz"):
        assert known_landmarks(tmp_path / name) is None


def test_two_masks_of_one_name_in_a_release_are_rejected(tmp_path: Path) -> None:
    for folder, name in (("rawdata", "ct"), ("derivatives", "seg-vert_msk"), ("derivatives/old", "seg-vert_msk")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        files(tmp_path / folder, f"sub-a_{name}.nii.gz")
    (case,) = find_cases(tmp_path)
    assert "several files of one name" in case.problem
