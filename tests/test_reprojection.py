"""The reconstruction held against its films: shadows where they belong, and a wrong mark that is caught everywhere."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scripts.films.film import Films, Radiograph
from scripts.films.pair import pair_geometry
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.cropping import CUBE_SIZE, crop_cube, place_cube
from scripts.geometry.frames import Grid
from scripts.geometry.projector import project_pair
from scripts.io.annotations import Annotations, Mark, ViewMarks
from scripts.io.nifti import read_nifti
from scripts.io.tables import read_csv
from scripts.job.options import OutputOptions
from scripts.job.output import write_reconstruction
from scripts.levels import level_name
from scripts.measure.reprojection import cast_shadow, raster_of, reproject
from scripts.measure.status import Use, judge
from scripts.reconstruction.predictor import Predictor
from scripts.spine.assembly import LocatedVertebra, ReconstructedVertebra, patient_lattice
from scripts.spine.session import Session
from scripts.viewer.outlines import vertebra_outline
from tests.conftest import SAMPLE, films_of, project_volume

LEVELS = (14, 15, 16, 17, 18)


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, Grid, dict[int, np.ndarray]]:
    """The sample's labels from T7 to T11, their grid, and a point in each body."""
    labels, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    grid = Grid(tuple(affine[:3, 3]), labels.shape)
    kept = np.where(np.isin(labels, LEVELS), labels, 0).astype(np.uint8)
    points = {}
    for n in LEVELS:
        voxels = np.argwhere(kept == n)
        points[n] = grid.to_world(voxels[voxels[:, 1] < voxels[:, 1].min() + 20].mean(0))
    return kept, grid, points


def film_pair(labels: np.ndarray, grid: Grid, beam: Beam) -> Films:
    """Films of bone in a soft, noisy body."""
    geometry = geometry_of_grid(grid, beam)
    rng = np.random.default_rng(0)
    films = []
    for film in project_pair(torch.from_numpy((labels > 0).astype(np.float32)), grid.affine, geometry):
        body = gaussian_filter(rng.normal(0, 1, film.shape), 15) * 400
        films.append((film.numpy() + body + rng.normal(0, 2, film.shape)).astype(np.float32))
    return films_of(films[0], films[1], geometry)


def part(
    labels: np.ndarray, grid: Grid, number: int, at: np.ndarray, geometry: BiplanarGeometry
) -> ReconstructedVertebra:
    """The true vertebra, put where its centroid would be `at`, and marked there."""
    home = place_cube(at, grid)
    mask = crop_cube((labels == number).astype(np.float32), home)
    pixels = geometry.project(at)
    return ReconstructedVertebra(LocatedVertebra(number, home, (pixels[0][0], pixels[1][0]), 0.0, 1.0), mask)


@pytest.mark.parametrize("beam", list(Beam))
def test_shadows_lie_where_the_geometry_says(beam: Beam, truth: tuple[np.ndarray, Grid, dict[int, np.ndarray]]) -> None:
    labels, grid, points = truth
    geometry = geometry_of_grid(grid, beam)
    whole = part(labels, grid, 16, points[16], geometry)
    surface = whole.mesh.vertices
    for view in (geometry.ap, geometry.lat):
        shadow = cast_shadow(whole, raster_of(view, [whole]))
        pixels = view.project(surface)
        outline = np.concatenate(shadow.outlines)
        assert np.allclose(outline.min(0), pixels.min(0), atol=1.5 / view.pixel_size_mm(points[16])[0])
        assert np.allclose(outline.max(0), pixels.max(0), atol=1.5 / view.pixel_size_mm(points[16])[0])
        # Volume: the sum of thickness over the raster, mm of bone times the area of a ray there.
        window = raster_of(view, [whole]).view
        area = float(np.prod(window.pixel_size_mm(surface.mean(0))[0]))
        assert shadow.thickness.sum() * area == pytest.approx(whole.mask.sum(), rel=0.03)
        # Pixel by pixel: what rays through the mask measure.
        rays = project_volume(torch.from_numpy(whole.mask.astype(np.float32)), whole.vertebra.cube.grid.affine, window)
        (row, column), (rows, columns) = shadow.corner, shadow.thickness.shape
        expected = rays[row : row + rows, column : column + columns].numpy()
        assert np.abs(shadow.thickness - expected).max() < 1
        assert expected.sum() == pytest.approx(rays.sum().item(), rel=1e-3)


@pytest.mark.parametrize("pixel_mm", [1.0, 0.2])
def test_the_page_draws_the_outlines_of_the_report(
    pixel_mm: float, truth: tuple[np.ndarray, Grid, dict[int, np.ndarray]]
) -> None:
    labels, grid, points = truth
    film = Radiograph(np.zeros((1800, 1400), np.float32), (pixel_mm, pixel_mm))
    geometry = pair_geometry(film, film, tuple(points[16]))
    whole = part(labels, grid, 16, points[16], geometry)
    for view in (geometry.ap, geometry.lat):
        drawn = [np.array(line) for line in vertebra_outline(whole, view)]
        reported = cast_shadow(whole, raster_of(view, [whole])).outlines
        assert len(drawn) == len(reported)
        for mine, theirs in zip(drawn, reported, strict=True):
            assert len(mine) < 0.6 * len(theirs)
            sides, from_start = np.diff(mine, axis=0), theirs[:, None] - mine[None, :-1]
            along = np.clip((from_start * sides).sum(2) / (sides**2).sum(1), 0, 1)
            away = np.linalg.norm(from_start - along[..., None] * sides, axis=2).min(1)
            assert away.max() * pixel_mm < 0.26


@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.CONE])
def test_a_vertebra_far_from_its_mark_is_flagged_and_the_others_are_not(
    beam: Beam, truth: tuple[np.ndarray, Grid, dict[int, np.ndarray]]
) -> None:
    labels, grid, points = truth
    films = film_pair(labels, grid, beam)
    parts = [part(labels, grid, n, points[n], films.geometry) for n in LEVELS]
    bodies: list[np.ndarray | None] = [points[n] for n in LEVELS]
    _, good = reproject(films.geometry, films.pixels, parts, bodies)
    assert not any(agreement.complaints for both in good for agreement in both)
    assert max(agreement.mark_mm or 0 for both in good for agreement in both) < 0.1
    assert max(agreement.outside for both in good for agreement in both) == 0
    # 10 mm in front of its mark: only the lateral film shows it.
    bodies[2] = points[16] + [0, 10.0, 0]
    _, found = reproject(films.geometry, films.pixels, parts, bodies)
    assert "10 mm from the mark" in found[2][1].complaints[0] and not found[2][0].complaints
    assert not any(agreement.complaints for i in (0, 1, 3, 4) for agreement in found[i])
    # A film that ends in the middle of the vertebra.
    ap, lat = films.pixels
    middle = round(float(parts[2].vertebra.pixels[0][0]))
    _, cut = reproject(films.geometry, (ap[:middle], lat), parts, bodies)
    assert cut[2][0].outside == pytest.approx(0.5, abs=0.2) and cut[4][0].outside == 1 and cut[2][1].outside == 0


@pytest.mark.parametrize(
    ("confidence", "said", "use"),
    [(0.7499, "just below 0.75", Use.CHECK), (0.74, "0.74", Use.CHECK), (0.4999, "just below 0.50", Use.NOT)],
)
def test_a_confidence_is_not_shown_as_high_enough(confidence: float, said: str, use: Use) -> None:
    part = SimpleNamespace(
        found=True, level=16, contested=0.0, confidence=confidence, shape_confidence=0.1,
        vertebra=SimpleNamespace(residual_mm=0.0, confidence=1.0),
    )  # fmt: skip
    status = judge(cast(ReconstructedVertebra, part), None, None, None, ())
    assert (status.use, status.reasons) == (use, (f"confidence {said}: its shape is uncertain",))


class FollowsTheMark:
    """A network that puts the true vertebra wherever it is marked."""

    weights, device, precision = Path("none.pt"), "cpu", "float32"
    takes_level = False

    def __init__(self, cubes: dict[int, np.ndarray]) -> None:
        self.cubes = list(cubes.values())

    def __call__(self, inputs: Sequence[torch.Tensor], *_: object) -> Iterator[np.ndarray]:
        return iter(self.cubes)


def test_a_wrong_mark_is_flagged_in_every_output(
    truth: tuple[np.ndarray, Grid, dict[int, np.ndarray]], tmp_path: Path
) -> None:
    labels, grid, points = truth
    films = film_pair(labels, grid, Beam.PARALLEL)
    lattice = patient_lattice(films.geometry)
    assert np.allclose(lattice.origin_mm, grid.origin_mm)
    cubes = {n: crop_cube((labels == n).astype(np.float32), place_cube(points[n], lattice)) for n in LEVELS}
    for wrong in (False, True):
        marked = {n: p - [9.0 if wrong and n == 16 else 0.0, 0, 0] for n, p in points.items()}
        pixels = films.geometry.project(np.array(list(marked.values())))
        views = [
            ViewMarks(film.shape, tuple(Mark(n, (p[0], p[1])) for n, p in zip(LEVELS, found, strict=True)))
            for film, found in zip(films.pixels, pixels, strict=True)
        ]
        annotations = Annotations(views[0], views[1], "phantom <b>")
        network = cast(Predictor, FollowsTheMark(cubes))
        result = Session(films, network).reconstruct(annotations)
        assert result.parts[0].probability.shape == (CUBE_SIZE,) * 3
        folder = tmp_path / str(wrong)
        options = OutputOptions(mesh_formats=("stl", "obj", "ply"), decimate=0.5, timings=True)
        write_reconstruction(folder, films, annotations, result, network, options=options)
        report = json.loads((folder / "report.json").read_text())
        flagged = {row["level"]: row["flags"] for row in report["vertebrae"] if row["flags"]}
        page, told = (folder / "report.html").read_text(), report["measurements"]
        if wrong:
            assert list(flagged) == ["T9"] and "out of line" in flagged["T9"][0]
            assert any(w.startswith("T9: ") for w in report["warnings"])
            assert page.count('class="not"') == 1 and "out of line" in page
            assert {row["level"] for row in report["vertebrae"] if row["use"] == "do not use"} == {"T9"}
            assert any("out of line" in reason for reason in report["vertebrae"][2]["reasons"])
            # No angle of the spine rests on it.
            assert told["without"] == ["T9"] and "without T9: do not use" in page
            assert [disc["between"] for disc in told["discs"]] == ["T7-T8", "T10-T11"]
            assert {row["without"] for row in read_csv(folder / "spine.csv")} == {"T9"}
        else:
            assert not flagged and not report["warnings"] and 'class="not"' not in page
            assert {row["use"] for row in report["vertebrae"]} == {"good"} and told["without"] == []
        assert "phantom &lt;b&gt;" in page and "http" not in page and page.count("data:image/jpeg") == 6
        # The peak is the process's, whatever ran in it before.
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        assert 0.1 < report["timings"]["peak_memory_gb"] <= peak_gb + 0.01
        assert set(report["timings"]["steps_s"]) >= {"network", "measure"}
        assert told["discs"][0]["between"] == "T7-T8"
        assert (folder / "meshes" / f"{level_name(16)}.obj").stat().st_size > 10_000
