"""From CT cases to a prepared dataset, on real VerSe files and on simulated ones with every defect."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy.ndimage import gaussian_filter

from scripts.anatomy.centroids import body_centroid, estimate_body_centroid, read_verse_centroids
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.split import split_patients
from scripts.data.variants import Variant, VariantRange
from scripts.data.vertebrae import CASE_FILE, PrepareOptions, prepare_case, read_case_file
from scripts.data.volumes import read_case, remove_table
from scripts.errors import UserError
from scripts.geometry.frames import Grid, bounding_grid, resample_labels
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_film, read_nifti
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER, TOTALSEGMENTATOR_TO_VERSE, level_name, level_number
from tests.conftest import DATA, SAMPLE, SimulatedCase, simulate_case

EVERYTHING_TRAINS = SplitOptions(test_share=0, validation_share=0)


def prepare(source: Path, output: Path, options: PrepareOptions | None = None) -> dict:
    prepare_dataset(source, output, options or PrepareOptions(), EVERYTHING_TRAINS)
    return json.loads((output / "dataset.json").read_text())


def rejections(output: Path) -> dict[str, str]:
    with (output / "rejected.csv").open() as stream:
        return {row["case"]: row["reason"] for row in csv.DictReader(stream)}


def test_level_table() -> None:
    assert [level_name(n) for n in (1, 7, 8, 19, 20, 25, 28)] == ["C1", "C7", "T1", "T12", "L1", "L6", "T13"]
    assert all(level_number(level_name(n)) == n for n in LEVEL_NAMES)
    assert sorted(LEVEL_ORDER) == sorted(LEVEL_NAMES) and LEVEL_ORDER.index(28) == LEVEL_ORDER.index(19) + 1
    assert {level_name(TOTALSEGMENTATOR_TO_VERSE[n]) for n in (27, 31, 32, 43, 44, 50)} == {
        "L5", "L1", "T12", "T1", "C7", "C1",
    }  # fmt: skip
    with pytest.raises(UserError, match="unknown vertebra level 'S1'"):
        level_number("S1")


def test_finds_verse_cases_by_name_and_keeps_those_without_ct() -> None:
    cases = {case.key: case for case in find_cases(DATA / "verse")}
    assert set(cases) == {"verse004", "verse010", "verse014"}
    assert cases["verse014"].ct and cases["verse014"].centroids is None
    assert cases["verse004"].ct is None and cases["verse004"].centroids


def test_verse_series_of_one_patient_share_the_subject(tmp_path: Path) -> None:
    for split in ("verse251", "verse252"):
        simulate_case(tmp_path / "sim", split)
        for kind, suffix, source in (("rawdata", "ct", "ct"), ("derivatives", "seg-vert_msk", "vert_msk")):
            folder = tmp_path / "verse" / "dataset-x" / kind / "sub-verse404"
            folder.mkdir(parents=True, exist_ok=True)
            (tmp_path / "sim" / f"{split}_{source}.nii.gz").rename(
                folder / f"sub-verse404_split-{split}_{suffix}.nii.gz"
            )
    cases = find_cases(tmp_path / "verse")
    assert [(case.subject, case.series) for case in cases] == [("verse404", f"split-verse25{i}") for i in (1, 2)]


@pytest.mark.parametrize("subject", ["verse004", "verse010"])
def test_verse_centroids_lie_in_their_bodies_and_the_estimate_agrees(subject: str) -> None:
    """The estimate against VerSe's own points: about a millimetre, except where the body is crushed (verse004 L1)."""
    case = next(c for c in find_cases(DATA / "verse") if c.key == subject)
    mask, affine = read_nifti(case.mask)
    labels = np.rint(mask).astype(np.uint8)
    grid = bounding_grid(affine, labels.shape)
    canonical = resample_labels(labels, affine, grid)
    centroids, convention = read_verse_centroids(case.centroids, labels, affine)
    assert convention == "voxels"
    errors = {}
    for number, point in centroids.items():
        index = np.rint(grid.to_index(point)).astype(int)
        assert canonical[tuple(index)] == number
        errors[number] = np.linalg.norm(body_centroid(number, canonical == number, grid) - point)
    crushed = errors.pop(20) if subject == "verse004" else 0.0
    assert np.mean(list(errors.values())) < 1.3 and max(errors.values()) < 2.0
    assert crushed < 6.0


def write_points(path: Path, direction: tuple[str, ...] | None, points: dict[int, np.ndarray]) -> Path:
    rows: list[dict] = [{"direction": list(direction)}] if direction else []
    rows += [{"label": n, **dict(zip("XYZ", (float(v) for v in p), strict=True))} for n, p in points.items()]
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("axcodes", ["PIR", "LAS", "RSA"])
def test_all_three_conventions_of_centroid_files_are_told_apart(tmp_path: Path, axcodes: str) -> None:
    """Hand-made: 2 mm voxels, a known corner, the same points written as each release writes them."""
    case = simulate_case(tmp_path, "patient", axcodes)
    labels, affine = read_nifti(case.mask)
    truth = case.centroids_mm
    corner_low = np.array([-80.0, -75.0, -90.0])  # RAS mm of the extreme voxels' centres, see simulate_case
    corner_high = corner_low + 2.0 * (np.array([80, 70, 90]) - 1)
    to_voxel = np.linalg.inv(affine)
    written = {
        "voxels": (nib.aff2axcodes(affine), {n: (to_voxel @ [*c, 1])[:3] for n, c in truth.items()}),
        "1 mm PIR": (("P", "I", "R"), {
            n: np.array([corner_high[1] - c[1], corner_high[2] - c[2], c[0] - corner_low[0]]) for n, c in truth.items()
        }),
        "1 mm IPL": (None, {
            n: np.array([corner_high[2] - c[2], corner_high[1] - c[1], corner_high[0] - c[0]]) for n, c in truth.items()
        }),
    }  # fmt: skip
    for name, (direction, points) in written.items():
        path = write_points(tmp_path / "a_ctd.json", direction, points)
        found, convention = read_verse_centroids(path, labels, affine)
        assert convention == name
        for number, centroid in truth.items():
            assert np.allclose(found[number], centroid, atol=0.01)


def test_an_empty_mask_has_no_body() -> None:
    with pytest.raises(UserError, match="empty mask"):
        estimate_body_centroid(np.zeros((5, 5, 5), bool), Grid((0.0, 0.0, 0.0), (5, 5, 5)))


def test_centroid_files_of_another_image_are_refused(tmp_path: Path) -> None:
    case = simulate_case(tmp_path, "patient")
    labels, affine = read_nifti(case.mask)
    path = write_points(tmp_path / "ctd.json", ("L", "A", "S"), {20: np.array([1.0, 2.0, 3.0])})
    with pytest.raises(UserError, match="axes LAS"):
        read_verse_centroids(path, labels, affine)
    path.write_text('{"20": [1, 2]}')
    with pytest.raises(UserError, match="not a VerSe centroid file"):
        read_verse_centroids(path, labels, affine)
    index = np.linalg.inv(affine) @ [*case.centroids_mm[21], 1]
    points = {20: np.array([np.nan, 2, 3]), 21: index[:3], 5: np.array([1.0, 1.0, 1.0])}
    write_points(path, ("R", "A", "S"), points)
    assert list(read_verse_centroids(path, labels, affine)[0]) == [21]  # NaN and levels without a mask are left out


def test_a_vertebra_cut_by_padding_is_cut(tmp_path: Path) -> None:
    """A scan that was padded to a larger array: the body's left half lies outside the scanned field."""
    case = simulate_case(tmp_path, "p", levels=(20,))
    image = nib.load(case.ct)
    hu = np.asanyarray(image.dataobj).copy()
    hu[:40] = 7  # x < 0 of 80 columns of 2 mm
    nib.save(nib.Nifti1Image(hu, image.affine), case.ct)
    labels = np.asanyarray(nib.load(case.mask).dataobj).copy()
    labels[:40] = 0
    nib.save(nib.Nifti1Image(labels, image.affine), case.mask)
    cut = float((labels[40] == 20).sum() * 4)
    row = {"subject": "p", "ct": case.ct.name, "mask": case.mask.name, "outside_value": 7}
    for rows, area in (([row], cut), ([{**row, "outside_value": None}], 0.0)):
        (tmp_path / "cases.json").write_text(json.dumps(rows))
        found = read_case(find_cases(tmp_path / "cases.json")[0], np.random.default_rng(0))
        assert found.border_contact_mm2[20] == pytest.approx(area)


@pytest.mark.parametrize(
    ("unlabelled", "complaint"),
    [
        ({"L1": [0, 0, 0]}, "L1 has a label in the mask"),
        ({"S1": [0, 0, -200]}, "S1 lies outside the CT"),
        ({"L9": [0, 0, 0]}, "L9"),
        ({"S1": [0, 0]}, "S1"),
    ],
)
def test_marks_beside_the_mask_must_be_possible(tmp_path: Path, unlabelled: dict, complaint: str) -> None:
    case = simulate_case(tmp_path, "p", levels=(20, 21))
    row = {"subject": "p", "ct": case.ct.name, "mask": case.mask.name, "unlabelled_mm": unlabelled}
    (tmp_path / "cases.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match=complaint):
        read_case(find_cases(tmp_path / "cases.json")[0], np.random.default_rng(0))


def test_real_verse_folder(tmp_path: Path) -> None:
    """Cases without a CT are rejected with that reason; a cut vertebra is recorded and in no list."""
    document = prepare(DATA / "verse", tmp_path)
    assert set(rejections(tmp_path)) == {"verse004", "verse010"}
    assert all("no CT" in reason for reason in rejections(tmp_path).values())
    assert [item["level"] for item in document["training"]] == ["L1"]
    assert {item["level"]: item["excluded"].split(" over")[0] for item in document["excluded"]} == {
        "L2": "cut by the border of the field of view",
        "L3": "cut by the border of the field of view",
    }
    item = document["training"][0]
    assert item["centroid_source"] == "estimated" and item["licence"] == "CC BY-SA 4.0"
    image = nib.load(tmp_path / item["image"])
    label = nib.load(tmp_path / item["label"])
    assert image.shape == (120, 120, 1, 4) and label.shape == (120, 120, 120)
    assert nib.aff2axcodes(label.affine) == ("I", "P", "L") and np.allclose(image.affine, label.affine)


@pytest.mark.parametrize(("name", "frontal", "axis"), [("ap", True, 1), ("lat", False, 2)])
def test_mask_s_shadow_agrees_with_the_radiograph(name: str, frontal: bool, axis: int) -> None:
    """The guard against flips, on a real patient: the bones stand out where the labelmap throws its shadow.

    Mirrored, turned upside down or moved by a centimetre the agreement is clearly worse.
    """
    film, _ = read_film(SAMPLE / f"{name}.nii.gz", frontal)
    shadow = (read_nifti(SAMPLE / "labelmap.nii.gz")[0] > 0).sum(axis).astype(np.float32)

    def agreement(candidate: np.ndarray) -> float:
        near = gaussian_filter((candidate > 0).astype(float), 6) > 0.05
        fine, expected = (gaussian_filter(a, 1) - gaussian_filter(a, 12) for a in (film, candidate))
        return float(np.corrcoef(fine[near], expected[near])[0, 1])

    wrong = [shadow[::-1], shadow[:, ::-1], np.roll(shadow, 10, axis=1)]
    assert agreement(shadow) > max(agreement(candidate) for candidate in wrong) + 0.04
    # Transposed it is not even of the film's shape.
    assert shadow.shape == film.shape != shadow.T.shape


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "IPL", "ASR"])
def test_any_orientation_gives_the_same_dataset(tmp_path: Path, axcodes: str) -> None:
    reference = prepare(simulate_case(tmp_path / "a", "p").ct.parent, tmp_path / "da")
    turned = prepare(simulate_case(tmp_path / "b", "p", axcodes).ct.parent, tmp_path / "db")
    assert [i["level"] for i in turned["training"]] == ["L1", "L2", "L3"]
    for one, other in zip(reference["training"], turned["training"], strict=True):
        assert np.allclose(one["centroid_mm"], other["centroid_mm"], atol=1e-3)
        for kind in ("image", "label"):
            a, b = (read_nifti(d / i[kind])[0] for d, i in ((tmp_path / "da", one), (tmp_path / "db", other)))
            # Beyond the film there are no values.
            assert np.array_equal(np.isnan(a), np.isnan(b))
            assert np.nanmax(np.abs(a.astype(float) - b)) < (1e-3 if kind == "image" else 0.5)


def test_simulated_asymmetry_lands_on_the_patient_s_left(tmp_path: Path, case: SimulatedCase) -> None:
    document = prepare(case.ct.parent, tmp_path / "d")
    mask, _ = read_nifti(tmp_path / "d" / document["training"][0]["label"])
    columns = np.nonzero(mask.any((0, 1)))[0] - 59.5  # towards Left
    depth = np.nonzero(mask.any((0, 2)))[0] - 59.5  # towards Posterior, the cube's centre is 20 mm behind the body
    assert columns.max() == pytest.approx(42, abs=2) and columns.min() == pytest.approx(-20, abs=2)
    assert depth.max() == pytest.approx(44 - 20, abs=3) and depth.min() == pytest.approx(-14 - 20, abs=3)


def test_films_annotations_and_labelmap_share_the_patient_s_frame(tmp_path: Path, case: SimulatedCase) -> None:
    prepare(case.ct.parent, tmp_path / "d")
    folder = tmp_path / "d" / "cases" / "patient1"
    ap, view = read_film(folder / "ap.nii.gz", frontal=True)
    marks = read_annotations(folder / "annotations.json").ap.by_level()
    for number, centroid in case.centroids_mm.items():
        assert np.abs(np.array(marks[number].centroid) - view.project(centroid)[0]).max() < 2.5
    labels, affine = read_nifti(folder / "labelmap.nii.gz")
    assert labels.shape[0] == ap.shape[0]
    body = apply_affine(np.linalg.inv(affine), case.centroids_mm[21])
    assert labels[tuple(np.rint(body).astype(int))] == 21


BAD_CASES = {
    "nan": "NaN",
    "flipped": "point forwards",
    "upside_down": "follow one another",
    "codes": "no CT numbers",
    "other_grid": "same grid",
    "truncated": "truncated",
    "fractions": "no label numbers",
    "no_vertebra": "no vertebra in it",
    "flat_mask": "a labelmap is 3D",
}


def spoil(case: SimulatedCase, how: str) -> None:
    ct, mask = nib.load(case.ct), nib.load(case.mask)
    hu, labels = ct.get_fdata(), mask.get_fdata()
    affine = ct.affine.copy()
    if how == "nan":
        hu[5, 5, 5] = np.nan
        nib.save(nib.Nifti1Image(hu.astype(np.float32), affine), case.ct)
    elif how in ("flipped", "upside_down"):
        affine[{"flipped": 1, "upside_down": 2}[how]] *= -1
        nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), case.ct)
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), case.mask)
    elif how == "codes":
        nib.save(nib.Nifti1Image(((hu + 1000) / 12).astype(np.uint8), affine), case.ct)
    elif how == "other_grid":
        nib.save(nib.Nifti1Image(labels.astype(np.uint8)[:-1], affine), case.mask)
    elif how == "truncated":
        case.ct.write_bytes(case.ct.read_bytes()[:20000])
    elif how == "fractions":
        nib.save(nib.Nifti1Image((labels * 0.99).astype(np.float32), affine), case.mask)
    elif how == "flat_mask":
        nib.save(nib.Nifti1Image(labels.astype(np.uint8)[:, :, 45], affine), case.mask)
    elif how == "no_vertebra":
        nib.save(nib.Nifti1Image((labels > 0).astype(np.uint8) * 26, affine), case.mask)


@pytest.mark.parametrize("how", list(BAD_CASES))
def test_bad_cases_become_rows_and_never_stop_the_rest(tmp_path: Path, how: str) -> None:
    spoil(simulate_case(tmp_path / "source", "bad"), how)
    simulate_case(tmp_path / "source", "good")
    document = prepare(tmp_path / "source", tmp_path / "d")
    assert BAD_CASES[how] in rejections(tmp_path / "d")["bad"]
    assert {item["subject"] for item in document["training"]} == {"good"}
    assert not (tmp_path / "d" / "cases" / "bad").exists()


def test_millimetres_along_the_image_s_own_axes_give_the_same_dataset(tmp_path: Path) -> None:
    """On a 2 mm scan with the same axes only the places betray that a file counts mm; wrong places are refused."""
    case = simulate_case(tmp_path / "source", "p")
    affine = nib.load(case.ct).affine
    index = {number: apply_affine(np.linalg.inv(affine), point) for number, point in case.centroids_mm.items()}
    path = tmp_path / "source" / "p_ctd.json"
    write_points(path, ("R", "A", "S"), index)
    voxels = prepare(tmp_path / "source", tmp_path / "voxels")
    assert {item["centroid_source"] for item in voxels["training"]} == {"annotated"}
    write_points(path, ("R", "A", "S"), {number: 2 * point for number, point in index.items()})
    assert prepare(tmp_path / "source", tmp_path / "mm")["training"] == voxels["training"]
    write_points(path, ("R", "A", "S"), {number: 5 * point for number, point in index.items()})
    with pytest.raises(UserError, match="no case could be used"):
        prepare(tmp_path / "source", tmp_path / "bad")
    assert "outside their vertebrae" in rejections(tmp_path / "bad")["p"]


def test_manifest_mends_known_header_errors(tmp_path: Path) -> None:
    case = simulate_case(tmp_path, "p")
    spoil(case, "flipped")
    row = {"subject": "p", "ct": case.ct.name, "mask": case.mask.name, "axcodes": "RAS", "spacing_mm": 2.0}
    manifest = tmp_path / "cases.json"
    manifest.write_text(json.dumps([{**row, "levels": ["L2"], "licence": "test"}]))
    document = prepare(manifest, tmp_path / "d")
    assert [(i["level"], i["licence"]) for i in document["training"]] == [("L2", "test")]
    manifest.write_text(json.dumps([{**row, "colour": "red"}]))
    with pytest.raises(UserError, match="'colour' was unexpected"):
        find_cases(manifest)


def test_wrong_spacing_is_mended(tmp_path: Path, case: SimulatedCase) -> None:
    files = CaseFiles("p", "", case.ct, case.mask)
    assert np.allclose(np.linalg.norm(read_case(files, np.random.default_rng(0)).affine[:3, :3], axis=0), 2.0)
    mended = read_case(replace(files, spacing_mm=1.5), np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(mended.affine[:3, :3], axis=0), 1.5)


def test_table_is_removed_and_the_body_kept(case: SimulatedCase) -> None:
    image = nib.load(case.ct)
    hu = image.get_fdata().astype(np.float32)
    with_table = hu.copy()
    with_table[:, 2:4, :] = 200.0  # a board behind the patient, a gap away from the back
    assert np.abs(remove_table(with_table, image.affine) - hu).max() == 0


def test_rebuilding_gives_the_same_bytes_and_resumes(tmp_path: Path, case: SimulatedCase) -> None:
    simulate_case(case.ct.parent, "patient2", shift=3.0)
    options = PrepareOptions(variants=1)
    prepare(case.ct.parent, tmp_path / "a", options)
    prepare(case.ct.parent, tmp_path / "b", options)

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b") and any("~v01" in name for name in first)
    # A stopped build: one case missing, another one untouched.
    untouched = tmp_path / "a" / "cases" / "patient1" / "ap.nii.gz"
    before = untouched.stat().st_mtime_ns
    for path in (tmp_path / "a" / "cases" / "patient2").iterdir():
        path.unlink()
    (tmp_path / "a" / "cases" / "patient2").rmdir()
    prepare(case.ct.parent, tmp_path / "a", options)
    assert contents(tmp_path / "a") == first and untouched.stat().st_mtime_ns == before


def test_an_unrelated_folder_is_left_alone(tmp_path: Path, case: SimulatedCase) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no dataset"):
        prepare(case.ct.parent, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_spine_knows_whether_a_list_can_take_from_it(tmp_path: Path) -> None:
    """In the build and when it goes on, also from a file of a version that did not note it."""
    simulate_case(tmp_path / "source", "p", levels=(20,))
    (files,) = find_cases(tmp_path / "source")
    for limit, usable in ((0.01, True), (-1.0, False)):
        folder = tmp_path / str(limit)
        folder.mkdir()
        prepared = prepare_case(files, folder, PrepareOptions(max_clipped_fraction=limit))
        assert prepared.spine.usable is usable and read_case_file(folder / CASE_FILE) == prepared
        stored = json.loads((folder / CASE_FILE).read_text())
        del stored["spine"]["usable"]
        (folder / CASE_FILE).write_text(json.dumps(stored))
        assert read_case_file(folder / CASE_FILE) == prepared


def test_split_is_by_patient_stable_and_overridable() -> None:
    subjects = [f"p{i}" for i in range(50)]
    split = split_patients(subjects * 3, SplitOptions(test=("p7",)), seed=1)
    counts = {name: list(split.values()).count(name) for name in ("training", "validation", "test")}
    assert counts == {"training": 36, "validation": 4, "test": 10} and split["p7"] == "test"
    assert split == split_patients(reversed(subjects), SplitOptions(test=("p7",)), seed=1)
    assert split != split_patients(subjects, SplitOptions(test=("p7",)), seed=2)
    with pytest.raises(UserError, match="not in the data"):
        split_patients(subjects, SplitOptions(test=("nobody",)), seed=1)
    with pytest.raises(UserError, match="two lists"):
        split_patients(subjects, SplitOptions(test=("p1",), training=("p1",)), seed=1)


def test_variants_move_points_and_voxels_alike() -> None:
    """A ball around a point, deformed, is still around where `find` says the point went."""
    grid = Grid((60.0, 50.0, 70.0), (140, 100, 120))
    point = grid.to_world(np.array([60.0, 45.0, 50.0]))
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(grid.shape), (60, 45, 50), strict=True)))
    ball = (distance < 9).astype(np.uint8)
    for seed in range(4):
        variant = Variant(grid, VariantRange(), np.random.default_rng(seed))
        found = variant.find(point[None])
        assert np.abs(variant(torch.as_tensor(found, dtype=torch.float32)).numpy() - point).max() < 1e-2
        moved = resample_labels(ball, grid.affine, grid, variant)
        assert np.abs(np.argwhere(moved).mean(0) - grid.to_index(found[0])).max() < 0.6
        assert 0.5 < moved.sum() / ball.sum() < 2.0
