"""The shape library, the marks of its vertebrae, and the average vertebra made of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scripts.anatomy.average import (
    average_at,
    average_occupancy,
    average_signed_distance,
    cube_points,
    size_free_distance,
)
from scripts.anatomy.centroids import body_centroid, estimate_body_centroid
from scripts.anatomy.shapes import (
    SACRUM,
    SHAPE_SPACING_MM,
    library_subjects,
    load_shape,
    load_subject,
    people_named,
    shape_subjects,
    shapes_of_level,
    vertebrae_of,
)
from scripts.anatomy.sizes import subject_size
from scripts.cli.data import simulate
from scripts.data.metal import MetalEvidence
from scripts.data.patient import canonical_patient
from scripts.data.variants import VariantRange
from scripts.data.volumes import CaseVolumes
from scripts.errors import UserError
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.symmetry import symmetry_plane
from scripts.io.nifti import write_nifti
from scripts.levels import LEVEL_NUMBERS
from scripts.reconstruction.metrics.yardstick import yardstick_rows
from scripts.simulation.deformation import DeformationOptions, deform, draw_person
from scripts.simulation.draw import VariationOptions
from scripts.simulation.spine import SpineOptions, draw_spine
from scripts.simulation.variation import departure, measured_vertebrae, variation

NECKS = [subject for subject in shape_subjects() if 1 in load_subject(subject)]


def labelmap(subject: str, numbers: tuple[int, ...], turn: Rotation) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Vertebrae of a subject turned and 20 mm apart on a grid of 1 mm (world: index along I, P, L), and their marks."""
    labels = np.zeros((120, 130, 130), np.uint8)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij"), -1).astype(float)
    marks = {}
    for i, number in enumerate(numbers):
        mark = np.array([38.3 + 20 * i, 55.6, 64.2])
        local = turn.inv().apply((index - mark).reshape(-1, 3))
        inside = size_free_distance(load_subject(subject)[number], local, 1.0).reshape(labels.shape) < 0
        labels[inside & (labels == 0)] = number
        marks[number] = mark
    return labels, marks


@pytest.mark.parametrize("subject", NECKS)
def test_c1_of_a_ct_without_centroids_is_marked_where_the_library_marks_it(subject: str) -> None:
    """The head turned by 30 and nodded by 15 degrees; the thickest part alone lies in one lateral mass."""
    labels, marks = labelmap(subject, (1, 2, 3), Rotation.from_euler("xz", [30, 15], degrees=True))
    grid = Grid((0.0, 0.0, 0.0), labels.shape)
    affine = grid.affine
    hu = np.where(labels > 0, 700, 40).astype(np.float32)
    volumes = CaseVolumes(hu, labels, affine, {}, {}, MetalEvidence(700.0, 0.0, 0.0, False))
    patient = canonical_patient(volumes, 1.0, VariantRange(), None)
    for number, limit in ((1, 2.0), (2, 2.0), (3, 2.0)):
        found = IPL_AXES @ patient.centroids[number]
        assert np.linalg.norm(found - marks[number]) < limit, (number, found, marks[number])
    lateral_mass = IPL_AXES @ estimate_body_centroid(labels == 1, grid)
    assert np.linalg.norm(lateral_mass - marks[1]) > 10


@pytest.mark.parametrize("subject", shape_subjects())
def test_frames_of_the_library(subject: str) -> None:
    """Origin at the mark, arch behind it, median plane where a shape mirrors itself."""
    for number, shape in list(load_subject(subject).items())[::4]:
        if number == SACRUM:
            continue
        mask = shape.signed_distance < 0
        grid = Grid((0.0, 0.0, 0.0), mask.shape, SHAPE_SPACING_MM)
        origin = np.array(shape.origin)
        mark = grid.to_index(body_centroid(number, mask, grid))
        assert np.linalg.norm(mark - origin) * SHAPE_SPACING_MM < 1.5
        assert (np.argwhere(mask).mean(0) - origin)[1] > 0
        room = 20
        volume = np.pad(mask, room).astype(np.float32)
        assert abs(np.degrees(symmetry_plane(volume, origin + room))) < 3
        assert shape.pitch_mm > 10
    assert 0.75 < subject_size(subject) < 1.25


def test_every_level_has_three_subjects() -> None:
    for number in range(1, 25):
        assert len(shapes_of_level(number, tuple(shape_subjects()))) >= 3


def test_the_average_of_one_subject_is_that_subject_and_its_mirror_image() -> None:
    number, kept = 3, "artisynth"
    others = tuple(s for s in shape_subjects() if s != kept)
    size = subject_size(kept)
    points = cube_points(4.0)
    shape = load_subject(kept)[number]
    own = [size_free_distance(shape, points * [1, 1, side], size).clip(-12, 12) for side in (1, -1)]
    expected = np.mean(own, axis=0)
    assert average_signed_distance(number, 4.0, others) == pytest.approx(expected, abs=1e-3)
    near = points[np.abs(expected) < 5]
    assert average_at(number, near, others) == pytest.approx(expected[np.abs(expected) < 5], abs=0.3)
    # At the size of the average person: the volume shrinks with the cube of it.
    fine = np.stack(np.meshgrid(*(np.arange(-45, 60, 1.0),) * 3, indexing="ij"), -1)
    volume = (size_free_distance(shape, fine, size) < 0).sum()
    assert volume == pytest.approx((shape.signed_distance < 0).sum() * SHAPE_SPACING_MM**3 / size**3, rel=0.02)


@pytest.mark.parametrize("number", [1, 5, 10, 22])
def test_the_average_lies_in_the_cube_as_vertebrae_do(number: int) -> None:
    average = average_signed_distance(number)
    assert average.shape == (120, 120, 120) and average.dtype == np.float32
    assert np.allclose(average, average[:, :, ::-1], atol=1e-4)
    grid = Grid((0.0, 0.0, 0.0), average.shape)
    mark = grid.to_index(body_centroid(number, average < 0, grid))
    assert np.linalg.norm(mark - NOMINAL_CENTROID) < 2.0
    blocks = average.reshape(60, 2, 60, 2, 60, 2).mean((1, 3, 5))
    assert np.abs(average_signed_distance(number, 2.0) - blocks)[np.abs(blocks) < 5].max() < 0.6
    volumes = [
        (s.signed_distance < 0).sum() * SHAPE_SPACING_MM**3 for s in shapes_of_level(number, tuple(shape_subjects()))
    ]
    assert 0.6 * min(volumes) < (average < 0).sum() < max(volumes)
    assert average_occupancy(number)[average < -3].min() > 0.85


def test_supernumerary_levels_borrow_and_a_level_of_nobody_is_refused() -> None:
    both = (average_signed_distance(19, 4.0), average_signed_distance(20, 4.0))
    t13 = average_signed_distance(28, 4.0)
    assert min(np.abs(t13 - level).mean() for level in both) < np.abs(both[0] - both[1]).mean()
    assert (average_signed_distance(25, 4.0) < 0).any()
    with pytest.raises(UserError, match="L3"):
        average_signed_distance(22, 4.0, tuple(shape_subjects()))
    with pytest.raises(UserError, match="7"):
        average_signed_distance(22, 7.0)


def test_idealised_subjects_are_drawn_as_often_as_the_options_say() -> None:
    def share(options: SpineOptions) -> float:
        rng = np.random.default_rng(3)
        drawn = [shape.shape.subject for _ in range(150) for shape in draw_spine((3, 4, 5), options, rng).shapes]
        return drawn.count("bodyparts3d") / len(drawn)

    usual = SpineOptions()
    weights = {
        shape.subject: usual.subject_weights.get(shape.subject, 1.0) for shape in shapes_of_level(4, tuple(NECKS))
    }
    assert weights["bodyparts3d"] < 1
    assert share(usual) == pytest.approx(weights["bodyparts3d"] / sum(weights.values()), abs=0.06)
    assert share(dataclasses.replace(usual, subject_weights={})) == pytest.approx(1 / len(weights), abs=0.06)
    assert share(dataclasses.replace(usual, subject_weights={"bodyparts3d": 0.0})) == 0


@pytest.mark.parametrize("weights", [{"nobody": 1.0}, {"remus": -1}])
def test_wrong_weights_are_refused(weights: dict[str, Any], tmp_path) -> None:
    with pytest.raises(UserError, match="subject-weights"):
        simulate(tmp_path / "out", 1, subject_weights=weights)


def test_the_yardstick_stands_along_the_marks_and_leaves_the_patient_out(tmp_path) -> None:
    """The truth is the average without verse008, leaning 20 degrees to the left as the marks do; turned by hand."""
    turning = Rotation.from_euler("y", -20, degrees=True).as_matrix()  # axes I, P, L: down goes towards left
    assert turning @ [1, 0, 0] == pytest.approx([np.cos(np.radians(20)), 0, np.sin(np.radians(20))])
    index = np.stack(np.meshgrid(*(np.arange(120),) * 3, indexing="ij"), -1) - NOMINAL_CENTROID
    truth = average_at(22, index @ turning, ("verse008",)) < 0
    items = []
    for i, level in enumerate(("L2", "L3", "L4")):
        mark = (turning @ [35.0 * (i - 1), 0, 0] + NOMINAL_CENTROID) @ IPL_AXES
        items.append({"subject": "verse008", "series": "", "level": level, "centroid_mm": mark.tolist()})
        items[-1] |= {"label": "L3_mask.nii.gz", "clipped_fraction": 0.0, "along_spine": False}
    write_nifti(tmp_path / "L3_mask.nii.gz", truth.astype(np.uint8), Grid((0.0, 0.0, 0.0), truth.shape).affine)
    document = {"test": items[1:2], "excluded": [items[0], items[2]]}
    ((_, row),) = yardstick_rows(tmp_path, document, document["test"])
    assert row.level == "L3" and row.status == "ok" and row.dice > 0.98
    ((_, upright),) = yardstick_rows(tmp_path, {"test": items[1:2]}, items[1:2])
    assert upright.dice < 0.85


@pytest.mark.parametrize(
    "name",
    ["verse004", "verse004_0", "verse004_body1", "verse004~v01", "verse004~shapes2", "verse004_0~v01", "sub-verse004",
     "sub-verse004_dir-ax", "dataset1_verse004", "dataset1_verse004_body2", "dataset1-verse004", "VERSE004"],
)  # fmt: skip
def test_a_case_of_any_spelling_is_its_person(name: str) -> None:
    assert library_subjects(name) == ("verse004",)


@pytest.mark.parametrize("name", ["verse0041", "averse004", "verse00", "verse", "LIDC-IDRI-0001", "4", "004", ""])
def test_another_name_is_another_person(name: str) -> None:
    assert library_subjects(name) == ()


def test_people_are_told_apart_by_whole_names() -> None:
    people = ("lidc-idri-0001", "0001", "1")
    assert people_named("LIDC-IDRI-0001_body1", people) == ("lidc-idri-0001",)
    assert people_named("lidc-idri-00010", people) == people_named("verse010_1", people) == ()
    assert people_named("1_body1", people) == people_named("1~v01", people) == ("1",)


def test_neighbours_of_one_person_come_from_one_subject() -> None:
    rng = np.random.default_rng(0)
    subjects = ("s0327", "verse009", "spl")
    options = SpineOptions(without=tuple(s for s in shape_subjects() if s not in subjects))
    levels, firsts = (*range(3, 6), *range(10, 25)), []
    for _ in range(60):
        drawn = {shape.shape.number: shape.shape.subject for shape in draw_spine(levels, options, rng).shapes}
        # Only spl has a neck; the two others have all the rest.
        assert {drawn[n] for n in range(3, 6)} == {"spl"}
        assert len({drawn[n] for n in range(10, 25)}) == 1
        firsts.append(drawn[10])
    assert 15 < firsts.count("s0327") < 45 and set(firsts) == {"s0327", "verse009"}


def test_what_a_subject_s_own_size_adds_is_taken_out() -> None:
    points = torch.stack(torch.meshgrid(*[torch.arange(-60.0, 60.0, 1.5)] * 3, indexing="ij"), -1)
    calm = DeformationOptions(VariationOptions(0.0, 0.0, 0.0, 0.0), fracture_share=0.0)
    rng = np.random.default_rng(0)
    still = draw_person((22,), calm.variation, rng)[0]
    spreads = []
    shapes = shapes_of_level(22, tuple(s for s in shape_subjects() if s != "clouthier"))
    for own_size in (True, False):
        volumes = []
        for shape in shapes:
            deformed = deform(shape, 1.0, False, still, calm, rng)
            if own_size:
                by_size = subject_size(shape.subject) ** -variation().size_slope
                scale = by_size if len(vertebrae_of(shape.subject)) > 1 else np.ones(3)
                deformed = dataclasses.replace(deformed, scale=tuple(scale.tolist()), linear=still.linear[0])
            volumes.append(float((deformed.signed_distance(points) < 0).sum()))
        spreads.append(np.std(np.log(volumes)))
    assert len(shapes) > 8 and spreads[1] < 0.6 * spreads[0]


@pytest.mark.parametrize(("subject", "level"), [("spl", "C4"), ("s0327", "L2"), ("verse009", "T6")])
def test_a_mirrored_vertebra_is_the_mirror_image(subject: str, level: str) -> None:
    """Also where the real one is turned about the spine or leans to the side by several degrees."""
    number = LEVEL_NUMBERS[level]
    points = torch.stack(torch.meshgrid(*[torch.arange(-60.0, 61.0, 2.0)] * 3, indexing="ij"), -1)
    calm = DeformationOptions(VariationOptions(0.0, 0.0, 0.0, 0.0), fracture_share=0.0)
    rng = np.random.default_rng(0)
    still = draw_person((number,), calm.variation, rng)[0]
    plain, mirrored = (deform(load_shape(subject, number), 1.0, side, still, calm, rng) for side in (False, True))
    assert np.abs(departure(subject, number).turn_deg[:2]).max() > 3
    image = mirrored.signed_distance(points * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.allclose(image, plain.signed_distance(points), atol=1e-3)


@pytest.mark.parametrize("level", ["C5", "T4", "L2"])
def test_at_their_own_sizes_subjects_keep_their_mean_stretch(level: str) -> None:
    """The library's subjects are smaller than the average person in the neck; their mean is no average vertebra."""
    number = LEVEL_NUMBERS[level]
    calm = DeformationOptions(VariationOptions(0.0, 0.0, 0.0, 0.0), fracture_share=0.0)
    rng = np.random.default_rng(0)
    still = draw_person((number,), calm.variation, rng)[0]
    rows = [
        r for r in measured_vertebrae()[0] if r.number == number and np.isfinite([r.log_size, *r.numbers[:3]]).all()
    ]
    scales = []
    for row in rows:
        shape = load_shape(row.subject, number)
        scales.append(deform(shape, float(np.exp(row.log_size)), False, still, calm, rng).scale)
    assert len(rows) >= 3
    assert np.log(np.array(scales)).mean(0) == pytest.approx(0, abs=0.006)
