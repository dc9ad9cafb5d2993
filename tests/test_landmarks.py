"""Corners of vertebral bodies against bodies whose corners are known, and on a real mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.anatomy.landmarks import BodyLandmarks, find_landmarks, read_landmarks, write_landmarks
from scripts.geometry.frames import Grid, bounding_grid, resample_labels
from scripts.io.nifti import read_nifti
from tests.conftest import DATA

GRID = Grid((0.0, 0.0, 0.0), (120, 120, 120), 1.0)
# Half a body's height, depth and width.
HALF = np.array([12.0, 15.0, 20.0])


def vertebra(centre: np.ndarray, turn: Rotation) -> np.ndarray:
    """A box with an arch behind it: pedicles, laminae and a spinous process around a canal."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij"), -1)
    down, back, left = np.moveaxis(turn.inv().apply((index - centre).reshape(-1, 3)).reshape(index.shape), -1, 0)
    body = (np.abs(down) <= HALF[0]) & (np.abs(back) <= HALF[1]) & (np.abs(left) <= HALF[2])
    ring = (np.abs(down) <= 6) & (back > 10) & (np.hypot(back - 25, left) <= 17) & (np.hypot(back - 25, left) > 10)
    spine = (np.abs(down - 4) <= 6) & (back > 38) & (back < 62) & (np.abs(left) <= 3)
    return body | ring | spine


def corners_of_box(centre: np.ndarray, turn: Rotation, axis: int) -> np.ndarray:
    """Superior first, superior last, inferior last, inferior first along an axis."""
    signs = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
    local = np.zeros((4, 3))
    for i, (row, column) in enumerate(signs):
        local[i, 0], local[i, axis] = row * HALF[0], column * HALF[axis]
    return turn.apply(local) + centre


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, 0, 0), (0, 12, 0), (0, 0, 20), (10, -8, 12)])
def test_corners_of_a_turned_box(angles: tuple[float, float, float]) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True)
    centre = np.array([60.0, 45.0, 60.0])
    labels = np.where(vertebra(centre, turn), 22, 0).astype(np.uint8)
    above, below = (centre + turn.apply([step, 0, 0]) for step in (-30, 30))
    centroids = {21: GRID.to_world(above), 22: GRID.to_world(centre), 23: GRID.to_world(below)}
    found = {v.level: v for v in find_landmarks(labels, GRID, centroids).vertebrae}[22]
    assert found.why_none == ""
    for corners, axis in ((found.sagittal_mm, 1), (found.coronal_mm, 2)):
        expected = GRID.to_world(corners_of_box(centre, turn, axis))
        assert np.linalg.norm(corners - expected, axis=1).max() < 2.0


def test_no_neighbours_are_needed() -> None:
    turn = Rotation.from_euler("y", 12, degrees=True)
    centre = np.array([60.0, 45.0, 60.0])
    labels = np.where(vertebra(centre, turn), 22, 0).astype(np.uint8)
    found = find_landmarks(labels, GRID, {22: GRID.to_world(centre)}).vertebrae[0]
    assert np.linalg.norm(found.sagittal_mm - GRID.to_world(corners_of_box(centre, turn, 1)), axis=1).max() < 2.0


def test_what_is_no_body_has_no_corners() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[50:70, 20:100, 58:62] = 22
    centroids = {1: GRID.to_world(np.array([20.0, 60, 60])), 22: GRID.to_world(np.array([60.0, 60, 60]))}
    by_level = {v.level: v for v in find_landmarks(labels, GRID, centroids).vertebrae}
    assert by_level[1].why_none == "C1 has no body" and by_level[22].sagittal_mm is None and by_level[22].why_none


def test_cut_bodies_have_no_corners() -> None:
    centre = np.array([6.0, 45.0, 60.0])
    labels = np.where(vertebra(centre, Rotation.identity()), 22, 0).astype(np.uint8)
    found = find_landmarks(labels, GRID, {22: GRID.to_world(centre)}).vertebrae[0]
    assert found.why_none == "cut by the border of the field of view"


def test_corners_of_a_real_spine_fit_its_bodies() -> None:
    """A mask of VerSe: sizes within the literature's, order of corners, and few millimetres from a centroid."""
    path = next((DATA / "verse").rglob("*_seg-vert_msk.nii.gz"))
    mask, affine = read_nifti(path)
    labels = np.rint(mask).astype(np.uint8)
    grid = bounding_grid(affine, labels.shape)
    canonical = resample_labels(labels, affine, grid)
    from scripts.anatomy.centroids import body_centroid

    numbers = [int(n) for n in np.unique(canonical) if n]
    centroids = {n: body_centroid(n, canonical == n, grid) for n in numbers}
    whole = [v for v in find_landmarks(canonical, grid, centroids).vertebrae if v.sagittal_mm is not None]
    assert len(whole) >= 2
    for v in whole:
        for quad, low, high in ((v.sagittal_mm, 22, 45), (v.coronal_mm, 28, 62)):
            sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
            assert (sides[::2] > low).all() and (sides[::2] < high).all()
            assert (sides[1::2] > 13).all() and (sides[1::2] < 36).all()
            assert np.linalg.norm(quad.mean(0) - v.centroid_mm) < 6
            assert (quad[:2, 2] > quad[2:, 2][::-1]).all()  # superior lies above inferior
        assert (v.sagittal_mm[[0, 3], 1] > v.sagittal_mm[[1, 2], 1]).all()  # anterior first
        assert (v.coronal_mm[[0, 3], 0] > v.coronal_mm[[1, 2], 0]).all()  # the patient's right first


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    from scripts.anatomy.landmarks import SpineLandmarks

    quad = np.arange(12.0).reshape(4, 3)
    spine = SpineLandmarks((BodyLandmarks(1, np.zeros(3), why_none="C1"), BodyLandmarks(22, np.ones(3), quad, -quad)),
                           np.array([1.0, 2, 3]), True)  # fmt: skip
    write_landmarks(tmp_path / "landmarks.json", spine)
    back = read_landmarks(tmp_path / "landmarks.json")
    assert back.complete and np.allclose(back.s1_mm, [1, 2, 3])
    assert back.vertebrae[0].sagittal_mm is None and back.vertebrae[0].why_none == "C1"
    assert np.allclose(back.vertebrae[1].coronal_mm, -quad) and back.vertebrae[1].level == 22
