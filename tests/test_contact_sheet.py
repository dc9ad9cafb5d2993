"""The contact sheet shows what is there: outlines on the masks' borders, sides, exclusions, evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_fill_holes

from scripts.data.contact_sheet import EXCLUDED, draw_contact_sheet, draw_view, write_contact_sheet
from scripts.data.items import VertebraItem
from scripts.data.patient import PatientVolume, check_orientation
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.silhouettes import outline, silhouettes
from scripts.data.vertebrae import PrepareOptions
from scripts.drawing import spread, vivid_colour
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.levels import LEVEL_ORDER, level_name
from tests.conftest import SimulatedCase

SCALE = 4


def vertebra(number: int, excluded: str = "", contact: float = 0.0) -> VertebraItem:
    return VertebraItem("i", "l", "p", "", level_name(number), (0, 0, 0), "estimated", 0.0, contact, "s", "l", excluded)


def spine(numbers: tuple[int, ...] = (20, 21), tip_only: bool = False) -> PatientVolume:
    """Bodies with a process behind and one on the patient's left, 50 mm apart; the process hangs 35 mm down.

    With ``tip_only`` the top border leaves no more of the first vertebra than the end of its process behind.
    """
    labels = np.zeros((30 + 50 * len(numbers), 90, 80), np.uint8)
    centroids = {}
    grid = Grid((30.0, 40.0, 100.0), (labels.shape[0], 90, 80))
    for i, number in enumerate(numbers):
        row = 20 + 50 * i
        labels[row - 12 : row + 13, 20:45, 25:50] = number
        labels[row : row + 45, 60:66, 35:40] = number
        labels[row : row + 5, 45:66, 35:40] = number
        labels[row - 3 : row + 3, 38:44, 50:70] = number
        centroids[number] = grid.to_world(np.array([row, 32.0, 37.0]))
    if tip_only:
        labels[labels == numbers[0]] = 0
        labels[60:90, 70:74, 35:40] = numbers[0]
        centroids[numbers[0]] = grid.to_world(np.array([75.0, 72.0, 37.0]))
        return PatientVolume(torch.zeros(1), labels, grid, centroids, frozenset(), None)  # type: ignore[arg-type]
    return PatientVolume(
        torch.zeros(1), labels, grid, centroids, frozenset(), check_orientation(labels, grid, centroids)
    )


def shadow_films(patient: PatientVolume) -> tuple[np.ndarray, np.ndarray]:
    return tuple((patient.labels > 0).sum(axis).astype(np.float32) for axis in (1, 2))


def pixels(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(-1)


def border(shadow: np.ndarray, corners: bool = False) -> np.ndarray:
    """Pixels of a shadow beside something else, or just diagonal to it; no code shared with the product."""
    padded = np.pad(shadow, 1)
    rows, columns = shadow.shape
    around = [(1, 0), (-1, 0), (0, 1), (0, -1)] + [(1, 1), (1, -1), (-1, 1), (-1, -1)] * corners
    inner = np.logical_and.reduce([padded[1 + r : 1 + r + rows, 1 + c : 1 + c + columns] for r, c in around])
    return shadow & ~inner


@pytest.mark.parametrize(("axis", "side"), [(1, 1), (2, -1)])
def test_outline_lies_on_the_border_of_the_mask_s_projection(axis: int, side: int) -> None:
    patient = spine((20,))
    geometry = geometry_of_grid(patient.grid)
    view = geometry.ap if axis == 1 else geometry.lat
    shadow = patient.labels.any(axis)
    (row, column), line = outline(silhouettes(patient, view)[20], SCALE, dashed=False)
    drawn = np.zeros((shadow.shape[0] * SCALE, shadow.shape[1] * SCALE), bool)
    drawn[row : row + line.shape[0], column : column + line.shape[1]] = line
    fine = border(shadow, corners=True).repeat(SCALE, 0).repeat(SCALE, 1)
    assert not (drawn & ~fine).any()
    # Every border pixel has some of the line in it.
    touched = drawn.reshape(shadow.shape[0], SCALE, shadow.shape[1], SCALE).any((1, 3))
    assert touched[border(shadow)].all()
    # And on the picture: all of its colour is on the border, but for the cross, the leader and the name.
    panel = draw_view(shadow_films(patient)[axis - 1], view, patient, [vertebra(20)], SCALE, side)
    offset = 0 if side > 0 else panel.width - fine.shape[1]
    coloured = pixels(panel, vivid_colour(20))[:, offset : offset + fine.shape[1]]
    assert (coloured & drawn).sum() == drawn.sum() and (coloured & fine).sum() > 0.6 * coloured.sum()


@pytest.mark.parametrize("beam", [Beam.SLOT, Beam.CONE])
def test_outlines_follow_rays_that_diverge(beam: Beam) -> None:
    """The shadow is the projection of all voxels, without the holes that splatting leaves."""
    patient = spine()
    view = geometry_of_grid(patient.grid, beam, (400.0, 400.0), (500.0, 500.0)).lat
    shadows = silhouettes(patient, view)
    assert set(shadows) == set(patient.centroids)
    for number, shadow in shadows.items():
        corners = np.argwhere(patient.labels == number)
        hit = np.zeros(view.shape, bool)
        places = np.rint(view.project(patient.grid.to_world(corners))).astype(int)
        places = places[((places >= 0) & (places < view.shape)).all(1)]
        hit[tuple(places.T)] = True
        assert not (hit & ~shadow).any() and shadow.sum() < 1.1 * hit.sum()
    # A plate in front of the isocentre grows by a fifth; nothing behind it fills the gaps.
    plate = np.zeros_like(patient.labels)
    plate[30:70, 30:60, 78] = 20
    near = replace(patient, labels=plate)
    close = geometry_of_grid(patient.grid, beam, (200.0, 200.0), (240.0, 240.0)).lat
    shadow = silhouettes(near, close)[20]
    assert shadow.sum() > 1200 and (binary_fill_holes(shadow) == shadow).all()
    parallel = silhouettes(patient, geometry_of_grid(patient.grid).lat)
    assert any((shadow != parallel[number]).any() for number, shadow in silhouettes(patient, view).items())


@pytest.mark.parametrize(("view", "turn"), [(0, np.fliplr), (0, np.flipud), (1, np.fliplr), (1, np.flipud)])
def test_a_flipped_film_does_not_fit_its_outlines(view: int, turn) -> None:
    """Read back from the picture: just inside the outlines the film is bright, flipped it is dark in places."""
    patient = spine((20, 21, 22))
    geometry = geometry_of_grid(patient.grid)
    items = [vertebra(n) for n in patient.centroids]

    def dark_inside(film: np.ndarray) -> float:
        which, side = ((geometry.ap, 1), (geometry.lat, -1))[view]
        panel = draw_view((film > 0).astype(np.float32), which, patient, [], SCALE, side)
        empty = np.asarray(draw_view(film * 0, which, patient, items, SCALE, side))
        offset = 0 if side > 0 else panel.width - film.shape[1] * SCALE
        grey = np.asarray(panel)[:, offset:][:, : film.shape[1] * SCALE, 0]
        lines = np.zeros(grey.shape, bool)
        for number in patient.centroids:
            lines |= (empty == vivid_colour(number)).all(-1)[:, offset:][:, : film.shape[1] * SCALE]
        inside = np.zeros(film.shape, bool)
        for shadow in silhouettes(patient, which).values():
            inside |= shadow
        lines &= inside.repeat(SCALE, 0).repeat(SCALE, 1)
        return float((grey[lines] < 60).mean())

    film = shadow_films(patient)[view]
    assert dark_inside(film) < 0.02 and dark_inside(turn(film)) > 0.1


def sheet(patient: PatientVolume, items: list[VertebraItem], geometry: BiplanarGeometry | None = None) -> Image.Image:
    geometry = geometry or geometry_of_grid(patient.grid)
    return draw_contact_sheet(shadow_films(patient), patient, geometry, items, "p")


def test_excluded_vertebrae_look_different_and_their_reason_is_written() -> None:
    patient = spine()
    plain = sheet(patient, [vertebra(20), vertebra(21)])
    assert not pixels(plain, EXCLUDED).any()
    one = sheet(patient, [vertebra(20), vertebra(21, "too short")])
    other = sheet(patient, [vertebra(20), vertebra(21, "cut off")])
    assert pixels(one, EXCLUDED).sum() > 500 and not np.array_equal(np.asarray(one), np.asarray(other))
    # One that the border only touches keeps its colour; its outline has gaps.
    touched = sheet(patient, [vertebra(20), vertebra(21, contact=3.0)])
    assert not pixels(touched, EXCLUDED).any()
    full, dashed = (pixels(image, vivid_colour(21))[:400].sum() for image in (plain, touched))
    assert 0.3 * full < dashed < 0.9 * full
    assert all(vivid_colour(number) != EXCLUDED for number in LEVEL_ORDER)


def test_letters_follow_the_geometry() -> None:
    patient = spine()
    geometry = geometry_of_grid(patient.grid)
    mirrored = replace(geometry.ap, column_direction=(1.0, 0.0, 0.0), beam_direction=(0.0, 1.0, 0.0))
    right, wrong = (
        np.asarray(sheet(patient, [vertebra(20)], g))[60:94] for g in (geometry, replace(geometry, ap=mirrored))
    )
    assert not np.array_equal(right, wrong)


def test_the_same_case_gives_the_same_bytes(tmp_path: Path) -> None:
    patient = spine()
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        geometry = geometry_of_grid(patient.grid)
        write_contact_sheet(
            tmp_path / name, shadow_films(patient), patient, geometry, [vertebra(20), vertebra(21)], "p"
        )
        contents.append((tmp_path / name / "contact_sheet.png").read_bytes())
    assert contents[0] == contents[1]


def test_every_prepared_patient_has_one_and_variants_have_none(tmp_path: Path, case: SimulatedCase) -> None:
    prepare_dataset(case.ct.parent, tmp_path / "d", PrepareOptions(variants=1), SplitOptions(0, 0))
    assert Image.open(tmp_path / "d" / "cases" / "patient1" / "contact_sheet.png").width > 700
    assert (tmp_path / "d" / "cases" / "patient1~v01").is_dir()
    assert not (tmp_path / "d" / "cases" / "patient1~v01" / "contact_sheet.png").exists()


def test_names_keep_apart_and_on_the_picture() -> None:
    assert spread([5, 6, 50, 98, 99], 10, 5, 95) == [5, 15, 50, 85, 95]


def test_orientation_evidence_is_measured() -> None:
    found = spine().orientation
    voxels = np.argwhere(spine().labels == 20)
    assert found.behind_mm == pytest.approx(voxels[:, 1].mean() - 32, abs=0.01)
    assert found.levels_descend and found.compared == 2


def test_a_spinous_tip_alone_does_not_turn_the_case_upside_down() -> None:
    """The tip hangs below the next body; it is left out unless its centroid is known."""
    patient = spine((19, 20, 21, 22), tip_only=True)
    found = check_orientation(patient.labels, patient.grid, patient.centroids)
    assert found.levels_descend and found.compared == 3
    with pytest.raises(UserError, match="follow one another"):
        check_orientation(patient.labels, patient.grid, patient.centroids, frozenset({19}))


def test_whole_vertebrae_in_the_wrong_order_are_still_refused() -> None:
    with pytest.raises(UserError, match="follow one another"):
        spine((22, 21, 20))


def test_a_tip_at_the_top_of_a_scan_is_prepared(tmp_path: Path, case: SimulatedCase) -> None:
    """A file in which nothing but a sliver of T12 is left, lower than the body of L1."""
    image = nib.load(case.mask)
    labels = np.asarray(image.dataobj).copy()
    behind = np.argwhere(labels == 20)
    back = behind[behind[:, 1] == behind[:, 1].min()]
    low = back[:, 2].min()
    labels[back[0][0] : back[0][0] + 4, back[0][1] - 3 : back[0][1], low - 6 : low - 1] = 19
    nib.save(nib.Nifti1Image(labels, image.affine), case.mask)
    counts = prepare_dataset(case.ct.parent, tmp_path / "d", PrepareOptions(), SplitOptions(0, 0))
    assert counts["rejected"] == 0
