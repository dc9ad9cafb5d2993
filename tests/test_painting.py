"""Shapes without a CT: surfaces to voxels, and CTs painted around them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from nibabel.affines import apply_affine

from scripts.data.meshes import labelmap_from_meshes
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.frames import Grid
from scripts.io.nifti import read_nifti
from scripts.simulation.painting import _cover_sacrum
from scripts.simulation.torso import FAT_HU
from tests.conftest import DATA, simulate_case

MASK = "verse/dataset-verse19validation/derivatives/sub-verse010/sub-verse010_seg-vert_msk.nii.gz"
CENTROIDS = "verse/dataset-verse19validation/derivatives/sub-verse010/sub-verse010_seg-subreg_ctd.json"


@pytest.mark.parametrize(("axcodes", "sign"), [("RAS", [1, 1, 1]), ("LPS", [-1, -1, 1])])
def test_surfaces_become_voxels_of_the_same_size_and_place(tmp_path: Path, axcodes: str, sign: list[int]) -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=12.0)
    ball.apply_translation([10.0, -20.0, 35.0])
    ball.export(tmp_path / "07_scan_T9 vertebra.stl")
    box = trimesh.creation.box(extents=[20.0, 14.0, 10.0])
    box.export(tmp_path / "L1.obj")
    (tmp_path / "notes.txt").write_text("not a surface")
    labels, affine = labelmap_from_meshes(tmp_path, axcodes)
    assert set(np.unique(labels)) == {0, 16, 20}
    assert (labels == 16).sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.06)
    assert (labels == 20).sum() == pytest.approx(20 * 14 * 10, rel=0.12)
    centre = apply_affine(affine, np.argwhere(labels == 16).mean(0))
    assert np.abs(centre - np.array([10.0, -20.0, 35.0]) * sign).max() < 0.3


def test_a_folder_without_levels_is_refused(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "sacrum.stl")
    with pytest.raises(UserError, match="level"):
        labelmap_from_meshes(tmp_path)


def test_masks_are_painted_only_when_asked(tmp_path: Path) -> None:
    row = {"subject": "verse010", "ct": None, "mask": str(DATA / MASK), "centroids": str(DATA / CENTROIDS)}
    manifest = tmp_path / "cases.json"
    manifest.write_text(json.dumps([row]))
    nobody = SplitOptions(test_share=0, validation_share=0)
    with pytest.raises(UserError, match="no case could be used"):
        prepare_dataset(manifest, tmp_path / "no", PrepareOptions(), nobody)
    manifest.write_text(
        json.dumps([{**row, "paint": True, "levels": ["L2", "L3"], "source": "VerSe19, painted", "variants": 0}])
    )
    counts = prepare_dataset(manifest, tmp_path / "yes", PrepareOptions(variants=3), nobody)
    assert counts["training"] == 2 and counts["rejected"] == 0
    # Of the two, the one without a loop of bowel before and behind its body.
    item = json.loads((tmp_path / "yes" / "dataset.json").read_text())["training"][0]
    assert item["centroid_source"] == "annotated" and item["source"].endswith("painted")
    image, _ = read_nifti(tmp_path / "yes" / item["image"])
    mask, _ = read_nifti(tmp_path / "yes" / item["label"])
    edge = image[:, :, 0, 2]  # the lateral patch: bone adds to what is there without it
    body = mask.sum(2) > 30
    ring = (mask.sum(2) == 0) & (np.hypot(*(np.indices(edge.shape) - np.argwhere(body).mean(0)[:, None, None])) < 25)
    assert np.median(edge[body]) > np.median(edge[ring])


def test_variants_can_be_set_for_one_case(tmp_path: Path) -> None:
    rows = []
    for name, variants in (("a", 2), ("b", None)):
        case = simulate_case(tmp_path / name, name, levels=(20,))
        rows.append({"subject": name, "ct": str(case.ct), "mask": str(case.mask), "variants": variants})
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    split = SplitOptions(test_share=0, validation_share=0)
    prepare_dataset(tmp_path / "cases.json", tmp_path / "d", PrepareOptions(variants=1), split)
    assert sorted(p.name for p in (tmp_path / "d" / "cases").iterdir()) == ["a", "a~v01", "a~v02", "b", "b~v01"]


def test_a_sacrum_that_stands_out_of_the_skin_is_covered_and_gas_stays() -> None:
    grid = Grid((0.0, 0.0, 0.0), (40, 60, 40), 2.0)
    index = np.stack(np.meshgrid(*(np.arange(n) * 2.0 for n in grid.shape), indexing="ij"), -1)
    distance = np.linalg.norm(index - [40.0, 70.0, 40.0], axis=-1).astype(np.float32) - 12.0
    hu = np.where(index[..., 1] < 72, 40.0, -1000.0).astype(np.float32)
    gas = np.linalg.norm(index - [40.0, 44.0, 40.0], axis=-1) < 6
    hu[gas] = -1000.0
    before = hu.copy()
    _cover_sacrum(hu, distance, grid)
    behind = (index[..., 1] >= 72) & (distance > 0)
    assert (hu[behind & (distance < 22)] == FAT_HU).all() and (hu[behind & (distance > 28)] == -1000).all()
    assert (hu[gas] == -1000).all()
    assert np.array_equal(hu[index[..., 1] < 72], before[index[..., 1] < 72])
