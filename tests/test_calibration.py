"""Scale and common frame from the marks, against spines whose truth is known."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.__main__ import main
from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.film import Films, Optics, Radiograph
from scripts.films.pair import pair_geometry
from scripts.films.scale_check import check_scale
from scripts.films.scale_estimate import estimate_scale
from scripts.geometry.biplanar import Beam, BiplanarGeometry
from scripts.geometry.frames import IPL_AXES
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations
from scripts.io.nifti import read_nifti
from scripts.levels import LEVEL_NUMBERS, level_name
from scripts.simulation.posture import PostureOptions, draw_posture
from tests.conftest import DATA, SAMPLE, without_films

FILMS = DATA / "films"


def film(spacing: float | None, optics: Optics | None = None, shape: tuple[int, int] = (900, 500)) -> Radiograph:
    return Radiograph(np.zeros(shape, np.float32), None if spacing is None else (spacing, spacing), optics or Optics())


def marked(levels: tuple[int, ...], points: np.ndarray, geometry: BiplanarGeometry, noise: np.ndarray) -> Annotations:
    pixels = [p + n for p, n in zip(geometry.project(points), noise, strict=True)]
    views = [
        ViewMarks(v.shape, tuple(Mark(n, (float(r), float(c))) for n, (r, c) in zip(levels, marks, strict=True)))
        for v, marks in zip((geometry.ap, geometry.lat), pixels, strict=True)
    ]
    return Annotations(views[0], views[1])


def spine(levels: tuple[int, ...], seed: int) -> np.ndarray:
    """Centroids (N, 3) in world mm, their middle at the origin."""
    posture = draw_posture(levels, PostureOptions(), np.random.default_rng(seed))
    return (posture.centroids - posture.centroids.mean(0)) @ IPL_AXES


@pytest.mark.parametrize("levels", [(19, 20, 21, 22, 23, 24), tuple(range(8, 20)), (3, 4, 5, 6, 7)])
def test_scale_of_simulated_people_is_within_its_own_uncertainty(levels: tuple[int, ...]) -> None:
    """100 people of all sizes, films of unequal scale, marks 1 mm off: 95 % within two standard deviations."""
    true = (0.35, 0.42)
    geometry = pair_geometry(film(true[0], shape=(1500, 900)), film(true[1], shape=(1500, 900)))
    errors, claimed = [], []
    for seed in range(100):
        noise = np.random.default_rng(1000 + seed).normal(0, 1, (2, len(levels), 2)) / np.array(true)[:, None, None]
        estimate = estimate_scale(marked(levels, spine(levels, seed), geometry, noise))
        errors.append([np.log(estimate.ap_mm / true[0]), np.log(estimate.lat_mm / true[1])])
        claimed.append(estimate.sd)
    z = np.abs(errors) / np.array(claimed)[:, None]
    assert (z < 2).mean() > 0.9 and abs(np.mean(errors)) < 0.03
    assert 0.063 < np.mean(claimed) < 0.1


def test_one_known_scale_gives_the_other_without_statistics() -> None:
    levels = tuple(range(14, 25))
    geometry = pair_geometry(film(0.3, shape=(2000, 900)), film(0.5, shape=(1500, 900)))
    marks = marked(levels, 1.2 * spine(levels, 3), geometry, np.zeros((2, len(levels), 2)))
    estimate = estimate_scale(marks, ap_mm=0.3)
    assert (estimate.ap_mm, estimate.lat_mm) == (0.3, pytest.approx(0.5)) and estimate.sd < 0.02
    assert estimate_scale(marks, lat_mm=0.5).ap_mm == pytest.approx(0.3)


def test_a_spine_without_t12_is_not_taken_for_a_larger_one() -> None:
    """L1 lies right below T11; where T12 was only not marked, its distances still count."""
    levels = (15, 16, 17, 18, 19, 20, 21, 22)
    points = spine(levels, 3)
    geometry = pair_geometry(film(0.4), film(0.4))
    scales = []
    for shift in (np.zeros(3), points[5] - points[4]):
        some = np.delete(points - np.where(np.arange(8)[:, None] > 4, shift, 0), 4, axis=0)
        named = tuple(n for n in levels if n != 19)
        scales.append(estimate_scale(marked(named, some, geometry, np.zeros((2, 7, 2)))).ap_mm)
    usual = estimate_scale(marked(levels, points, geometry, np.zeros((2, 8, 2)))).ap_mm
    assert scales == pytest.approx([usual, usual], rel=0.03)


@pytest.mark.parametrize("levels", [(18, 19, 28, 20, 21), (17, 18, 20, 21), (23, 24, 25)])
def test_levels_that_few_people_have_lie_as_far_apart_as_they_are_drawn(levels: tuple[int, ...]) -> None:
    """T13, no T12, L6: one table says how far apart simulated vertebrae lie and what their films are scaled by."""
    steps = [pair_statistics()[measured_pair(a, b)]["distance_mm"] for a, b in itertools.pairwise(levels)]
    points = np.zeros((len(levels), 3))
    points[1:, 2] = -np.cumsum(steps)
    geometry = pair_geometry(film(0.4), film(0.5))
    estimate = estimate_scale(marked(levels, points, geometry, np.zeros((2, len(levels), 2))))
    assert (estimate.ap_mm, estimate.lat_mm) == (pytest.approx(0.4), pytest.approx(0.5))


@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.CONE])
def test_two_exposures_are_brought_into_one_frame(beam: Beam) -> None:
    """The tube was moved between the shots: positions relative to each other come back exactly."""
    optics = Optics(beam, 1800.0, 1500.0) if beam is Beam.CONE else Optics()
    ap, lat = film(0.5, optics), film(0.4, replace(optics, reversed=True))
    levels = tuple(range(17, 24))
    truth = spine(levels, 5)
    real = pair_geometry(ap, lat, (0.0, 0.0, 37.0))
    marks = marked(levels, truth, real, np.zeros((2, len(levels), 2)))
    pair = Films(ap, lat, pair_geometry(ap, lat), registered=False)
    found = calibrate(pair, marks)
    points, residual = found.geometry.back_project(
        np.array([m.centroid for m in marks.ap.marks]), np.array([m.centroid for m in marks.lat.marks])
    )
    assert residual.max() < 0.01 and found.registered
    assert np.allclose(points - points.mean(0), truth - truth.mean(0), atol=0.05)
    assert any("share no height" in line and "nothing checks that equal names" in line for line in found.warnings)


@pytest.mark.parametrize("placed", ["ap", "lat"])
@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.CONE])
def test_a_film_that_its_file_places_stays_and_the_other_is_moved(beam: Beam, placed: str) -> None:
    """A NIfTI film in the scanner's frame with one that says nothing: the marks meet in that frame."""
    optics = Optics(beam, 1800.0, 1500.0) if beam is Beam.CONE else Optics()
    films = {"ap": film(0.5, optics), "lat": film(0.4, optics)}
    there = replace(getattr(pair_geometry(film(0.5), film(0.4)), placed), isocentre_mm=(12.0, -30.0, 165.0))
    films[placed] = replace(films[placed], placed=there)
    levels = tuple(range(17, 24))
    truth = spine(levels, 5) + there.isocentre_mm
    real = pair_geometry(films["ap"], films["lat"], (12.0, -30.0, 140.0))
    marks = marked(levels, truth, real, np.zeros((2, len(levels), 2)))
    found = calibrate(Films(films["ap"], films["lat"], pair_geometry(films["ap"], films["lat"]), False), marks)
    points, residual = found.geometry.back_project(
        np.array([m.centroid for m in marks.ap.marks]), np.array([m.centroid for m in marks.lat.marks])
    )
    assert getattr(found.geometry, placed) == there and residual.max() < 0.01
    # What a placed film shows lies where it says: its own two axes of the world.
    shown = [0, 2] if placed == "ap" else [1, 2]
    assert np.allclose(points[:, shown], truth[:, shown], atol=0.05)
    assert np.allclose(points - points.mean(0), truth - truth.mean(0), atol=0.05)
    moved = "lateral" if placed == "ap" else "frontal"
    assert any(f"the {moved} one was moved until the marks met" in line for line in found.warnings)


def test_uncalibrated_pair_has_the_size_of_a_person() -> None:
    levels = tuple(range(17, 25))
    truth = spine(levels, 8)
    real = pair_geometry(film(0.37, shape=(1200, 600)), film(0.31, shape=(1200, 600)))
    marks = marked(levels, truth, real, np.zeros((2, len(levels), 2)))
    ap, lat = film(None, shape=(1200, 600)), film(None, shape=(1200, 600))
    found = calibrate(Films(ap, lat, pair_geometry(ap, lat), False), marks)
    pixels = [np.array([m.centroid for m in view.marks]) for view in (marks.ap, marks.lat)]
    points, residual = found.geometry.back_project(*pixels)
    size = np.linalg.norm(points[-1] - points[0]) / np.linalg.norm(truth[-1] - truth[0])
    assert residual.max() < 0.5 and abs(np.log(size)) < 3 * found.scale_sd[0]
    assert sum("UNCALIBRATED" in line for line in found.warnings) == 2
    # Shape does not depend on the scale.
    assert np.allclose((points - points.mean(0)) / size, truth - truth.mean(0), atol=0.5)


def test_scale_of_the_sample_patient_is_found_without_being_told() -> None:
    """A real person: true scale 1 mm a pixel in both films."""
    estimate = estimate_scale(read_annotations(SAMPLE / "annotations.json"))
    assert abs(np.log(estimate.ap_mm)) < 2 * estimate.sd and abs(np.log(estimate.lat_mm)) < 2 * estimate.sd
    assert estimate.lat_mm / estimate.ap_mm == pytest.approx(1, abs=0.01)


def test_marks_that_make_no_scale_are_refused() -> None:
    geometry = pair_geometry(film(1.0), film(1.0))
    one = marked((20,), np.zeros((1, 3)), geometry, np.zeros((2, 1, 2)))
    with pytest.raises(UserError, match="fewer than two levels"):
        estimate_scale(one)
    upside_down = marked((20, 21), np.array([[0, 0, -20.0], [0, 0, 20.0]]), geometry, np.zeros((2, 2, 2)))
    with pytest.raises(UserError, match="foot to head"):
        estimate_scale(upside_down)
    other = replace(one, ap=ViewMarks((5, 5), one.ap.marks))
    with pytest.raises(UserError, match="marks were set on a film"):
        calibrate(Films(film(1.0), film(1.0), geometry, False), other)


def test_the_real_neck_as_two_jpegs(tmp_path: Path) -> None:
    """No scale, no common height: a neck of a neck's size comes out, and the report says how sure its size is."""
    arguments = [
        "reconstruct", f"--ap={FILMS}/cervical_ap.jpg", f"--lat={FILMS}/cervical_lat.jpg",
        f"--annotations={FILMS}/annotations.json", f"--output={tmp_path}/neck",
    ]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads((tmp_path / "neck" / "report.json").read_text())
    assert [row["level"] for row in report["vertebrae"]] == ["C3", "C4", "C5", "C6"]
    heights = [row["centroid_mm"][2] for row in report["vertebrae"]]
    assert np.allclose(-np.diff(heights), 17.0, atol=3.0)
    assert max(row["residual_mm"] for row in report["vertebrae"]) < 3
    sd = report["films"]["ap"]["scale_sd_percent"]
    assert sd > 6.3 and report["films"]["ap"]["scale"] == "estimated, films not calibrated"
    assert report["lengths"] == f"estimated, films not calibrated (sd {sd:.0f} %)"
    assert sum("UNCALIBRATED" in line for line in report["warnings"]) == 2
    # They say now which films they are of.
    written = read_annotations(tmp_path / "neck" / "annotations.json")
    assert written.ap.film != written.lat.film and written.ap.film and written.lat.film
    assert without_films(written) == read_annotations(FILMS / "annotations.json")
    assert read_nifti(tmp_path / "neck" / "spine.nii.gz")[0].any()
    assert main([*arguments[:-1], "--levels=C4", "--spacing=0.26", f"--output={tmp_path}/given"]) == 0
    given = json.loads((tmp_path / "given" / "report.json").read_text())
    assert given["lengths"] == "calibrated"
    assert given["films"]["lat"] == {
        "beam": "parallel", "pixel_mm": [0.26, 0.26], "scale_sd_percent": 0.0, "scale": "calibrated",
        "scale_from": "scale given by the user",
    }  # fmt: skip


def sample_with(spacing: tuple[float, float] = (1.0, 1.0), renamed: dict[str, str] | None = None) -> list[str]:
    """What is asked of the sample's marks where its films are said to have some pixel sizes, and levels other names."""
    marks = read_annotations(SAMPLE / "annotations.json")
    names = {LEVEL_NUMBERS[old]: LEVEL_NUMBERS[new] for old, new in (renamed or {}).items()}
    ap, lat = (
        replace(view, marks=tuple(replace(mark, level=names.get(mark.level, mark.level)) for mark in view.marks))
        for view in (marks.ap, marks.lat)
    )
    films = [film(size, shape=view.shape) for size, view in zip(spacing, (ap, lat), strict=True)]
    marks = replace(marks, ap=ap, lat=lat)
    pair = calibrate(Films(films[0], films[1], pair_geometry(*films), False), marks)
    return check_scale(pair, marks)


def test_a_scale_that_makes_a_spine_nobody_has_is_questioned() -> None:
    assert sample_with() == []
    assert sample_with((1.2, 1.2)) == []  # people differ
    (large,) = sample_with((1.5, 1.5))
    assert "with this scale the spine is 40 % larger than that of an average adult" in large
    (small,) = sample_with((0.6, 0.6))
    assert "44 % smaller" in small and "a child?" in small and "a child?" not in large


def test_two_scales_that_contradict_each_other_are_questioned() -> None:
    (line,) = sample_with((1.0, 1.15))
    assert "by their pixel sizes the spine is 13 % shorter in AP than in LAT" in line
    assert sample_with((1.0, 1.07)) == []  # as much as views that lean


def test_a_gap_and_a_name_too_many_are_questioned() -> None:
    (gap,) = sample_with(renamed={"L1": "L4"})
    assert gap.startswith("T12 and L4 lie 30 mm apart; the rest of this spine suggests 130 mm")
    marks = read_annotations(SAMPLE / "annotations.json")
    names = [level_name(n) for n in marks.paired_levels()]
    later = dict(zip(names[8:], [*names[9:], "L2"], strict=True))
    (line,) = sample_with(renamed=later)
    assert line.startswith("T8 and T10 lie ") and line.endswith("is a level skipped, or a name wrong?")


def test_sizes_that_are_all_estimated_are_not_questioned() -> None:
    """Nothing is known that they could contradict."""
    marks = read_annotations(SAMPLE / "annotations.json")
    ap, lat = film(None, shape=marks.ap.shape), film(None, shape=marks.lat.shape)
    assert check_scale(calibrate(Films(ap, lat, pair_geometry(ap, lat), False), marks), marks) == []


def test_marks_of_simulated_people_raise_no_question() -> None:
    """300 spines of all sizes and postures, marks 1.5 mm off along each axis."""
    true = (0.35, 0.42)
    films = [film(size, shape=(1800, 900)) for size in true]
    geometry = pair_geometry(*films)
    pair, asked = Films(films[0], films[1], geometry, True), 0
    for seed in range(100):
        for levels in ((19, 20, 21, 22, 23, 24), tuple(range(8, 20)), (3, 4, 5, 6, 7)):
            noise = np.random.default_rng(seed).normal(0, 1.5, (2, len(levels), 2)) / np.array(true)[:, None, None]
            asked += bool(check_scale(pair, marked(levels, spine(levels, seed), geometry, noise)))
    assert asked <= 3
