"""Which files under a source are cases: none is overlooked, whatever the folders around it are called."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts.data.cases import find_cases
from scripts.data.doubtful_names import doubtful_patients
from scripts.data.volumes import read_case
from tests.conftest import simulate_case


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(source: Path) -> dict[str, tuple[str, str, str]]:
    """Key -> names of CT and mask, and the problem."""
    return {
        case.key: (case.ct.name if case.ct else "", case.mask.name if case.mask else "", case.problem)
        for case in find_cases(source)
    }


@pytest.mark.parametrize("above", ["rawdata/mine", "derivatives/mine", "rawdata", "derivatives", "a/rawdata/b"])
@pytest.mark.parametrize("mask", ["p1_mask.nii.gz", "p1_seg-vert_msk.nii.gz"])
def test_folders_may_be_called_like_parts_of_a_release(tmp_path: Path, above: str, mask: str) -> None:
    touch(tmp_path / above / "p1_ct.nii.gz", tmp_path / above / mask)
    expected = {"p1": ("p1_ct.nii.gz", mask, "")}
    for source in (tmp_path / above, tmp_path):
        assert found(source) == expected


def test_a_release_and_plain_pairs_in_one_folder(tmp_path: Path) -> None:
    raw, derived = (tmp_path / "verse" / kind / "sub-v1" for kind in ("rawdata", "derivatives"))
    touch(raw / "sub-v1_ct.nii.gz", derived / "sub-v1_seg-vert_msk.nii.gz")
    # A copy among the derivatives is no second patient, a scan without a mask no reason to overlook it.
    touch(derived / "sub-v1_ct.nii.gz", raw.with_name("sub-v2") / "sub-v2_ct.nii.gz")
    touch(tmp_path / "own" / "p9_ct.nii.gz", tmp_path / "own" / "p9_seg.nii.gz")
    cases = {case.key: case for case in find_cases(tmp_path)}
    assert set(cases) == {"p9", "v1", "v2"}
    assert [cases[key].release for key in ("p9", "v1")] == ["", str(tmp_path / "verse")]
    assert cases["v1"].ct == raw / "sub-v1_ct.nii.gz" and cases["v1"].mask == derived / "sub-v1_seg-vert_msk.nii.gz"
    assert cases["v2"].mask is None and cases["p9"].mask == tmp_path / "own" / "p9_seg.nii.gz"


def test_uncompressed_files_are_read(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        simulate_case(tmp_path, name, levels=(20,))
    for path in list(tmp_path.glob("p2_*")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert found(tmp_path)["p2"] == ("p2_ct.nii", "p2_vert_msk.nii", "")
    for case in find_cases(tmp_path):
        assert read_case(case, np.random.default_rng(0)).border_contact_mm2.keys() == {20}
    shutil.copy(tmp_path / "p1_ct.nii.gz", tmp_path / "p2_ct.nii.gz")
    assert "several files of one name: p2_ct.nii, p2_ct.nii.gz" in found(tmp_path)["p2"][2]
    for kind, name in (("rawdata", "ct"), ("derivatives", "seg-vert_msk")):
        touch(tmp_path / "v" / kind / f"sub-v1_{name}.nii")
    assert found(tmp_path / "v") == {"v1": ("sub-v1_ct.nii", "sub-v1_seg-vert_msk.nii", "")}


@pytest.mark.parametrize(
    ("stems", "doubtful"),
    [
        (("p1", "p1_2", "p10"), {"p1": "p1_2", "p1_2": "p1"}),
        (("p1_pre", "p1_post", "p2_pre"), {"p1_pre": "p1_post", "p1_post": "p1_pre"}),
        (
            ("p1-pre", "p1-post", "p2.1", "p2.2"),
            {"p1-pre": "p1-post", "p1-post": "p1-pre", "p2.1": "p2.2", "p2.2": "p2.1"},
        ),
        (("p6 a", "p6 b", "p7"), {"p6 a": "p6 b", "p6 b": "p6 a"}),
        (("smith_1", "smith_2", "jones_1"), {"smith_1": "smith_2", "smith_2": "smith_1"}),
        # A collection; and patients whose series are named so.
        (("LIDC_01", "LIDC_02", "LIDC_03"), {}),
        (("LIDC-IDRI-0001", "LIDC-IDRI-0002", "verse005", "verse006", "openkbp_pt_106", "openkbp_pt_107"), {}),
        (("totalsegmentator-s0308", "totalsegmentator-example", "sub-verse005", "1.2.840.1", "1.2.840.2"), {}),
        (tuple(f"site{site}_{n:03d}" for site in (1, 2) for n in range(11)), {}),
        ((*(f"LIDC_{n:02d}" for n in range(20)), "own_1"), {}),
        ((*(f"LIDC_{n:02d}" for n in range(20)), "LIDC_03_b", "own_1"), {"LIDC_03_b": "LIDC_03"}),
        (("sub-p1_pre", "sub-p1_post", "p2"), {}),
    ],
)
def test_names_that_look_like_one_patient_s_are_noted(
    tmp_path: Path, stems: tuple[str, ...], doubtful: dict[str, str]
) -> None:
    touch(*(tmp_path / f"{stem}_ct.nii.gz" for stem in stems))
    doubts = doubtful_patients(find_cases(tmp_path))
    assert doubts.keys() == doubtful.keys()
    for stem, other in doubtful.items():
        first = other.replace("_", "-") if stem == "LIDC_03_b" else re.split("[-_. ]", stem)[0]
        assert f"than {other}; " in doubts[stem] and doubts[stem].endswith(f"sub-{first}_SERIES_ct.nii.gz")


def test_many_series_of_each_of_several_patients_are_noted(tmp_path: Path) -> None:
    touch(
        *(tmp_path / f"p{patient}_{n}_ct.nii.gz" for patient in (1, 2, 3) for n in range(11)), tmp_path / "q_ct.nii.gz"
    )
    doubts = doubtful_patients(find_cases(tmp_path))
    assert len(doubts) == 33 and "than p2_0, p2_1, p2_10, p2_2, p2_3 and 5 more; " in doubts["p2_7"]
