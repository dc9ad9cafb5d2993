"""Patches cut along a leaning spine, and the network's answer turned back, against a vertebra posed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.data.datalist import read_datalist
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID, network_input, place_cube, turned_back
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR, Grid
from scripts.geometry.leaning import UPRIGHT, Lean, spine_leans, turned, turned_object
from scripts.geometry.projector import project_pair
from scripts.io.nifti import read_nifti
from tests.conftest import dice, simulate_case

GRID = Grid((0.0, 0.0, 0.0), (160, 160, 160), 1.0)


def block(lean: Lean, size: int = 160, centre: np.ndarray | None = None) -> np.ndarray:
    """A box of 24 x 30 x 44 mm that stands as a vertebra of that lean would, soft edges, (I, P, L)."""
    middle = np.full(3, (size - 1) / 2) if centre is None else centre
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1) - middle
    own = np.abs(index @ lean.rotation())
    return np.clip(np.array([12.0, 15.0, 22.0]) + 0.5 - own, 0, 1).min(axis=-1).astype(np.float32)


@pytest.mark.parametrize("lean", [Lean(20, 0), Lean(0, -25), Lean(-15, 0)])
def test_patches_of_a_leaning_block_are_those_of_an_upright_one(lean: Lean) -> None:
    """In the plane of the lean; across it the block's shadow is another one."""
    centroid = GRID.to_world(np.full((1, 3), 79.5))[0]
    cube = place_cube(centroid, GRID)
    patches = []
    for pose, cut in ((lean, lean), (UPRIGHT, UPRIGHT)):
        geometry = geometry_of_grid(GRID)
        films = project_pair(torch.from_numpy(block(pose)), GRID.affine, geometry)
        pixels = tuple(p[0] for p in geometry.project(centroid[None]))
        patches.append(network_input(films, pixels, geometry, cube, cut))
    plane = 0 if lean.frontal_deg else 2
    difference = (patches[0][plane] - patches[1][plane]).abs()
    # A turned patch reaches beyond the film, where there are no values.
    assert difference.nanmean() < 0.01 * patches[1][plane].max() and difference.isnan().float().mean() < 0.1
    for mark in (1, 3):
        assert (patches[0][mark] - patches[1][mark]).abs().max() < 0.01  # marks stay where they were
    untouched = network_input(films, pixels, geometry, cube)
    assert torch.equal(untouched, patches[1])


@pytest.mark.parametrize("lean", [UPRIGHT, Lean(20, 0), Lean(0, -25), Lean(12, 17)])
def test_an_upright_answer_is_turned_to_where_the_vertebra_is(lean: Lean) -> None:
    answer = block(UPRIGHT, CUBE_SIZE, NOMINAL_CENTROID)
    expected = block(lean, CUBE_SIZE, NOMINAL_CENTROID) > 0.5
    found = turned_back(answer, lean) > 0.5
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.985


@pytest.mark.parametrize("lean", [Lean(20, 0), Lean(-40, 25)])
def test_an_object_is_turned_as_the_whole_volume_is(lean: Lean) -> None:
    volume = block(UPRIGHT, CUBE_SIZE, NOMINAL_CENTROID + [5, 22, -30])  # near the border
    whole = turned(torch.from_numpy(volume)[None], lean.rotation(), NOMINAL_CENTROID)[0].numpy()
    part = turned_object(volume, lean.rotation(), NOMINAL_CENTROID, 0.0)
    assert whole.sum() > 1000 and np.abs(whole - part).max() < 1e-4
    assert not turned_object(np.zeros_like(volume), lean.rotation(), NOMINAL_CENTROID, 0.0).any()


def test_leans_follow_the_line_of_the_bodies() -> None:
    """A straight line at a known slope, one kink, one vertebra alone, and one too far away to say anything."""
    steps = np.arange(5)[:, None]
    line = steps * 30.0 * (INFERIOR + np.tan(np.deg2rad(20)) * LEFT + np.tan(np.deg2rad(-30)) * POSTERIOR)
    # Half of the sagittal slope: atan(tan 30 / 2) = 16.1.
    assert spine_leans(line) == [Lean(20.0, -16.0)] * 5
    bent = np.concatenate([line[:1] - 30 * INFERIOR, line[:1], line[:1] + 30 * (INFERIOR + LEFT)])
    frontal = [lean.frontal_deg for lean in spine_leans(bent)]
    assert frontal[0] == 0 and frontal[2] == 45 and 20 <= frontal[1] <= 30
    assert spine_leans(line[:1]) == [UPRIGHT]
    assert spine_leans(np.stack([line[0], line[0] + 150 * INFERIOR + 80 * LEFT])) == [UPRIGHT, UPRIGHT]


@pytest.fixture(scope="module")
def leaning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same leaning patient prepared upright and along the spine."""
    folder = tmp_path_factory.mktemp("leaning")
    for name in ("p1", "p2"):
        simulate_case(folder / "source", name, step=12.0)
    split = SplitOptions(training=("p1",), validation=("p2",))
    for name, along in (("upright", False), ("along", True)):
        prepare_dataset(folder / "source", folder / name, PrepareOptions((Beam.CONE,), along_spine=along), split)
    return folder


def test_a_dataset_along_the_spine(leaning: Path) -> None:
    """Its labels, turned back, are those of the upright dataset."""
    upright, along = (read_datalist(leaning / name, "training") for name in ("upright", "along"))
    assert len(upright) == len(along) == 3 and "along_spine" not in upright[0]
    for before, after in zip(upright, along, strict=True):
        assert before["centroid_mm"] == after["centroid_mm"]
        assert after["along_spine"] is True
        expected = read_nifti(leaning / "upright" / before["label"])[0] > 0
        found = read_nifti(leaning / "along" / after["label"])[0]
        # 12 mm aside on 40 mm down.
        back = turned_back(found.astype(np.float32), Lean(-np.degrees(np.arctan2(12, 40)).round(), 0)) > 0.5
        assert dice(back, expected) > 0.93 > 0.9 > dice(found > 0, expected)


def test_a_dataset_of_an_older_version_is_refused(leaning: Path, tmp_path: Path) -> None:
    """It names rays, and not whether its patches were cut along the spine."""
    text = (leaning / "along" / "dataset.json").read_text()
    (tmp_path / "dataset.json").write_text(text.replace('"along_spine": true', '"rays": "x.npy"'))
    with pytest.raises(UserError, match="older version"):
        read_datalist(tmp_path, "training")
