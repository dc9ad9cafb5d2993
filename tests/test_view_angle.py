"""Variants whose views were not where everyone believes them to be."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scripts.data import vertebrae
from scripts.data.building import STAMP_FILE
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.variants import VariantRange, misaligned
from scripts.data.vertebrae import PrepareOptions
from scripts.geometry.biplanar import BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.geometry.projector import project_pair
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_film
from tests.conftest import SimulatedCase

SPLIT = SplitOptions(test_share=0, validation_share=0)


def test_no_error_is_the_same_object_and_draws_nothing() -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (30, 20, 40)))
    rng = np.random.default_rng(0)
    assert misaligned(geometry, VariantRange(), rng) is geometry
    assert rng.random() == np.random.default_rng(0).random()


def test_views_err_by_themselves_and_within_the_limit() -> None:
    geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (30, 20, 40)))
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(200):
        taken = misaligned(geometry, VariantRange(view_angle_error_deg=5.0), rng)
        pairs = ((taken.ap, geometry.ap), (taken.lat, geometry.lat))
        angles.append([np.degrees(np.arccos(np.dot(a.beam_direction, b.beam_direction))) for a, b in pairs])
    assert 4.5 < np.max(angles) <= 5 * np.sqrt(2) + 1e-6
    assert abs(np.corrcoef(np.transpose(angles))[0, 1]) < 0.2


def test_films_are_turned_and_everything_else_is_not(
    tmp_path: Path, case: SimulatedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned: list[BiplanarGeometry] = []

    def fixed(geometry: BiplanarGeometry, limits: VariantRange, rng: np.random.Generator) -> BiplanarGeometry:
        turned.append(BiplanarGeometry(geometry.ap.turned(10.0, 3.0), geometry.lat.turned(-7.0, -2.0)))
        return turned[-1]

    monkeypatch.setattr(vertebrae, "misaligned", fixed)
    options = PrepareOptions(variants=1, variant_range=VariantRange(centroid_noise_mm=0.0, view_angle_error_deg=10.0))
    prepare_dataset(case.ct.parent, tmp_path / "out", options, SPLIT)
    assert len(turned) == 1  # the patient as scanned is never turned
    folder = next((tmp_path / "out" / "cases").glob("*~v01"))
    labelmap = nib.load(folder / "labelmap.nii.gz")
    bone = torch.from_numpy((labelmap.get_fdata() > 0).astype(np.float32))
    ap, ap_view = read_film(folder / "ap.nii.gz", frontal=True)
    lat, lat_view = read_film(folder / "lat.nii.gz", frontal=False)

    for film, *shadows in zip(
        (ap, lat),
        project_pair(bone, labelmap.affine, turned[0]),
        project_pair(bone, labelmap.affine, BiplanarGeometry(ap_view, lat_view)),
        strict=True,
    ):
        # Where the two hypotheses differ, the film has bone where the turned one says so.
        difference = (shadows[0] - shadows[1]).numpy()
        fine = film - gaussian_filter(film, 8)
        assert np.corrcoef(fine[difference != 0], difference[difference != 0])[0, 1] > 0.3
    items = {i["level"]: i for i in json.loads((folder / vertebrae.CASE_FILE).read_text())["items"]}
    marks = read_annotations(folder / "annotations.json")
    for view, shown, column in ((turned[0].ap, marks.ap, 0), (turned[0].lat, marks.lat, 2)):
        assert len(shown.marks) == len(case.centroids_mm)
        for mark in shown.marks:
            item = items[vertebrae.level_name(mark.level)]
            assert np.allclose(mark.centroid, view.project(item["centroid_mm"])[0], atol=1e-2)
            image = nib.load(folder / item["image"]).get_fdata()[:, :, 0]
            row, col = np.unravel_index(image[..., column + 1].argmax(), (120, 120))
            # Patches are cut where the marks are, up to rounding and to half of what the two views' rows differ by.
            assert abs(row - 59.5) <= 3 and abs(col - (59.5 if column == 0 else 39.5)) <= 1
            label = nib.load(folder / item["label"])
            assert np.allclose(label.affine, nib.load(folder / item["image"]).affine)
            inside = np.linalg.inv(label.affine) @ [*item["centroid_mm"], 1]
            assert np.abs(inside[:3] - [59.5, 39.5, 59.5]).max() <= 0.51


def test_datasets_without_the_option_stay_up_to_date(tmp_path: Path, case: SimulatedCase) -> None:
    for angle in (0.0, 4.0):
        options = PrepareOptions(variant_range=VariantRange(view_angle_error_deg=angle))
        prepare_dataset(case.ct.parent, tmp_path / f"{angle}", options, SPLIT)
        stamp = next((tmp_path / f"{angle}").rglob(STAMP_FILE)).read_text()
        assert ("view_angle_error_deg" in stamp) == (angle > 0)
