"""NIfTI volumes as scanners, programs and accidents write them: read rightly, or refused in one line."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.cases import CaseFiles
from scripts.data.fitness import check_field, check_scale, why_unfit
from scripts.data.volumes import CaseVolumes, read_case
from scripts.errors import UserError
from scripts.io.nifti import open_nifti, read_nifti, read_volume
from tests.conftest import SimulatedCase, simulate_case


def with_header(path: Path, **fields: Any) -> Path:
    """A file of 4 x 5 x 6 voxels of 2 mm whose header says something else."""
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_qform(image.affine, 1)
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def size(*edges: float) -> list[float]:
    return [1, *edges, 1, 1, 1, 1]


BAD_HEADERS = {
    "pixdim is nan": ({"pixdim": size(2, np.nan, 2)}, "pixdim in its header is NaN"),
    "pixdim is infinite": ({"pixdim": size(np.inf, 2, 2), "sform_code": 0}, "pixdim in its header is NaN or inf"),
    "pixdim is 0": ({"pixdim": size(2, 0, 2), "sform_code": 0}, "pixdim in its header is 0"),
    "sform is nan": ({"srow_y": [0, np.nan, 0, 0]}, "srow_y in its header is NaN"),
    "sform is 0": ({"srow_y": [0, 0, 0, 0]}, "sform in its header is 0"),
    "qform is nan": ({"qoffset_z": np.nan}, "qoffset_z in its header is NaN"),
    "qform is no rotation": ({"quatern_b": 2.0}, "quatern_d in its header are no rotation"),
    "slope is infinite": ({"scl_slope": np.inf}, "scl_slope in its header"),
    "intercept is nan": (
        {"scl_slope": 1, "scl_inter": np.nan},
        "its header is not valid .Valid slope but invalid intercept nan",
    ),
    "offset is nan": ({"vox_offset": np.nan}, "offset|cannot be read as NIfTI"),
    "offset in the header": ({"vox_offset": 0}, "vox_offset in its header is 0"),
    "offset behind the end": ({"vox_offset": 1e6}, "truncated or damaged"),
    "enormous": ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, r"32767 x 32767 x 32767 voxels .* truncated"),
    "negative size": ({"dim": [3, -4, 5, 6, 1, 1, 1, 1]}, "dim in its header says -4 x 5 x 6"),
    "no size": ({"dim": [3, 4, 0, 6, 1, 1, 1, 1]}, "dim in its header says 4 x 0 x 6"),
    "unknown type": ({"datatype": 9999}, "data code 9999 not recognized"),
    "no magic": ({"magic": b"xyz"}, "not a NIfTI file"),
    "sform twice pixdim": ({"pixdim": size(1, 1, 1)}, "sform says voxels of 2 x 2 x 2 mm, pixdim 1 x 1 x 1 mm"),
    "qform mirrored": ({"srow_x": [-2, 0, 0, 0]}, "axes RAS by its qform, LAS by its sform"),
    "no orientation": ({"sform_code": 0, "qform_code": 0}, "neither qform nor sform"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("what", list(BAD_HEADERS))
def test_a_header_that_cannot_be_true_is_refused_by_its_field(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, suffix: str
) -> None:
    fields, message = BAD_HEADERS[what]
    path = with_header(tmp_path / f"mine{suffix}", **fields)
    with pytest.raises(UserError, match=message) as error:
        read_nifti(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert ("truncated" in str(error.value)) == ("truncated" in message)
    assert not caplog.records


@pytest.mark.parametrize(
    "fields",
    [{}, {"pixdim": size(0, 0, 0), "qform_code": 0}, {"scl_slope": np.nan}, {"sform_code": 0}, {"qform_code": 0}],
)
def test_a_header_that_leaves_out_what_it_need_not_say_is_read(tmp_path: Path, fields: dict[str, Any]) -> None:
    array, affine = read_nifti(with_header(tmp_path / "mine.nii", **fields))
    assert (array == 1).all() and np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 2)


def test_what_is_no_nifti_is_one_line(tmp_path: Path) -> None:
    good = with_header(tmp_path / "good.nii").read_bytes()
    files = {
        "empty.nii": (b"", "an empty file"),
        "words.nii": (b"these are words " * 40, "not a NIfTI file"),
        "unpacked.nii.gz": (good, "not compressed by gzip"),
        "half.nii": (good[:-100], "truncated or damaged"),
        "cut.nii.gz": (gzip.compress(good)[:-20], "truncated or damaged"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_nifti(tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)
    with pytest.raises(UserError, match="a folder"):
        read_nifti(tmp_path)


@pytest.mark.parametrize(("code", "mm"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_units_of_length_become_millimetres(tmp_path: Path, code: int, mm: float) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 5, 6, 7
    in_unit = affine.copy()
    in_unit[:3] /= mm
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), in_unit)
    image.header["xyzt_units"] = code + 8  # and seconds
    nib.save(image, tmp_path / "a.nii.gz")
    assert np.allclose(read_nifti(tmp_path / "a.nii.gz")[1], affine, rtol=1e-5)


def test_axes_of_length_one_are_no_fourth_dimension(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 1), np.int16), np.eye(4)), tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii", "a CT")[0].shape == (4, 5, 6)
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a CT is 3D, this has shape \(4, 5, 6, 2\)"):
        read_volume(tmp_path / "a.nii", "a CT")


@pytest.mark.parametrize("kind", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, kind: Any) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), kind), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"holds colours \(RGB\)|holds complex numbers"):
        read_volume(tmp_path / "a.nii", "a CT")


def test_a_volume_needs_three_axes_that_differ(tmp_path: Path) -> None:
    path = with_header(tmp_path / "a.nii", srow_x=[2, 2, 0, 0], srow_y=[0, 0, 0, 0], qform_code=0)
    with pytest.raises(UserError, match="two axes of its affine are alike"):
        read_volume(path, "a CT")


def volumes_of(case: SimulatedCase, **changes: Any) -> CaseVolumes:
    files = replace(CaseFiles("p", "", case.ct, case.mask), **changes)
    return read_case(files, np.random.default_rng(0))


@pytest.mark.parametrize("axcodes", ["LPS", "PIR", "SAL"])
def test_ct_and_mask_on_one_grid_may_have_their_axes_in_another_order(
    tmp_path: Path, case: SimulatedCase, axcodes: str
) -> None:
    turned = simulate_case(tmp_path / "turned", "p", axcodes)
    expected, found = volumes_of(case), volumes_of(SimulatedCase(turned.ct, case.mask, {}))
    assert np.array_equal(found.hu, expected.hu) and np.array_equal(found.labels, expected.labels)
    shifted = simulate_case(tmp_path / "shifted", "p", axcodes, shift=2.0)
    with pytest.raises(UserError, match="not on the same grid"):
        volumes_of(SimulatedCase(shifted.ct, case.mask, {}))


def rescaled(case: SimulatedCase, factor: float, unit: str = "mm") -> None:
    """Another voxel size in both headers."""
    for path in (case.ct, case.mask):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3] *= factor
        other = nib.Nifti1Image(np.asanyarray(image.dataobj), affine)
        other.header.set_xyzt_units(unit)
        nib.save(other, path)


@pytest.mark.parametrize(("factor", "unit"), [(1000.0, "micron"), (0.001, "meter")])
def test_a_ct_in_other_units_is_the_same_ct(case: SimulatedCase, factor: float, unit: str) -> None:
    expected = volumes_of(case)
    rescaled(case, factor, unit)
    assert np.allclose(volumes_of(case).affine, expected.affine, atol=1e-3)


@pytest.mark.parametrize(("factor", "message"), [(1000.0, "voxels of"), (0.001, "voxels of"), (2.0, r"1\.\d+ times")])
def test_implausible_sizes_are_questioned_and_a_manifest_settles_them(
    case: SimulatedCase, factor: float, message: str
) -> None:
    rescaled(case, factor)
    with pytest.raises(UserError, match=message):
        volumes_of(case)
    assert np.allclose(np.linalg.norm(volumes_of(case, spacing_mm=2.0).affine[:3, :3], axis=0), 2.0)


def test_a_manifest_settles_a_header_that_contradicts_itself(case: SimulatedCase) -> None:
    for path in (case.ct, case.mask):
        content = bytearray(gzip.decompress(path.read_bytes()))
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        header["pixdim"][1:4] = 1.0
        content[:348] = header.binaryblock
        path.write_bytes(gzip.compress(bytes(content)))
        assert open_nifti(path).array.any()
    with pytest.raises(UserError, match=r"contradicts itself.*give spacing_mm in a manifest"):
        volumes_of(case)
    assert np.allclose(np.linalg.norm(volumes_of(case, spacing_mm=2.0).affine[:3, :3], axis=0), 2.0)


def test_fields_of_view_and_scales_of_people() -> None:
    check_field((512, 512, 900), np.array([0.9, 0.9, 1.0]))
    for shape, voxel in (((512, 512, 4000), [0.9, 0.9, 1.0]), ((512, 512, 10), [0.9, 0.9, 1.0])):
        with pytest.raises(UserError, match="a field of view of"):
            check_field(shape, np.array(voxel))
    check_scale({20: 45000.0, 21: 53000.0})
    check_scale({})
    with pytest.raises(UserError, match="wrong spacing"):
        check_scale({1: 45000.0, 2: 53000.0, 3: 60000.0})  # lumbar vertebrae named C1 to C3


def test_debris_pieces_and_parts_are_no_whole_vertebrae() -> None:
    labels = np.zeros((40, 40, 120), np.uint8)
    for place, number in enumerate((19, 20, 21, 22, 23)):
        labels[5:35, 5:35, 24 * place : 24 * place + 20] = number
    size = np.full(3, 1.5)
    assert why_unfit(labels, size, set()) == {}
    labels[5:35, 5:25, 24:44] = 0  # a third of L1 is left
    labels[5:35, 5:35, 56:60] = 0  # L2 is cut through
    labels[:, :, 72:92] = 0
    labels[10, 10, 75:78] = 22  # three voxels of L3
    labels[0, 0, 0] = 23  # one voxel of L4, far away
    unfit = why_unfit(labels, size, set())
    assert {n: why.split(":")[0] for n, why in unfit.items()} == {
        20: "not whole", 21: "in 2 pieces", 22: "debris", 23: "in 2 pieces",
    }  # fmt: skip
    assert "3 voxels, 10 mm3" in unfit[22]
    assert set(why_unfit(labels, size, {20, 21})) == {22, 23}
    json.dumps(unfit)
