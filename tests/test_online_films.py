"""Whole films made at each step: films, marks and targets beside slower ways to them, deformation, seeds, training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scripts.anatomy.landmarks import BodyLandmarks, SpineLandmarks
from scripts.data.online.build import build
from scripts.errors import UserError
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.projector import BONE_GAIN, hu_to_attenuation
from scripts.io.tables import read_csv
from scripts.levels import LEVEL_ORDER
from scripts.localization.film_cases import read_film_case
from scripts.localization.films import build_films, take_films
from scripts.localization.known import unknown_boxes
from scripts.localization.levels import NAMES, S1_INDEX
from scripts.localization.loss import LocalizationLoss
from scripts.localization.machines import MachineRange, draw_geometry
from scripts.localization.network import SpineLocalizer
from scripts.localization.online.dataset import FilmBatches
from scripts.localization.online.deformation import BodyDeformation, draw_deformation, source
from scripts.localization.online.field import FieldOptions, narrow_field
from scripts.localization.online.patient import FilmPatient, patient_from_landmarks, read_patient, write_patient
from scripts.localization.online.pool import PatientPool, load_patient, load_patients
from scripts.localization.online.render import draw_films, render_views
from scripts.localization.online.samples import FilmSampleOptions, PlateOptions, make_film_samples
from scripts.localization.online.spine_shift import HEIGHTS_MM, SpineShiftOptions, draw_spine_shift, shift_source
from scripts.localization.online.targets import batch_targets, pack_marks
from scripts.localization.windows import WindowOptions, draw_windows
from tests.bundle_command import bundle, options
from tests.conftest import simulate_case
from tests.film_windows import cut_window, targets_of_view

CPU = torch.device("cpu")
STILL = BodyDeformation(turn_deg=0, size=0, stretch=0, bend_mm=0, posture_mm=0, mirror_prob=0)
UNSHIFTED, SHIFTED = SpineShiftOptions(share=0), SpineShiftOptions(share=1, twist_deg=0)
TWISTED = SpineShiftOptions(share=1, spread_mm=(0, 0))
SHAPE = (192, 96)
FIRST = NAMES.index("T3")


def landmarks(grid: Grid, count: int = 5, complete: bool = True) -> SpineLandmarks:
    """L1 and so on down a crooked line, with corners that are told apart from each other."""
    bodies = []
    for i in range(count):
        centre = np.array([30.0 + 15 * i, 42 + 2 * i, 46 - 3 * i])
        coronal = centre + np.array([[-5, 0, -9], [-4, 0, 8], [5, 0, 9], [6, 0, -10]])
        sagittal = centre + np.array([[-5, -8, 0], [-6, 7, 0], [4, 8, 0], [5, -9, 0]])
        points = [grid.to_world(p) for p in (centre, sagittal, coronal)]
        bodies.append(BodyLandmarks(20 + i, points[0], points[1] if i != 2 else None, points[2]))
    return SpineLandmarks(tuple(bodies), None, complete)


def balls(names: tuple[int, ...] = (0, 1, 2, 3, 4), complete: bool = True) -> FilmPatient:
    """Water with bright balls as vertebrae."""
    grid = Grid((0.0, 0.0, 0.0), (120, 84, 92), 2.0)
    index = np.indices(grid.shape).astype(np.float32)
    hu = np.zeros(grid.shape, np.float32)
    spine = landmarks(grid, complete=complete)
    for i in names:
        centre = grid.to_index(spine.vertebrae[i].centroid_mm)
        hu += 900 * np.exp(-((index - centre[:, None, None, None]) ** 2).sum(0) / (2 * 3.0**2))
    return patient_from_landmarks("balls", torch.from_numpy(hu), grid, spine, "simulated")


def test_a_mirrored_window_is_the_mirror_image_with_all_its_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gas lies in front of the spine in both. Plates, which are drawn in the window, and the noise of photons, which
    rounding changes, are left out."""
    monkeypatch.setattr(torch, "poisson", lambda intensity, generator: intensity)
    images = []
    for share in (0.0, 1.0):
        windows = WindowOptions(SHAPE, mirror_prob=share, aside_px=10.0)
        still = FilmSampleOptions(windows=windows, plates=PlateOptions(prob=0.0))
        images.append(make_film_samples([balls(), balls()], still, 5)["image"])
    assert torch.allclose(images[1], images[0].flip(-1), atol=1e-3)
    assert (images[1] - images[0]).abs().max() > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_undeformed_films_are_those_of_the_projector(seed: int) -> None:
    """Line integrals, marks and where there is film, beside `take_films` and `cut_window`."""
    patient, machines = balls(), MachineRange()
    options = WindowOptions(SHAPE, mirror_prob=0.5, aside_px=10.0, narrow_prob=0.0)
    draws = draw_films(patient, machines, STILL, UNSHIFTED, options, np.random.RandomState(seed))
    total, bone, film = render_views([draws], SHAPE, 2.0, 2.0, CPU)
    ours = (total + (BONE_GAIN - 1) * bone)[0]

    random = np.random.RandomState(seed)
    draw_deformation(STILL, random)
    geometry = draw_geometry(patient.grid, machines, random)
    case = take_films(hu_to_attenuation(patient.hu.float()), patient.grid, landmarks(patient.grid), geometry)
    places = draw_windows(case.centroids, options, random)
    for view, place in enumerate(places):
        points = np.concatenate([case.centroids[view][:, None], case.corners[view]], 1)
        window, valid, moved = cut_window(torch.from_numpy(case.films[view])[None], points, place, SHAPE)
        inside = valid[0] > 0
        np.testing.assert_allclose(draws.views[view].points, moved, atol=0.02)
        both = film[0, view] & inside
        # Away from where rays leave the volume, which the projector's films do not tell.
        inner = -torch.nn.functional.max_pool2d(-both[None].float(), 31, 1, 15)[0] > 0
        assert inner.sum() > 1000
        assert (ours[view][inner] - window[0][inner]).abs().max() < 0.03 * window.max()
        assert (film[0, view] & inside).sum() > 0.9 * inside.sum()
        assert (film[0, view] & ~inside).sum() < 0.1 * inside.sum()


def test_collimated_windows_show_film_beside_the_spine_only() -> None:
    """The same line integrals; film ends beside the outermost centroids, mirrored or not."""
    options = WindowOptions(SHAPE, mirror_prob=0.5, narrow_prob=1.0, beside_px=(12.0, 20.0), part_prob=0.0)
    for seed in range(4):
        draw = draw_films(balls(), MachineRange(), STILL, UNSHIFTED, options, np.random.RandomState(seed))
        openings = tuple(replace(view, columns=(-np.inf, np.inf)) for view in draw.views)
        narrow, wide = (render_views([d], SHAPE, 2.0, 4.0, CPU) for d in (draw, replace(draw, views=openings)))
        assert torch.equal(narrow[0], wide[0]) and torch.equal(narrow[1], wide[1])
        for view, shown, whole in zip(draw.views, narrow[2][0], wide[2][0], strict=True):
            column = view.points[np.abs(view.points[:, 0, 0] - 95.5) <= min(view.half_rows, 95.5), 0, 1]
            first, last = view.columns
            assert 9 < column.min() - first < 26 and 9 < last - column.max() < 26
            inside = (torch.arange(SHAPE[1]) >= first) & (torch.arange(SHAPE[1]) <= last)
            assert torch.equal(shown, whole & inside) and (whole & ~inside).any()


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_marks_follow_the_deformation(mirror: float) -> None:
    """Of a patient with one ball, whatever is done to it, the ball is where its mark says, in both films."""
    strong = BodyDeformation(6.0, 0.1, 0.1, 3.0, 60.0, 12.0, 200.0, mirror)
    options = WindowOptions(SHAPE, aside_px=10.0, part_prob=0.0, mirror_prob=0.5)
    checked = 0
    for seed in range(6):
        patients = [balls((i,)) for i in (0, 3)]
        draws = [draw_films(p, MachineRange(), strong, SHIFTED, options, np.random.RandomState(seed)) for p in patients]
        films = render_views(draws, SHAPE, 2.0, 2.0, CPU)[1]
        for place, draw, pair in zip((0, 3), draws, films, strict=True):
            assert draw.deformation.mirrored == (mirror == 1.0)
            for view in range(2):
                mark = draw.views[view].points[place, 0]
                mass = pair[view].numpy()
                if np.all((mark > 15) & (mark < np.array(SHAPE) - 16)):
                    seen = (np.indices(SHAPE) * mass).sum((1, 2)) / mass.sum()
                    assert np.abs(seen - mark).max() < 1.0
                    checked += 1
    assert checked > 12


def test_corners_of_a_mirrored_patient_keep_their_places() -> None:
    """The first corner is the upper left one in the window, mirrored or not."""
    for mirror in (0.0, 1.0):
        still = BodyDeformation(0, 0, 0, 0, 60.0, 0, 200.0, mirror)
        options = WindowOptions(SHAPE, tilt_deg=0.0, mirror_prob=0.5)
        for seed in range(4):
            machines = MachineRange(turn_deg=0.0, tilt_deg=0.0)
            draw = draw_films(balls(), machines, still, UNSHIFTED, options, np.random.RandomState(seed))
            for view in draw.views:
                corner = view.points[0, 1:] - view.points[0, 0]
                assert (np.sign(corner) == [[-1, -1], [-1, 1], [1, 1], [1, -1]]).all()


def test_where_points_come_from_and_go_to() -> None:
    drawn = draw_deformation(BodyDeformation(), np.random.RandomState(3))
    points = np.random.RandomState(0).uniform(-150, 150, (50, 3))
    points[7] = np.nan
    there = torch.from_numpy(drawn.target(points)).float()
    back = source(there[None], drawn.matrix[None], drawn.displacement[None])[0].numpy()
    assert np.isnan(back[7]).all()
    np.testing.assert_allclose(np.delete(back, 7, 0), np.delete(points, 7, 0), atol=0.05)


def test_only_what_is_near_the_spine_is_shifted() -> None:
    random = np.random.RandomState(1)
    centroids = np.stack([np.arange(-200.0, 201, 25), np.linspace(-10, 30, 17), np.linspace(20, -15, 17)], 1)
    farthest, spreads = 0.0, []
    for _ in range(40):
        drawn = draw_spine_shift(SHIFTED, centroids, random)
        moved = drawn.target(centroids)
        shift = moved - centroids
        spreads.append(shift)
        farthest = max(farthest, float(np.abs(shift).max()))
        # Vertebrae keep their heights, and what belongs to them moves alike.
        assert (shift[:, 0] == 0).all()
        for part in ([0, 0, 12], [0, -15, 0], [0, 45, 5]):
            np.testing.assert_allclose(drawn.target(centroids + part) - part, moved, atol=1e-3)
        # Skin stays, and nothing folds: what lies beside the spine keeps its order.
        skin = centroids + [0, 0, 150]
        np.testing.assert_allclose(drawn.target(skin), skin, atol=0.5)
        across = np.arange(-150.0, 151, 2)[:, None] * [0, 0, 1] + centroids[8]
        assert (np.diff(drawn.target(across)[:, 2]) > 0).all()
        back = shift_source(torch.from_numpy(moved[None]).float(), drawn.table[None], drawn.reach[None])
        np.testing.assert_allclose(back[0], centroids, atol=0.01)
    assert 10 < farthest < 32
    np.testing.assert_allclose(np.std(spreads, (0, 1))[1:], SHIFTED.spread_mm, rtol=0.25)


def test_vertebrae_are_turned_about_their_bodies() -> None:
    random = np.random.RandomState(2)
    centroids = np.stack([np.arange(-200.0, 201, 25), np.linspace(-10, 30, 17), np.linspace(20, -15, 17)], 1)
    away = np.array([[0, 15, 12], [0, 40, 0], [0, 35, -8]])
    turns = []
    for _ in range(60):
        drawn = draw_spine_shift(TWISTED, centroids, random)
        inner = centroids[1:-1]  # the middle line is known at `HEIGHTS_MM`; between two of them it bends at the ends
        np.testing.assert_allclose(drawn.target(inner), inner, atol=1e-3)
        turn = np.interp(inner[:, 0], HEIGHTS_MM, drawn.table[:, 4])
        # Points of a vertebra turn as a rigid body.
        for centroid, angle in zip(inner, turn, strict=True):
            rotation = Rotation.from_rotvec([-angle, 0, 0])
            np.testing.assert_allclose(drawn.target(centroid + away), centroid + rotation.apply(away), atol=1e-3)
        # Nothing folds: every small square of a section comes from one of the same orientation.
        axes = np.meshgrid([centroids[8, 0]], np.arange(-120, 160, 4.0), np.arange(-150, 151, 4.0), indexing="ij")
        section = torch.from_numpy(np.stack(axes, -1)[None]).float()
        source_of = shift_source(section, drawn.table[None], drawn.reach[None])[0, 0, :, :, 1:].numpy()
        down, across = np.diff(source_of, axis=0)[:, :-1], np.diff(source_of, axis=1)[:-1]
        assert (down[..., 0] * across[..., 1] - down[..., 1] * across[..., 0]).min() > 2
        turns.append(turn)
    np.testing.assert_allclose(np.degrees(np.std(turns)), TWISTED.twist_deg, rtol=0.25)


def test_real_patients_are_copied_with_contrast_agent(tmp_path: Path) -> None:
    chest = replace(balls(), levels=np.arange(FIRST + 3, FIRST + 8), origin="truth")
    write_patient(tmp_path / "a.npz", chest)
    write_patient(tmp_path / "b.npz", replace(chest, name="b", levels=chest.levels, origin="simulated"))
    plain, copy, other = load_patients(str(tmp_path), contrast_copies=1)
    assert (copy.name, other.name) == ("balls~contrast0", "b")
    np.testing.assert_array_equal(copy.points, plain.points)
    changed = copy.hu != plain.hu
    assert changed.float().mean() > 0.01 and copy.hu[changed].min() > 100 and plain.hu[changed].max() <= 130


@pytest.mark.parametrize("complete", [True, False])
def test_targets_of_a_batch_are_those_of_each_view(complete: bool) -> None:
    """For the same marks and fields as `targets_of_view`."""
    random = np.random.RandomState(5)
    counts, points, levels, valids = (1, 3, 8, 14), [], [], []
    for count in counts:
        rows = np.sort(random.uniform(-10, 200, count))
        views = []
        for _ in range(2):
            centre = np.stack([rows + random.uniform(-1, 1, count), random.uniform(5, 90, count)], 1)
            corners = centre[:, None] + random.uniform(-12, 12, (count, 4, 2))
            corners[random.rand(count) < 0.2] = np.nan
            views.append(np.concatenate([centre[:, None], corners], 1).astype(np.float32))
        valid = torch.ones(2, *SHAPE)
        valid[0, 150:], valid[1, :, :20] = 0, 0
        points.append((views[0], views[1]))
        levels.append(np.arange(FIRST, FIRST + count))
        valids.append(valid)
    found = batch_targets(*pack_marks(points, levels, [complete] * len(counts)), torch.stack(valids) > 0)
    for i, (pair, number, valid) in enumerate(zip(points, levels, valids, strict=True)):
        for view in range(2):
            wanted = targets_of_view(pair[view], number, complete, valid[view])
            got = {name: values[i, view] for name, values in found.items()}
            seen = got["cell"][:, 0] >= 0
            assert all((got[name][~seen] == -1).all() for name in ("cell", "which"))
            got |= {name: got[name][seen] for name in ("cell", "where", "which")}
            for name, values in wanted.items():
                assert got[name].shape == values.shape
                assert torch.allclose(got[name].double(), values.double(), atol=1e-4, equal_nan=True), name


def test_what_is_no_vertebra_is_known_beside_an_unlabelled_spine() -> None:
    """Above C1, below S1 and far beside the spine there is none; above and below what is labelled there may be one."""
    rows = np.arange(5) * 10.0 + 60
    cells = np.stack([rows, np.full(5, 40.0)], 1)

    def judged(first: str, row: float, column: float) -> bool:
        levels = np.arange(5) + NAMES.index(first)
        return not any(b[0] <= row <= b[1] and b[2] <= column <= b[3] for b in unknown_boxes(cells, levels, False))

    assert judged("L1", 60, 40) and judged("T8", 105, 40)
    assert not judged("T8", 10, 40) and not judged("T8", 110, 60) and not judged("L1", 111, 40)
    assert judged("T8", 10, 75) and judged("T8", 150, 5)
    assert judged("L1", 130, 40) and not judged("T8", 130, 40)
    # L3, L4, L5, L6 and S1: all that is in the film.
    assert judged("L3", 130, 40) and judged("L3", 110, 40)
    assert judged("C1", 10, 40) and judged("C2", 30, 40) and not judged("C2", 45, 40)
    assert not np.isfinite(unknown_boxes(cells, np.arange(5), True)).any()


def test_a_lone_vertebra_is_taken_for_one_of_a_lumbar_spine() -> None:
    """Its neighbours may be where they are in a spine of 32 mm from one to the next."""
    lone, other = np.array([[40.0, 20.0]]), np.array([[40.0, 20.0], [48.0, 20.0]])
    levels = np.array([NAMES.index("L2"), NAMES.index("L3")])
    assert np.array_equal(unknown_boxes(lone, levels[:1], False)[0], unknown_boxes(other, levels, False)[0])


@pytest.mark.parametrize(("levels", "known"), [((23, 24), True), ((22, 23), True), ((21, 22), False)])
def test_s1_of_a_manifest_reaches_the_localizer(tmp_path: Path, levels: tuple[int, int], known: bool) -> None:
    """At its place below the last vertebra; not where a vertebra without a label lies between."""
    case = simulate_case(tmp_path, "p", levels=levels)
    s1 = [3.0, -21.0, -41.0]
    row = {"subject": "p", "ct": case.ct.name, "mask": case.mask.name, "unlabelled_mm": {"S1": s1}}
    (tmp_path / "cases.json").write_text(json.dumps([row]))
    build(tmp_path / "cases", str(tmp_path / "cases.json"))
    patient = load_patient(tmp_path / "cases" / "p.npz")
    wanted = [*(LEVEL_ORDER.index(n) for n in levels), *([S1_INDEX] if known else [])]
    assert patient.levels.tolist() == wanted
    build_films(str(tmp_path / "cases.json"), str(tmp_path / "films"), pairs=1)
    films = read_film_case(tmp_path / "films" / "p.npz", 0)
    place = films.geometry.back_project(films.centroids[0][-1], films.centroids[1][-1])[0]
    assert films.levels[-1] == S1_INDEX and np.linalg.norm(place - s1) < 0.5
    if known:
        away = np.array(s1) - case.centroids_mm[levels[-1]]
        assert patient.points[-1, 0] - patient.points[-2, 0] == pytest.approx(IPL_AXES @ away, abs=1.5)
        assert np.isnan(patient.points[-1, 1:]).all()


def test_a_case_that_cannot_be_used_costs_no_other_its_films(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = simulate_case(tmp_path, "good", levels=(21, 22))
    (tmp_path / "bad_ct.nii.gz").write_bytes(case.ct.read_bytes()[:1000])
    rows = [
        {"subject": n, "ct": ct, "mask": case.mask.name} for n, ct in (("bad", "bad_ct.nii.gz"), ("good", case.ct.name))
    ]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    build_films(str(tmp_path / "cases.json"), str(tmp_path / "films"), pairs=1)
    assert [path.name for path in (tmp_path / "films").iterdir()] == ["good.npz"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert line.startswith("bad 0: left out: ") and "bad_ct.nii.gz" in line


def test_narrow_fields_keep_marks_where_they_are() -> None:
    """Of a CT cut on all four sides, each mark still lies on its ball, and the spine is not cut."""
    patient = balls()
    narrow = narrow_field(
        patient, FieldOptions(1.0, (12.0, 13.0), (15.0, 16.0), (20.0, 21.0)), np.random.RandomState(2)
    )
    assert narrow.hu.shape[0] == patient.hu.shape[0]
    assert all(n < o for n, o in zip(narrow.hu.shape[1:], patient.hu.shape[1:], strict=True))
    index = np.rint(narrow.points[:, 0] / 2.0 + (np.array(narrow.hu.shape) - 1) / 2).astype(int)
    assert (narrow.hu.numpy()[tuple(index.T)] > 800).all()
    assert narrow_field(patient, FieldOptions(0.0), np.random.RandomState(2)).hu.shape == patient.hu.shape


def test_batches_come_from_their_seed_and_train(tmp_path: Path) -> None:
    pool = PatientPool([balls(), balls(complete=False)])
    options = FilmSampleOptions(windows=WindowOptions(SHAPE, aside_px=10.0))
    sets = [FilmBatches(pool, options, batch_size=3, seed=seed) for seed in (1, 1, 2)]
    batches = [data[4] for data in sets]
    assert all(torch.equal(batches[0][k].nan_to_num(), batches[1][k].nan_to_num()) for k in batches[0])
    assert not torch.equal(batches[0]["image"], batches[2]["image"])
    image = batches[0]["image"]
    assert image.shape == (3, 2, 4, *SHAPE) and image.isfinite().all() and image.abs().max() <= 1
    off = image[:, :, 3] == 0
    assert off.any() and (image[:, :, 0][off] == 0).all() and (image[:, 0, 2] <= 0).all() and image[:, 1, 2].max() == 1
    network = SpineLocalizer((4, 4, 4, 4, 4), 4)
    weights = dict.fromkeys(("heat", "offset", "corners", "neighbours", "level", "region", "end"), 1.0)
    loss = LocalizationLoss(weights)(network(image), batches[0])
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert any(p.grad.any() for p in network.parameters())


def test_the_network_is_trained_on_stored_patients(tmp_path: Path) -> None:
    """The command of docs/localization.md with a small network."""
    (tmp_path / "patients").mkdir()
    for name in ("a", "b"):
        write_patient(tmp_path / "patients" / f"{name}.npz", balls(complete=name == "a"))
    small = {
        "patients": [str(tmp_path / "patients")], "output_dir": tmp_path / "out", "num_workers": 1, "batch_size": 1,
        "batches": 2, "max_epochs": 2, "window": [160, 96], "deterministic": True,
        "network_def#channels": [4, 4, 4, 4, 4], "network_def#head_channels": 4,
    }  # fmt: skip
    bundle("run", "training", "--config_file", "configs/train_localization.json", *options(small))
    log = read_csv(tmp_path / "out" / "training.csv")
    assert [int(row["epoch"]) for row in log] == [1, 1, 2, 2]
    assert all(np.isfinite(float(row["loss"])) for row in log)
    assert (tmp_path / "out" / "localization.pt").is_file()


def test_patients_are_stored_and_left_out(tmp_path: Path) -> None:
    patient = balls()
    for name in ("a", "verse083", "verse083_body1", "LIDC-IDRI-0001~v01"):
        write_patient(tmp_path / f"{name}.npz", patient, compress=name == "a")
    found = load_patients(str(tmp_path))
    assert len(found) == 1 and torch.equal(found[0].hu, patient.hu) and found[0].spacing_mm == 2.0
    np.testing.assert_array_equal(found[0].points, patient.points)
    assert found[0].complete and [NAMES[i] for i in found[0].levels] == ["L1", "L2", "L3", "L4", "L5"]
    with pytest.raises(UserError, match="no file of a patient"):
        load_patients(str(tmp_path / "none"))
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="no file of"):
        read_patient(tmp_path / "bad.npz")
    with pytest.raises(UserError, match="no patient in memory"):
        PatientPool().pick_patient(np.random.default_rng(0))
