"""Simulated spines: anatomy within the published tables, no overlap, reproducible, read by prepare like any CT."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.anatomy.centroids import read_verse_centroids
from scripts.anatomy.distances import pair_statistics
from scripts.anatomy.shapes import SHAPES_FOLDER, load_subject, shape_subjects, signed_distance
from scripts.data.cases import find_cases
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.io.nifti import read_nifti
from scripts.levels import LEVEL_NUMBERS, level_name
from scripts.localization.level_moves import S1_PITCH_MM
from scripts.simulation.body import build_body
from scripts.simulation.bone import BoneOptions, paint_bone, smooth_noise
from scripts.simulation.deformation import DeformationOptions, Fracture, deform, draw_person
from scripts.simulation.donor import DONORS_FOLDER, Donor, add_donor, as_large_as, donor_names, draw_donor, load_donor
from scripts.simulation.draw import VariationOptions
from scripts.simulation.patient import SimulatedPatient, SimulationOptions, simulate_patient
from scripts.simulation.posture import Posture, PostureOptions, draw_posture
from scripts.simulation.spine import Spine, SpineOptions, SpineVoxels, draw_levels, draw_spine, voxelise
from scripts.simulation.write import simulate_dataset
from tests.conftest import checksums

ALL_LEVELS = tuple(range(1, 25))
CALM = SpineOptions(
    t13_share=0,
    l6_share=0,
    t12_absent_share=0,
    posture=PostureOptions(scoliosis_share=0),
    deformation=DeformationOptions(fracture_share=0),
)

# Panjabi 1991/92 (cadavers, n = 12): width and depth of the two endplates and posterior height of the body, mm.
PANJABI = {
    "C3": (15.8, 15.0, 17.2, 15.6, 11.6), "C4": (17.2, 15.3, 17.0, 15.9, 11.4), "C5": (17.5, 15.2, 19.4, 17.9, 11.4),
    "C6": (18.5, 16.4, 22.0, 18.5, 10.9), "C7": (21.8, 18.1, 23.4, 16.8, 12.8), "T1": (24.5, 18.5, 27.8, 19.7, 14.1),
    "T2": (24.9, 19.6, 27.4, 21.6, 15.6), "T4": (24.5, 23.3, 26.0, 24.5, 16.2), "T6": (26.2, 26.0, 28.2, 26.9, 17.4),
    "T8": (29.5, 27.9, 30.5, 29.4, 18.7), "T10": (31.9, 30.5, 35.4, 31.6, 20.2), "T12": (39.0, 32.8, 42.1, 33.4, 22.7),
    "L1": (41.2, 34.1, 43.3, 35.3, 23.8), "L2": (42.6, 34.6, 45.5, 34.9, 24.3), "L3": (44.1, 35.2, 48.0, 34.8, 23.8),
    "L4": (46.6, 35.5, 49.5, 33.9, 24.1), "L5": (47.3, 34.7, 49.4, 33.2, 22.9),
}  # fmt: skip


def whole_grid(spine: Spine, spacing_mm: float) -> Grid:
    low = spine.posture.centroids.min(0) - [45, 55, 80]
    high = spine.posture.centroids.max(0) + [50, 90, 80]
    shape = np.ceil((high - low) / spacing_mm).astype(int)
    return Grid(tuple(low @ IPL_AXES), tuple(int(n) for n in shape), spacing_mm)


@pytest.fixture(scope="module")
def spines() -> list[tuple[Spine, SpineVoxels, Grid]]:
    out = []
    for seed in range(3):
        spine = draw_spine(ALL_LEVELS, CALM, np.random.default_rng(seed))
        grid = whole_grid(spine, 1.5)
        out.append((spine, voxelise(spine, grid), grid))
    return out


def body_size(spine: Spine, voxels: SpineVoxels, grid: Grid, place: int) -> np.ndarray:
    """Width, depth and height of a body: how far its mask reaches from the centroid along its own axes, mm."""
    frame, level = spine.posture.frames()[place], spine.posture.levels[place]
    steps = np.arange(0, 45, 0.25)
    spread = np.array([-4.0, -2.0, 0.0, 2.0, 4.0]) * (0.4 if level < 10 else 1.0)
    # Transverse processes of the neck start beside the body: across, its front half is probed.
    forward = 5.0 if level < 10 else 0.0
    lengths = []
    for axis in (2, 1, 0):
        others = [a for a in range(3) if a != axis]
        reach = []
        for u in spread:
            for v in spread:
                both = 0.0
                for sign in (-1, 1):
                    local = np.zeros((len(steps), 3))
                    local[:, axis] = sign * steps
                    local[:, others] = (u, v)
                    local[:, 1] -= forward if axis == 2 else 0.0
                    index = np.rint(grid.to_index((local @ frame.T + spine.posture.centroids[place]) @ IPL_AXES))
                    inside = voxels.labels[tuple(index.astype(int).T)] == level
                    both += steps[np.argmin(inside)] if not inside.all() else steps[-1]
                reach.append(both)
        lengths.append(np.median(reach))
    return np.array(lengths)


def test_bodies_measure_what_real_ones_do(spines) -> None:
    measured = {
        level_name(level): np.mean([body_size(s, v, g, i) for s, v, g in spines], axis=0)
        for i, level in enumerate(ALL_LEVELS)
    }
    for name, (upper_width, upper_depth, lower_width, lower_depth, height) in PANJABI.items():
        width, depth, tall = measured[name]
        # Probed at half height, where the body is waisted; the table is of endplates, of cadavers of one age.
        if name not in ("C5", "C6", "C7"):  # there the transverse processes start from the body's front
            assert 0.7 * upper_width < width < 1.3 * lower_width, name
        assert 0.75 * upper_depth < depth < 1.25 * lower_depth, name
        assert 0.75 * height < tall < (1.5 if name[0] == "C" else 1.35) * height, name


def test_distances_follow_the_measured_ones() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array(
        [
            np.linalg.norm(
                np.diff(draw_posture(ALL_LEVELS, PostureOptions(scoliosis_share=0), rng).centroids, axis=0), axis=1
            )
            for _ in range(300)
        ]
    )
    for i, (upper, lower) in enumerate(itertools.pairwise(ALL_LEVELS)):
        real = pair_statistics()[f"{level_name(upper)}-{level_name(lower)}"]
        assert abs(drawn[:, i].mean() - real["distance_mm"]) < 0.03 * real["distance_mm"]
        assert 0.6 * real["distance_sd_mm"] < drawn[:, i].std() < 1.4 * real["distance_sd_mm"]


# docs and research: VID's own means, read off the scans by hand, independent of distances.json.
@pytest.mark.parametrize(("pair", "mean"), [("C3-C4", 17.8), ("T4-T5", 21.6), ("T11-T12", 29.7), ("L2-L3", 35.8)])
def test_stored_distances_are_the_published_ones(pair: str, mean: float) -> None:
    assert abs(pair_statistics()[pair]["distance_mm"] - mean) < 0.4


def test_vertebrae_are_one_piece_each_and_do_not_overlap(spines) -> None:
    for _, voxels, _ in spines:
        assert set(np.unique(voxels.labels)) == {0, *ALL_LEVELS}
        assert voxels.overlap < 0.02
        for level in ALL_LEVELS:
            assert ndimage.label(voxels.labels == level)[1] == 1, level_name(level)


def test_curves_are_those_of_people() -> None:
    rng = np.random.default_rng(2)
    kyphosis, lordosis = [], []
    for _ in range(200):
        c = draw_posture(ALL_LEVELS, PostureOptions(scoliosis_share=0), rng).centroids
        angle = np.degrees(np.arctan2(np.diff(c[:, 1]), np.diff(c[:, 0])))
        kyphosis.append(angle[7] - angle[18])
        lordosis.append(angle[22] - angle[19])
    assert 35 < np.mean(kyphosis) < 50  # 43 between the first and the last thoracic distance, lying
    assert 23 < np.mean(lordosis) < 42  # 23 lying, some ten degrees more standing


def test_scoliosis_has_the_cobb_angle_that_it_says() -> None:
    options = PostureOptions(scoliosis_share=1, curve=0, size=0, cobb_deg=(40, 40))
    for seed in range(5):
        posture = draw_posture(ALL_LEVELS, options, np.random.default_rng(seed))
        step = np.diff(posture.centroids, axis=0)
        tilt = np.degrees(np.arcsin(step[:, 2] / np.linalg.norm(step, axis=1)))
        assert abs(np.ptp(tilt) - 40) < 4
        # The turn goes with the curve: vertebrae at the apex turn towards the convex side.
        apex = int(np.abs(posture.axial_rotation_deg).argmax())
        convex = np.sign(posture.centroids[apex, 2] - (posture.centroids[0, 2] + posture.centroids[-1, 2]) / 2)
        assert np.sign(posture.axial_rotation_deg[apex]) != 0 and convex != 0


@pytest.mark.parametrize("kind", ["wedge", "biconcave", "crush"])
def test_fractures_lower_the_body_where_they_should(kind: str) -> None:
    shape = load_subject("verse010")[22]
    rng = np.random.default_rng(0)
    options = DeformationOptions(VariationOptions(0, 0, 0, 0), fracture_share=0)
    (still,) = draw_person((22,), options.variation, rng)
    calm = deform(shape, 1.0, False, still, options, rng)
    broken = replace(calm, fracture=Fracture(kind, 0.4))

    def height(deformed, behind: float) -> float:
        line = torch.zeros(400, 3)
        line[:, 0] = torch.linspace(-25, 25, 400)
        line[:, 1] = behind
        return float((deformed.signed_distance(line) < 0).sum()) * 50 / 400

    front, middle, back = (height(broken, b) / height(calm, b) for b in (-11.0, 0.0, 9.0))
    expected = {
        "wedge": front < 0.7 < middle < back,
        "biconcave": middle < 0.7 < front,
        "crush": max(front, middle) < 0.7,
    }
    assert expected[kind], (front, middle, back)
    # The arch keeps its height.
    assert height(broken, 26.0) == pytest.approx(height(calm, 26.0), abs=0.6)


def test_signed_distance_of_a_ball() -> None:
    index = np.stack(np.meshgrid(*[np.arange(41) - 20.0] * 3, indexing="ij"), -1)
    radius = np.linalg.norm(index, axis=-1)
    distance = signed_distance(radius < 12, 0.8)
    near = np.abs(radius - 12) < 5
    assert np.abs(distance - (radius - 12) * 0.8)[near].max() < 0.6


def test_bone_profile_is_the_measured_one() -> None:
    """Mean CT number against depth in verse014 L1-L3: 480-580 in the first 2 mm, 90-250 beyond 5 mm."""
    shape = load_subject("verse010")[22].signed_distance
    outer, inner = [], []
    for seed in range(6):
        hu = np.full(shape.shape, 50.0, np.float32)
        paint_bone(hu, shape, 0.8, BoneOptions(), np.random.default_rng(seed))
        outer.append(hu[(shape < -0.8) & (shape > -2)].mean())
        inner.append(hu[shape < -5].mean())
        assert (hu[shape > 2] == 50).all()
    assert 380 < np.mean(outer) < 680
    assert 60 < np.mean(inner) < 260


def test_a_single_layer_of_bone_can_be_painted() -> None:
    hu, distance = np.zeros((9, 9, 9), np.float32), np.full((9, 9, 9), 12.0, np.float32)
    distance[8, 2:6, 2:6] = -1.0  # what the border of the field of view leaves of a bone
    paint_bone(hu, distance, 1.0, BoneOptions(), np.random.default_rng(0))
    assert (hu[8, 2:6, 2:6] > 100).all() and not hu[:8].any()


def test_smooth_noise_has_its_variance_and_length() -> None:
    for sigma in (1.0, 6.0):
        noise = smooth_noise((64, 64, 64), sigma, np.random.default_rng(0))
        assert noise.std() == pytest.approx(1, abs=0.25)
        lag = round(sigma * 2)
        # Correlation of Gaussian-smoothed noise at lag d is exp(-d^2 / 4 sigma^2).
        found = np.corrcoef(noise[:-lag].ravel(), noise[lag:].ravel())[0, 1]
        assert found == pytest.approx(np.exp(-(lag**2) / (4 * sigma**2)), abs=0.2)


def test_levels_and_anomalies_come_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    options = SpineOptions(t13_share=0.2, l6_share=0.3, t12_absent_share=0.1)
    drawn = [draw_levels(options, rng) for _ in range(500)]
    t13 = np.mean([28 in levels for levels in drawn])
    l6 = np.mean([25 in levels for levels in drawn])
    no_t12 = np.mean([19 not in levels for levels in drawn])
    assert abs(t13 - 0.2) < 0.05 and abs(l6 - 0.3) < 0.06 and abs(no_t12 - 0.1) < 0.04
    spine = draw_spine((18, 19, 28, 20, 24, 25), replace(CALM), rng)
    assert spine.posture.levels == (18, 19, 28, 20, 24, 25)


def test_a_donor_keeps_its_parts_with_their_levels() -> None:
    """A simulated spine that stands where the donor's own did gets the donor's own voxels around it."""
    donor = load_donor("s0308")
    numbers = tuple(int(n) for n in donor.ranks)
    posture = Posture(numbers, donor.centroids * donor.spacing_mm, np.zeros(len(numbers)), 0.0)
    grid = Grid((0.0, 0.0, 0.0), donor.hu.shape, donor.spacing_mm)
    body = build_body(posture, grid, np.random.default_rng(0))

    class NotMirrored:
        """Whose every number is 1."""

        def random(self) -> float:
            return 1.0

    hu = np.full(grid.shape, -1000.0, np.float32)
    add_donor(hu, donor, 1.0, body, grid, NotMirrored())  # type: ignore[arg-type]
    middle = slice(int(donor.centroids[3, 0]), int(donor.centroids[-2, 0]))
    difference = np.abs(hu[middle] - donor.hu[middle])
    assert np.median(difference) < 1.0
    assert (difference > 100).mean() < 0.02


@pytest.mark.parametrize(
    ("levels", "names", "share"),
    [
        (range(20, 25), ("acrin_neck", "acrin_abdomen"), 0.0),  # five lumbar levels, all in the abdomen
        (range(1, 8), ("acrin_neck", "acrin_abdomen"), 1.0),
        (range(1, 25), ("acrin_neck", "acrin_abdomen"), 12 / 20),  # C1-T5 and T10-L5
        (range(10, 19), ("acrin_neck", "acrin_abdomen"), 3 / 5),  # T3-T5 and T10-T11
    ],
)
def test_a_donor_is_drawn_by_what_it_shows_of_the_patient(levels: range, names: tuple[str, ...], share: float) -> None:
    posture = Posture(tuple(levels), np.zeros((len(levels), 3)), np.zeros(len(levels)), 0.0)
    rng = np.random.default_rng(0)
    drawn = [draw_donor(names, posture, rng) for _ in range(400)]
    assert np.mean([d is not None and d.name == "acrin_neck" for d in drawn]) == pytest.approx(share, abs=0.07)
    # T6 and T7 lie between the two donors.
    assert draw_donor(names, replace(posture, levels=(13, 14)), rng) is None


def test_a_body_becomes_as_large_as_its_donor() -> None:
    """An elliptic cylinder of 150 x 112 mm (half axes) about a spine that stands 20 mm behind its middle."""
    _, p, left = np.meshgrid(np.arange(100), np.arange(60), np.arange(80), indexing="ij")
    inside = ((p - 30.0) * 4 / 112) ** 2 + ((left - 40.0) * 4 / 150) ** 2 < 1
    centroids = np.array([[20.0 + 6 * i, 35.0, 40.0] for i in range(8)])
    donor = Donor("made", np.where(inside, 40.0, -1000.0).astype(np.float32), 4.0, np.arange(12, 20), centroids, "")
    posture = Posture(tuple(range(12, 20)), centroids * 4.0, np.zeros(8), 0.0)
    grid = Grid((0.0, 0.0, 0.0), donor.hu.shape, 4.0)
    body = build_body(posture, grid, np.random.default_rng(0))
    fitted = as_large_as(body, donor, 1.0)
    within = (body.rank >= 12) & (body.rank <= 19)
    # At the side, in front, behind; the table's own change from row to row stays.
    assert np.median(fitted.outline[within], axis=0) == pytest.approx([150, 132, 92], abs=8)
    assert np.ptp(fitted.outline / body.outline, axis=0) == pytest.approx(0)
    assert (fitted.cage < fitted.outline).all()


def test_licences_of_everything_that_ships() -> None:
    notice = (SHAPES_FOLDER / "LICENSES.md").read_text()
    for subject in shape_subjects():
        assert subject in notice
        assert next(iter(load_subject(subject).values())).licence in notice
    for name in donor_names():
        assert name in (DONORS_FOLDER / "LICENSES.md").read_text()


ALL_BUT_TWO = tuple(s for s in shape_subjects() if s not in ("spl", "verse009"))
SMALL = SimulationOptions(spacing_mm=3.0, whole_share=0.0, part_mm=(200.0, 220.0), seed=5)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate_dataset(folder, 3, SMALL)
    return folder


def test_same_seed_same_bytes_and_a_stopped_run_goes_on(simulated: Path, tmp_path: Path) -> None:
    simulate_dataset(tmp_path, 1, SMALL)  # as if stopped after the first
    simulate_dataset(tmp_path, 3, SMALL, workers=2)
    assert checksums(tmp_path) == checksums(simulated)
    other = simulate_patient(0, replace(SMALL, seed=6))
    assert other.hu.shape != simulate_patient(0, SMALL).hu.shape


def test_written_as_verse_writes(simulated: Path) -> None:
    cases = find_cases(simulated)
    assert [case.subject for case in cases] == ["sim5x0000", "sim5x0001", "sim5x0002"]
    for case in cases:
        assert case.ct is not None and case.mask is not None and case.centroids is not None
        labels, affine = read_nifti(case.mask)
        centroids, convention = read_verse_centroids(case.centroids, labels, affine)
        assert convention == "voxels"
        grid = Grid(tuple(affine[:3, 3]), labels.shape, 3.0)
        marked = []
        for number, centroid in centroids.items():
            i, p, left = np.rint(grid.to_index(centroid)).astype(int)
            # The ring of C1 is hollow, C2's centroid may touch the dens, a cut vertebra's may lie beyond the border.
            if number > 2 and all(0 <= n < size for n, size in zip((i, p, left), labels.shape, strict=True)):
                marked.append(labels[i, p, left] == number)
        assert len(marked) >= 5 and all(marked)


def test_prepare_takes_it_like_any_ct(simulated: Path, tmp_path: Path) -> None:
    counts = prepare_dataset(simulated, tmp_path / "dataset", PrepareOptions(), SplitOptions(0.0, 0.0))
    assert counts["rejected"] == 0 and counts["training"] >= 9
    rows = json.loads((tmp_path / "dataset" / "dataset.json").read_text())["training"]
    truth = json.loads((simulated / "simulation.json").read_text())["patients"]
    assert all(row["level"] in truth[row["subject"]]["levels"] for row in rows)


def test_screws_are_metal_and_inside_bone() -> None:
    options = replace(SMALL, ingredients=replace(SMALL.ingredients, hardware_share=1.0), part_mm=(300.0, 320.0))
    # Screws are in a few vertebrae of a patient, which need not be in the field of view.
    patients = (simulate_patient(number, options) for number in range(8))
    patient: SimulatedPatient = next(p for p in patients if p.truth["screws"])
    metal = patient.hu > 2800
    near = ndimage.binary_dilation(patient.labels > 0, iterations=5)
    assert metal.sum() > 20 and near[metal].mean() > 0.9


@pytest.mark.parametrize(
    ("count", "change", "words"),
    [
        (0, {}, "at least one"),
        (1, {"spacing_mm": 9.0}, "spacing"),
        (1, {"spine": SpineOptions(without=("artisynth", "bodyparts3d", "spl"))}, "no shape of C"),
        (1, {"spine": SpineOptions(without=ALL_BUT_TWO)}, "too few levels are left"),
        (1, {"ingredients": replace(SMALL.ingredients, donors=("nobody",), donor_share=1.0)}, "no donor"),
    ],
)
def test_impossible_wishes_get_one_line(tmp_path: Path, count: int, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        simulate_dataset(tmp_path / "out", count, replace(SMALL, **change))
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something"):
        simulate_dataset(tmp_path, 1, SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert LEVEL_NUMBERS["T13"] == 28


def test_the_sacrum_lies_a_disc_below_the_last_vertebra() -> None:
    """Lumbosacral discs are some 10 mm thick; the middles of L5 and S1 are as far apart as the localizer expects."""
    rng = np.random.default_rng(2)
    options = SpineOptions(posture=PostureOptions(scoliosis_share=0.0))
    discs, pitches, slopes = [], [], []
    for _ in range(40):
        spine = draw_spine((23, 24), options, rng)
        last = torch.tensor(spine.posture.centroids[-1])
        towards = torch.tensor(spine.s1_body()) - last
        line = last + torch.linspace(0, 1, 400, dtype=torch.float64)[:, None] * towards
        outside = []
        for shape, centre, frame in (
            (spine.shapes[-1], spine.posture.centroids[-1], spine.posture.frames()[-1]),
            (spine.sacrum, spine.sacrum_centre, spine.sacrum_frame),
        ):
            local = (line - torch.tensor(centre)) @ torch.tensor(frame.copy())
            outside.append(shape.signed_distance(local.float()).numpy() > 0)
        discs.append((outside[0] & outside[1]).mean() * float(towards.norm()))
        pitches.append(float(towards.norm()))
        # The plate's front edge lies 17.4 mm below and 22.6 mm before its posterior one in the library's sacrum.
        front = spine.sacrum_frame @ np.array([17.4, -22.6, 0.0])
        slopes.append(np.degrees(np.arctan2(front[0], -front[1])))
    print(
        np.mean(discs), np.min(discs), np.max(discs), np.mean(pitches), np.std(pitches), np.mean(slopes), np.std(slopes)
    )
    assert 7 < np.mean(discs) < 14 and min(discs) > 2
    assert np.mean(pitches) == pytest.approx(S1_PITCH_MM, abs=3.0)
    # Vialle 2005, doi:10.2106/JBJS.D.02043: 41 +- 8.4 degrees, standing.
    assert 36 < np.mean(slopes) < 46 and 5 < np.std(slopes) < 9
