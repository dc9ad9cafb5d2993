"""From films to annotations: windows, targets, loss, network, detections, pairs, files, measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.benchmarks.localization import lowest_anchor, middle_anchor, named_wrongly
from scripts.data.normalisation import normalise_film
from scripts.errors import UserError
from scripts.films.film import NO_FILM
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films
from scripts.geometry.biplanar import geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from scripts.levels import LEVEL_ORDER
from scripts.localization.anchors import Anchor
from scripts.localization.annotate import annotate_films, fill_gaps
from scripts.localization.detection import DetectionOptions, Detections, find_detections
from scripts.localization.evaluate import calibration, summarise, summary_table
from scripts.localization.film_cases import (
    FilmCase,
    count_pairs,
    film_pairs,
    film_subject,
    read_film_case,
    write_film_cases,
)
from scripts.localization.film_parts import PartOptions, cut_part, cut_parts
from scripts.localization.found import Localization, Vertebra, to_annotations, why_uncertain
from scripts.localization.levels import COUNTED, NAMES
from scripts.localization.localizer import to_network_pixels
from scripts.localization.loss import LocalizationLoss, focal, laplace
from scripts.localization.metrics import compare, whole_bodies
from scripts.localization.network import CHANNELS, HEADS, INPUTS, UNIT_PX, SpineLocalizer, split_heads
from scripts.localization.network_input import local_contrast, view_input
from scripts.localization.online.targets import batch_targets, pack_marks
from scripts.localization.path import Reading
from scripts.localization.picture import draw_annotations
from scripts.localization.windows import Window, WindowOptions, draw_windows
from tests.conftest import ROOT, films_of
from tests.film_windows import cut_window

GRID = Grid((0.0, 0.0, 0.0), (160, 80, 96), 2.0)
GEOMETRY = geometry_of_grid(GRID)
FIRST = NAMES.index("L1")
SHAPE = (160, 96)


def film_case(count: int = 5, complete: bool = True) -> FilmCase:
    """Bright boxes one below the other; the i-th is L1 + i. In the LAT film they stand askew."""
    films, centroids, corners = [], [], []
    for columns, lean in ((96, 0.0), (80, 0.125)):
        rows = 24 + 24.0 * np.arange(count)
        centre = np.stack([rows, columns / 2 + lean * (rows - 80)], 1)
        half = np.array([[-8, -10], [-8, 10], [8, 10], [8, -10]], float)
        film = np.full((160, columns), 1.0, np.float32)
        for row, column in np.rint(centre).astype(int):
            film[row - 8 : row + 9, column - 10 : column + 11] = 3.0
        films.append(film)
        centroids.append(centre.astype(np.float32))
        corners.append((centre[:, None] + half).astype(np.float32))
    return FilmCase(
        (films[0], films[1]), np.arange(FIRST, FIRST + count), (centroids[0], centroids[1]), (corners[0], corners[1]),
        GEOMETRY, complete,
    )  # fmt: skip


@pytest.fixture()
def films(tmp_path: Path) -> Path:
    for i in range(3):
        write_film_cases(tmp_path / f"p{i}.npz", [film_case(), film_case(4)])
    return tmp_path


def make_batch(case: FilmCase, seed: int = 0, **options: object) -> dict[str, torch.Tensor]:
    """A batch of one window of each film, with targets and without effects."""
    drawn = WindowOptions(SHAPE, **options)  # type: ignore[arg-type]
    places = draw_windows(case.centroids, drawn, np.random.RandomState(seed))
    images, valids, marks = [], [], []
    for view, (film, place) in enumerate(zip(case.films, places, strict=True)):
        points = np.concatenate([case.centroids[view][:, None], case.corners[view]], 1)
        window, valid, moved = cut_window(torch.from_numpy(film)[None], points, place, SHAPE)
        images.append(view_input(normalise_film(window, valid > 0), valid, view == 0))
        valids.append(valid[0] > 0)
        marks.append(moved)
    packed = pack_marks([(marks[0], marks[1])], [case.levels], [case.complete])
    return {"image": torch.stack(images)[None], **batch_targets(*packed, torch.stack(valids)[None])}


def make_item(case: FilmCase, seed: int = 0, **options: object) -> dict[str, torch.Tensor]:
    """The only item of `make_batch`."""
    return {name: values[0] for name, values in make_batch(case, seed, **options).items()}


def marks_in(item: dict[str, torch.Tensor], view: int) -> dict[str, torch.Tensor]:
    """What an item says of the marks in a view."""
    seen = item["cell"][view][:, 0] >= 0
    return {name: item[name][view][seen] for name in ("cell", "where", "which")}


def test_film_files_and_lists(films: Path) -> None:
    case = read_film_case(films / "p1.npz", 1)
    assert count_pairs(films / "p1.npz") == 2 and len(case.levels) == 4 and case.complete
    assert np.allclose(case.centroids[1], film_case(4).centroids[1])
    assert case.geometry == GEOMETRY and np.allclose(case.films[0], film_case(4).films[0])
    assert film_pairs(str(films)) == [(films / f"p{i}.npz", pair) for i in range(3) for pair in range(2)]
    with pytest.raises(UserError, match="no stored films"):
        film_pairs(str(films / "none"))
    (films / "bad.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="no file of stored films"):
        read_film_case(films / "bad.npz", 0)


def test_parts_of_films_show_the_same_vertebrae_elsewhere(films: Path, tmp_path: Path) -> None:
    whole = film_case()
    for seed in range(5):
        part = cut_part(whole, PartOptions(vertebrae=(3, 4), beside_mm=(10.0, 30.0)), np.random.default_rng(seed))
        assert part is not None
        point = np.array([[3.0, -4.0, 5.0]])
        for view, (film, points) in enumerate(zip(part.films, part.centroids, strict=True)):
            inside = ((points >= 0) & (points < film.shape)).all(1)
            assert 3 <= inside.sum() <= 5 and film.shape[1] < whole.films[view].shape[1]
            for (row, column), corner in zip(
                np.rint(points[inside]).astype(int), part.corners[view][inside], strict=True
            ):
                assert film[row, column] == 3.0 and film[min(row + 12, len(film) - 1), column] == 1.0
                assert np.abs(corner.mean(0) - (row, column)).max() < 0.6
            start = whole.centroids[view][0] - points[0]
            projected = part.geometry.project(point)[view] + start
            assert np.allclose(projected, whole.geometry.project(point)[view], atol=1e-4)
    # C1 to C5: three are left without C1 and C2.
    neck = replace(whole, levels=np.arange(5))
    assert cut_part(neck, PartOptions(vertebrae=(4, 8)), np.random.default_rng(0)) is None
    cut_parts(str(films), tmp_path / "parts", parts=3)
    assert count_pairs(tmp_path / "parts" / "p1.npz") == 6 and film_subject(tmp_path / "parts" / "p1.npz") == "p1"
    (tmp_path / "necks").mkdir()
    write_film_cases(tmp_path / "necks" / "n.npz", [neck])
    with pytest.raises(UserError, match="no film pair shows 4 vertebrae"):
        cut_parts(str(tmp_path / "necks"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_patient_whose_name_has_underscores(films: Path, tmp_path: Path) -> None:
    case, folder = read_film_case(films / "p0.npz", 0), tmp_path / "named"
    folder.mkdir()
    for name in ("study_pt_1", "study_pt_2"):
        write_film_cases(folder / f"{name}~v01.npz", [case], name)
    assert [film_subject(folder / f"study_pt_{i}~v01.npz") for i in (1, 2)] == ["study_pt_1", "study_pt_2"]
    assert film_subject(films / "p1.npz") == "p1"


def test_points_move_with_the_window() -> None:
    """A dot of the film is found in the turned, magnified window where its point says."""
    film = torch.zeros(1, 120, 90)
    film[0, 40, 60] = 1.0
    film = torch.nn.functional.avg_pool2d(film[None], 3, 1, 1)[0]
    place = Window(np.array([50.0, 50.0]), 1.3, 0.3, 40.0, (-np.inf, np.inf), False)
    window, valid, moved = cut_window(film, np.full((1, 5, 2), [40.0, 60.0]), place, (96, 96))
    at = np.unravel_index(int(window.argmax()), window.shape[1:])
    mass = window[0].numpy()
    index = np.indices(mass.shape)
    centre = (index * mass).sum((1, 2)) / mass.sum()
    assert np.linalg.norm(centre - moved[0, 0]) < 0.1 and np.linalg.norm(np.array(at) - moved[0, 0]) < 2
    assert valid.min() == 0 and valid.max() == 1 and (window * (1 - valid) == 0).all()


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_targets_are_what_the_window_shows(mirror: float) -> None:
    for seed in range(4):
        item = make_item(film_case(), seed, mirror_prob=mirror, part_prob=0.0, aside_px=5.0)
        assert item["image"].shape == (2, INPUTS, 160, 96) and item["heat"].shape == (2, 1, 80, 48)
        for view in range(2):
            marks = marks_in(item, view)
            cells, where = marks["cell"], marks["where"].numpy()
            assert len(cells) >= 3
            peaks = item["heat"][view, 0][cells[:, 0], cells[:, 1]]
            assert (peaks == 1).all() and (item["heat"][view] == 1).sum() == len(cells)
            pixels = np.rint(where[:, :2] * 2 + 0.5).astype(int)
            # A box is bright where its centroid lies, and dark half way to its neighbour.
            assert (item["image"][view, 0][pixels[:, 0], pixels[:, 1]] > 0.9).all()
            corners = where[:, 2:10].reshape(-1, 4, 2)
            assert (corners[:, 0, 1] < corners[:, 1, 1]).all() and (corners[:, 0, 0] < corners[:, 3, 0]).all()
            assert (marks["which"][:, 0].diff() == 1).all()


def test_neighbours_point_at_each_other() -> None:
    item = make_item(film_case(), 1, mirror_prob=0.0, part_prob=0.0)
    for view in range(2):
        where = marks_in(item, view)["where"].numpy()
        assert len(where) >= 3
        for i in range(len(where) - 1):
            gone = where[i, :2] * 2 + where[i, 12:14] * UNIT_PX
            assert np.allclose(gone, where[i + 1, :2] * 2, atol=0.01)
            assert np.allclose(where[i, 12:14], -where[i + 1, 10:12], atol=1e-3)


def test_beyond_what_is_known_the_map_is_not_judged() -> None:
    item = make_item(film_case(complete=False), 0, mirror_prob=0.0, part_prob=0.0, scale=(1.0, 1.0), tilt_deg=0.0)
    counts = item["counts"][0, 0].amax(1)
    rows = marks_in(item, 0)["where"][:, 0]
    assert len(rows) == 5
    assert counts[int(rows[0])] == 1 and counts[int(rows[-1])] == 1
    assert counts[: int(rows[0]) - 8].max() == 0 and counts[int(rows[-1]) + 9 :].max() == 0


def test_normalisation_knows_no_units() -> None:
    rng = np.random.default_rng(0)
    film = torch.from_numpy(rng.normal(5, 2, (1, 64, 64)).astype(np.float32))
    valid = torch.ones_like(film)
    one = normalise_film(film)
    assert torch.allclose(one, normalise_film(film * 300 - 40), atol=1e-4)
    assert one.min() == 0 and one.max() == 1
    contrast = local_contrast(one, valid)
    assert contrast.abs().max() <= 1
    # A ramp under the film is no contrast.
    ramp = torch.linspace(0, 1, 256)[None, :, None].expand(1, 256, 96)
    assert local_contrast(ramp, torch.ones(1, 256, 96))[:, 40:-40].abs().max() < 0.05
    assert normalise_film(film, torch.zeros_like(film) > 0).abs().max() == 0


def perfect_maps(item: dict) -> torch.Tensor:
    """What a network that knows everything would say."""
    shape = item["heat"].shape[-2:]
    maps = torch.zeros(2, CHANNELS, *shape)
    heads = split_heads(maps)
    heads["heat"][:] = torch.logit(item["heat"].clamp(1e-4, 1 - 1e-4))
    heads["spread"][:] = -3.0
    for view in range(2):
        for cell, where, which in zip(item["cell"][view], item["where"][view], item["which"][view], strict=True):
            if cell[0] < 0:
                continue
            for r in (-1, 0, 1):
                for c in (-1, 0, 1):
                    at = (
                        view,
                        slice(None),
                        min(max(cell[0] + r, 0), shape[0] - 1),
                        min(max(cell[1] + c, 0), shape[1] - 1),
                    )
                    heads["offset"][at] = where[:2] - torch.tensor([float(at[2]), float(at[3])])
                    heads["corners"][at] = where[2:10]
                    heads["neighbours"][at] = where[10:].nan_to_num()
                    heads["level"][at] = 12 * torch.nn.functional.one_hot(which[0], len(NAMES)).float()
                    heads["region"][at] = 12 * torch.nn.functional.one_hot(which[1], 4).float()
                    heads["end"][at] = 12 * torch.nn.functional.one_hot(which[2].clamp(min=0), 7).float()
    return maps


def test_loss_is_least_for_the_truth() -> None:
    batch = make_batch(film_case(), 2, mirror_prob=0.0)
    loss = LocalizationLoss(
        {"heat": 1.0, "offset": 1.0, "corners": 1.0, "neighbours": 1.0, "level": 1.0, "region": 1.0, "end": 1.0}
    )
    right = perfect_maps({name: values[0] for name, values in batch.items()})[None]
    terms = loss.terms(right, batch)
    wrong = loss.terms(torch.zeros_like(right), batch)
    assert terms["heat"] < 0.2 and terms["offset"] < 1e-6 and terms["neighbours"] < 1e-6
    assert terms["corners"] == pytest.approx(-3.0, abs=1e-3)
    assert terms["region"] < 1e-3 and terms["end"] < 1e-3 and all(terms[n] < wrong[n] for n in terms)
    assert float(loss(right, batch)) == pytest.approx(sum(float(t) for t in terms.values()), rel=1e-5)


def test_loss_of_films_without_any_vertebra_is_finite() -> None:
    maps = torch.zeros(1, 2, CHANNELS, 8, 8, requires_grad=True)
    empty = {
        "heat": torch.zeros(1, 2, 1, 8, 8), "counts": torch.ones(1, 2, 1, 8, 8),
        "cell": torch.full((1, 2, 3, 2), -1), "where": torch.full((1, 2, 3, 14), torch.nan),
        "which": torch.full((1, 2, 3, 3), -1),
    }  # fmt: skip
    total = LocalizationLoss(dict.fromkeys(("heat", "offset", "corners", "neighbours", "level", "region", "end"), 1.0))(
        maps, empty
    )
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(maps.grad).all()


def test_focal_and_laplace_by_hand() -> None:
    logits, heat = torch.tensor([[[[0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.5]]]])
    expected = 0.25 * np.log(2) + 0.5**4 * 0.25 * np.log(2)
    assert float(focal(logits, heat, torch.ones_like(heat), 1)) == pytest.approx(expected, rel=1e-5)
    said, truth = torch.zeros(1, 8), torch.full((1, 8), 0.5)
    spread = torch.full((1, 4), float(np.log(0.5)))
    assert float(laplace(said, spread, truth)) == pytest.approx(1 + np.log(0.5), rel=1e-5)
    assert float(laplace(said, spread, torch.full((1, 8), torch.nan))) == 0


def test_network_shapes_export_and_missing_views() -> None:
    torch.manual_seed(0)
    network = SpineLocalizer((4, 8, 8, 8, 8), 8).eval()
    image = torch.rand(2, 2, INPUTS, 64, 96)
    image[:, :, -1] = 1
    maps = network(image)
    assert maps.shape == (2, 2, CHANNELS, 32, 48) and sum(HEADS.values()) == CHANNELS
    script = torch.jit.script(network)
    assert torch.allclose(script(image), maps, atol=1e-5)
    alone = image.clone()
    alone[:, 1] = 0
    missing = network(alone)
    assert torch.isfinite(missing).all()
    assert torch.allclose(missing[:, 0], maps[:, 0], atol=1e-6)


def test_detections_give_back_what_the_maps_say() -> None:
    item = make_item(film_case(), 2, mirror_prob=0.0, part_prob=0.0)
    maps = perfect_maps(item)
    valid = item["image"][0, -1].numpy()
    found = find_detections(maps[0], valid, 2.0, DetectionOptions())
    marks = marks_in(item, 0)
    count, where = len(marks["cell"]), marks["where"].numpy()
    centroid = where[:, :2] * 2 + 0.5
    assert len(found) == count and np.allclose(found.centroid, centroid, atol=1e-3)
    assert np.allclose(found.corners, centroid[:, None] + where[:, 2:10].reshape(-1, 4, 2) * UNIT_PX, atol=1e-3)
    assert (found.log_level.argmax(1) == marks["which"][:, 0].numpy()).all()
    assert np.allclose(np.exp(found.log_level).sum(1), 1)
    assert len(find_detections(maps[0], np.zeros_like(valid), 2.0, DetectionOptions())) == 0
    # A second peak too near to a first one is none; a faint one that nobody expects neither.
    heat = split_heads(maps[0])["heat"]
    cell = marks["cell"][0]
    heat[0, cell[0] + 1, cell[1]] = 3.0
    heat[0, 2, 2] = -0.5
    assert len(find_detections(maps[0], valid, 2.0, DetectionOptions())) == count
    assert len(find_detections(maps[0], valid, 2.0, DetectionOptions(neighbours=False))) == count + int(valid[4, 4] > 0)


def test_films_of_any_pixel_size_look_alike_to_the_network() -> None:
    """A coarse and a fine film of one scene at the network's pixels; a pixel's middle stays where it is."""
    rows, columns = np.mgrid[0:200, 0:120]

    def scene(step: float) -> np.ndarray:
        r, c = (np.mgrid[0 : round(200 / step), 0 : round(120 / step)] + 0.5) * step
        return np.sin(r / 15) + np.cos(c / 11)

    one, other = (to_network_pixels(scene(s).astype(np.float32), np.full(2, s)) for s in (0.5, 2.0))
    assert one.shape == other.shape == (1, 100, 60)
    assert (one - other).abs()[:, 2:-2, 2:-2].max() < 0.05
    with pytest.raises(UserError, match="NaN"):
        to_network_pixels(np.full((50, 50), np.nan, np.float32), np.full(2, 1.0))
    with pytest.raises(UserError, match="pixel size"):
        to_network_pixels(np.zeros((500, 500), np.float32), np.full(2, 10.0))
    assert rows.shape == columns.shape


def test_one_level_off_is_one_everywhere() -> None:
    usual = [i for i, name in enumerate(NAMES) if name != "T13"]
    assert np.diff(COUNTED[usual]).tolist() == [1] * (len(usual) - 1)
    assert COUNTED[NAMES.index("T13")] == COUNTED[NAMES.index("L1")]


def found_as(case: FilmCase, shift_px: float = 0.0, level_shift: int = 0, drop_lat: int = -1) -> Localization:
    """What a network would have found that sees everything, but for some faults."""
    count = len(case.levels)
    views = []
    for which in range(2):
        logs = np.full((count, len(NAMES)), -9.0)
        views.append(
            Detections(
                np.full(count, 0.9), case.centroids[which].astype(float) + [shift_px, 0],
                case.corners[which].astype(float),
                np.ones((count, 4)), np.zeros((count, 2, 2)), logs, np.full((count, 7), -2.0),
            )
        )  # fmt: skip
    vertebrae = []
    for i, level in enumerate(case.levels):
        posterior = np.zeros(len(NAMES))
        posterior[level + level_shift] = 1.0
        vertebrae.append(Vertebra(int(level) + level_shift, i, -1 if i == drop_lat else i, posterior, 0.9, 0.0))
    reading = Reading(case.levels + level_shift, np.eye(len(NAMES))[case.levels], 5.0, 1.0, 0.0)
    return Localization((views[0], views[1]), vertebrae, reading)


def test_measures_of_a_perfect_a_shifted_and_an_empty_answer() -> None:
    case = film_case(4)
    rows, joint, whole = compare("c#0", "c", case, found_as(case), 0.5)
    assert whole.all_right and whole.shift == 0 and len(joint) == 4 and len(rows) == 8
    assert all(r.off_mm == 0 and r.corner_mm == 0 and r.said == r.level for r in rows)
    assert all(j.identified and j.strictly and j.paired == 1 for j in joint)
    # Half a pitch is 24 mm; 4 px are 8 mm: found within 10 but not within 5.
    rows, joint, whole = compare("c#0", "c", case, found_as(case, 4.0), 0.5)
    assert all(r.off_mm == pytest.approx(8, abs=0.01) for r in rows) and whole.all_right
    assert joint[0].off_mm == pytest.approx(8, abs=0.01)
    rows, joint, whole = compare("c#0", "c", case, found_as(case, level_shift=1), 0.5)
    assert not whole.all_right and whole.shift == 1 and not any(j.identified for j in joint)
    assert all(j.called_right == 0 for j in joint)
    rows, joint, whole = compare("c#0", "c", case, found_as(case, drop_lat=2), 0.5)
    assert joint[2].paired == -1 and joint[2].identified and sum(np.isnan(r.off_mm) for r in rows) == 1
    rows, joint, whole = compare("c#0", "c", case, None, 0.5)
    assert not whole.all_right and all(np.isnan(r.off_mm) for r in rows) and not any(j.identified for j in joint)
    # One vertebra more than there is.
    fewer = replace(
        case,
        levels=case.levels[:3],
        centroids=tuple(c[:3] for c in case.centroids),
        corners=tuple(c[:3] for c in case.corners),
    )
    rows, joint, whole = compare("c#0", "c", fewer, found_as(case), 0.5)
    assert not whole.all_right and sum(r.level == "" for r in rows) == 2
    rows, _, _ = compare("c#0", "c", replace(fewer, complete=False), found_as(case), 0.5)
    assert not any(r.level == "" for r in rows)


def test_summary_and_table() -> None:
    case = film_case(4)
    results = [
        compare(f"{n}#0", n, case, found_as(case, level_shift=s), 0.5) for n, s in (("a", 0), ("b", 0), ("c", 1))
    ]
    views, joint, cases = (
        [r for x in results for r in x[0]],
        [r for x in results for r in x[1]],
        [x[2] for x in results],
    )
    summary = summarise(views, joint, cases)
    assert summary["all"]["id_rate"]["value"] == pytest.approx(8 / 12, abs=1e-3)
    assert summary["all"]["id_rate"]["interval"][0] < 8 / 12 < summary["all"]["id_rate"]["interval"][1]
    assert summary["all"]["ap"]["recall_10mm"] == 1 and summary["all"]["shifted"] == pytest.approx(1 / 3, abs=1e-3)
    assert summary["up to 6 visible"]["pairs"] == 3 and summary["cervical"]["vertebrae"] == 0
    assert "| all | 12 |" in summary_table(summary)
    json.dumps(summary, allow_nan=False)


def test_cut_bodies_are_measured_apart() -> None:
    """The lateral film ends in the last body, the frontal corners of the first are unknown, C1 has none at all."""
    case = film_case(4)
    corners = (case.corners[0].copy(), case.corners[1].copy())
    corners[0][0] = np.nan
    # The fourth stands in rows 88 to 104.
    cut = replace(case, films=(case.films[0], case.films[1][:101]), corners=corners)
    assert whole_bodies(cut).tolist() == [[False, True, True, True], [True, True, True, False]]
    views, joint, pair = compare("c#0", "c", cut, found_as(cut, drop_lat=3), 0.5)
    summary = summarise(views, joint, [pair])
    assert [summary[key]["vertebrae"] for key in ("all", "whole bodies")] == [4, 2]
    assert [summary[key]["lat"]["recall_10mm"] for key in ("all", "whole bodies")] == [0.75, 1]
    top = np.arange(4)
    assert whole_bodies(replace(cut, levels=top))[0].all() and not whole_bodies(replace(cut, levels=top + 1))[0, 0]


def test_anchors_of_the_benchmark() -> None:
    """Of L1 to L5 the middle is L3; where the lateral film ends in L5, the lowest whole one is L4."""
    case = film_case(5)
    rows, columns = case.centroids[1].T
    assert middle_anchor(case) == (Anchor(22, "lat", (float(rows[2]), float(columns[2]))),)
    assert lowest_anchor(case) == (Anchor(24),)
    cut = replace(case, films=(case.films[0], case.films[1][:125]))
    assert lowest_anchor(cut) == (Anchor(23),)
    # Corners that could not be measured say nothing; a border that is near does.
    unmeasured = tuple(np.where(np.arange(5)[:, None, None] == 4, np.nan, corners) for corners in case.corners)
    assert lowest_anchor(replace(case, corners=(unmeasured[0], unmeasured[1]))) == (Anchor(24),)
    assert lowest_anchor(replace(cut, corners=(unmeasured[0], unmeasured[1]))) == (Anchor(23),)
    # S1 is no vertebra to name.
    sacral = replace(case, levels=np.array([*case.levels[:4], NAMES.index("S1")]))
    assert lowest_anchor(sacral) == (Anchor(23),)


def test_levels_are_uncertain_where_a_film_shows_the_sacrum_elsewhere() -> None:
    sacrum = NAMES.index("S1")
    case = replace(film_case(5), levels=np.array([*range(FIRST + 1, FIRST + 5), sacrum]))
    found = found_as(case)
    found.views[1].log_level[4, sacrum] = np.log(0.8)
    assert why_uncertain(found.vertebrae, found.reading, found.views) == ""
    found.views[1].log_level[3, sacrum] = np.log(0.6)
    assert why_uncertain(found.vertebrae, found.reading, found.views) == "the LAT film shows the sacrum where L5 is"
    # Without S1 nothing says where the count ends.
    assert "sacrum is in sight" in why_uncertain(found.vertebrae[:4], found.reading, found.views)


def test_a_pair_is_named_wrongly_if_most_of_it_is() -> None:
    case = film_case(4)
    rows = [
        row
        for name, found in (("a", found_as(case)), ("b", found_as(case, level_shift=1)), ("c", None))
        for row in compare(name, "x", case, found, 0.5)[0]
    ]
    assert [named_wrongly(rows, name) for name in "abc"] == [False, True, True]


def test_calibration_error_by_hand() -> None:
    sure = np.array([0.95, 0.95, 0.25, 0.25])
    assert calibration(sure, np.array([1, 1, 0, 1]))["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.25)
    assert calibration(np.array([]), np.array([]))["ece"] == 0


def test_annotations_carry_what_the_model_knows(tmp_path: Path) -> None:
    case = film_case(4)
    marks = to_annotations(found_as(case, drop_lat=1), ((160, 96), (160, 80)), "case")
    write_annotations(tmp_path / "a.json", marks)
    back = read_annotations(tmp_path / "a.json")
    assert back == marks and back.shift_margin == 5.0
    assert [m.seen_in for m in back.ap.marks] == ["both", "ap", "both", "both"] and len(back.lat.marks) == 3
    assert back.ap.marks[0].set_by == "model" and back.ap.marks[0].level_posterior == {"L1": 1.0}
    assert back.ap.marks[0].confidence == pytest.approx(0.9) and len(back.ap.marks[0].corners or ()) == 4
    filled = fill_gaps(back)
    gap = filled.lat.marks[1]
    assert gap.interpolated and gap.confidence == 0 and gap.level == back.ap.marks[1].level
    assert np.allclose(gap.centroid, np.mean([back.lat.marks[i].centroid for i in (0, 1)], 0), atol=1e-3)
    assert fill_gaps(filled) == filled
    write_annotations(tmp_path / "b.json", filled)
    assert read_annotations(tmp_path / "b.json") == filled
    picture = draw_annotations(case.films, filled, ((2.0, 2.0), (2.0, 2.0)), "case")
    assert picture.width > 300 and np.asarray(picture).std() > 5


@pytest.mark.parametrize("lost", ["ap", "lat"])
def test_a_film_in_which_nothing_is_found_is_told(lost: str) -> None:
    """Not one that was not given."""
    case = film_case(4)
    found = found_as(case)
    found = replace(found, vertebrae=[replace(v, **{lost: -1}) for v in found.vertebrae])
    both = films_of(case.films[0], case.films[1], case.geometry)
    for films, told in ((both, True), (replace(both, **{lost: NO_FILM}), False)):
        marks, _ = annotate_films(films, lambda *_: found)  # type: ignore[arg-type]
        lines = [line for line in marks.warnings if "no vertebra was found in this film" in line]
        assert len(lines) == told and all(line.startswith(f"{lost.upper()}: ") for line in lines)
    assert not any("was found" in line for line in annotate_films(both, lambda *_: found_as(case))[0].warnings)  # type: ignore[arg-type]


def test_files_without_the_newer_fields_are_read(tmp_path: Path) -> None:
    old = Annotations(ViewMarks((10, 10), (Mark(LEVEL_ORDER[0], (1.0, 2.0)),)), ViewMarks((10, 10), ()), "old")
    write_annotations(tmp_path / "a.json", old)
    assert "shift_margin" not in (tmp_path / "a.json").read_text() and read_annotations(tmp_path / "a.json") == old


def test_inputs_of_every_kind(tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(UserError, match="--ap or --lat"):
        read_films(None, None)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png"):
        read_films(tmp_path / "a.png", None)
    with pytest.raises(UserError, match="no such file"):
        read_films(tmp_path / "none.jpg", None)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 48), dtype=np.uint8)).save(tmp_path / "noise.png")
    alone = read_films(tmp_path / "noise.png", None)
    assert alone.shown[0] is not None and alone.shown[0].shape == (64, 48) and alone.shown[1] is None
    assert not alone.in_one_frame and alone.ap.spacing_mm is None and alone.shapes == ((64, 48), (1, 1))
    assert read_films(None, tmp_path / "noise.png", ReadingOptions(spacing=(3.0, 4.0))).lat.spacing_mm == (4.0, 4.0)
    with pytest.raises(UserError, match="two films"):
        read_films(tmp_path / "noise.png", None, ReadingOptions(geometry=tmp_path / "geometry.yaml"))
    mirrored = read_films(tmp_path / "noise.png", None, ReadingOptions(mirror=("ap",)))
    assert np.array_equal(mirrored.ap.pixels, alone.ap.pixels[:, ::-1])
    sample = ROOT / "docs" / "sample"
    both = read_films(sample / "ap.nii.gz", sample / "lat.nii.gz")
    assert both.in_one_frame and both.shown[1] is not None and both.name == "ap"
