"""Random transforms for real films: against real crops, and as the training configuration runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from scripts.data.augmentation import RandCentroidErrord, RandFilmd, RandMarkersd, RandTiltd
from scripts.data.normalisation import NormalisePatchd, OffFilmd
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.geometry.biplanar import geometry_of_grid
from scripts.geometry.cropping import CUBE_SIZE, crop_cube, gaussian_mark, network_input, place_cube
from scripts.geometry.frames import Grid
from scripts.geometry.projector import project_pair
from scripts.learning.sampling import ReproducibleSampler
from tests.conftest import ROOT, simulate_case
from tests.test_bundle import TINY, bundle

KEYS = ("image_ap", "image_ap_mask", "image_lat", "image_lat_mask")
CONFIGS = [str(ROOT / "configs" / name) for name in ("train.json", "augment_films.json")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("p1", "p2"):
        simulate_case(folder / "source", name, levels=(20, 21))
    split = SplitOptions(training=("p1",), validation=("p2",), test_share=0.0)
    prepare_dataset(folder / "source", folder / "dataset", PrepareOptions(), split)
    return folder / "dataset"


def cut(centroid_pixels: tuple[np.ndarray, np.ndarray], scene: tuple) -> dict[str, torch.Tensor]:
    """A vertebra as it is cut at marks in the two films: what reconstruction does."""
    grid, volume, geometry, films = scene
    point = geometry.back_project(*(p[None] for p in centroid_pixels))[0][0]
    cube = place_cube(point, grid)
    image = network_input(films, centroid_pixels, geometry, cube)
    item = {key: image[i : i + 1] for i, key in enumerate(KEYS)}
    return {**item, "label": torch.from_numpy(crop_cube(volume, cube))[None]}


@pytest.mark.parametrize("seed", range(6))
def test_a_wrong_mark_gives_the_crop_that_a_wrong_mark_gives(seed: int) -> None:
    """Against cutting a patient anew at the wrong marks, with every rounding."""
    rng = np.random.default_rng(seed)
    grid = Grid((100.0, 100.0, 100.0), (190, 200, 180))
    volume = rng.random(grid.shape, dtype=np.float32)
    geometry = geometry_of_grid(grid)
    scene = (grid, volume, geometry, project_pair(torch.from_numpy(volume), grid.affine, geometry))
    true = tuple(p[0] for p in geometry.project(grid.to_world(np.array([95, 80, 90]) + rng.uniform(-0.5, 0.5, 3))))
    transform = RandCentroidErrord(prob=1.0, sigma_mm=(2.0, 6.0)).set_random_state(seed)
    moved = transform(cut(true, scene))
    errors = transform.errors_mm
    expected = cut((true[0] + errors[0], true[1] + errors[1]), scene)
    step = np.ceil(np.abs(errors).max()).astype(int) + 1
    inner = slice(step, CUBE_SIZE - step)
    for key in ("image_ap", "image_lat"):
        assert torch.allclose(moved[key][0, inner, inner], expected[key][0, inner, inner], atol=2e-3)
    assert torch.equal(moved["label"][0, inner, inner, inner], expected["label"][0, inner, inner, inner])
    for key in ("image_ap_mask", "image_lat_mask"):
        assert (moved[key] - expected[key]).abs().max() < 1e-3
    assert np.abs(errors).max() > 1  # it did move something


@pytest.mark.parametrize(("frontal", "lateral"), [(20.0, 0.0), (0.0, -15.0), (25.0, 20.0)])
def test_a_tilted_vertebra_is_turned_about_its_mark(frontal: float, lateral: float) -> None:
    """Beads on the axes through the mark land where the rotation, written out by hand, puts them."""
    beads = {"below": (30, 0, 0), "left": (0, 0, 30), "behind": (0, 30, 0)}
    a, b = np.deg2rad([frontal, lateral])
    by_hand = {
        "below": 30 * np.array([np.cos(a) * np.cos(b), np.sin(b), np.sin(a) * np.cos(b)]),
        "left": 30 * np.array([-np.sin(a), 0, np.cos(a)]),
        "behind": 30 * np.array([-np.cos(a) * np.sin(b), np.cos(b), -np.sin(a) * np.sin(b)]),
    }
    index = np.stack(np.meshgrid(*[np.arange(CUBE_SIZE)] * 3, indexing="ij"), axis=-1)
    for name, offset in beads.items():
        position = np.array([59.5, 39.5, 59.5]) + offset
        near = np.linalg.norm(index - position, axis=-1) < 4
        label = torch.from_numpy(near)[None].to(torch.uint8)
        ap, lat = label.float().amax(2), label.float().amax(3)
        masks = [torch.from_numpy(gaussian_mark(np.array(p)))[None] for p in ((59.5, 59.5), (59.5, 39.5))]
        item = dict(zip((*KEYS, "label"), (ap, masks[0], lat, masks[1], label), strict=True))
        transform = RandTiltd(prob=1.0)
        transform.randomize = lambda data=None: None
        transform.angles_deg = np.array([frontal, lateral])
        turned = transform(item)
        assert turned["label"].dtype == torch.uint8
        found = np.mean(np.argwhere(turned["label"][0].numpy()), axis=0) - [59.5, 39.5, 59.5]
        assert found == pytest.approx(by_hand[name], abs=0.3)
        for key, mask in (("image_ap_mask", masks[0]), ("image_lat_mask", masks[1])):
            assert (turned[key] - mask).abs().max() < 0.02  # the mark stays
        if lateral == 0:  # what the AP film of parallel rays would show
            shown = np.argwhere(turned["image_ap"][0].numpy() > 0.5).mean(axis=0) - 59.5
            assert shown == pytest.approx(found[[0, 2]], abs=0.3)


def test_each_view_keeps_its_own_error() -> None:
    """Marks 6 mm too low in AP and right in LAT: anatomy 3 mm up in both patches, masks 3 mm off each way."""
    bead = torch.zeros(1, CUBE_SIZE, CUBE_SIZE)
    bead[0, 60, 60] = 1
    masks = [torch.from_numpy(gaussian_mark(np.array(p)))[None] for p in ((59.5, 59.5), (59.5, 39.5))]
    label = torch.zeros(1, CUBE_SIZE, CUBE_SIZE, CUBE_SIZE)
    label[0, 60, 40, 60] = 1
    item = dict(zip((*KEYS, "label"), (bead, masks[0], bead, masks[1], label), strict=True))
    transform = RandCentroidErrord(prob=1.0)
    transform.randomize()
    transform.errors_mm = np.array([[6.0, 0.0], [0.0, 0.0]])
    transform.randomize = lambda data=None: None
    moved = transform(item)
    assert moved["label"].nonzero().tolist() == [[0, 57, 40, 60]]
    assert moved["image_ap"].nonzero().tolist() == moved["image_lat"].nonzero().tolist() == [[0, 57, 60]]
    rows = [moved[key][0].sum(1).argmax().item() for key in ("image_ap_mask", "image_lat_mask")]
    assert rows[0] - 59.5 == pytest.approx(3, abs=0.5) and rows[1] - 59.5 == pytest.approx(-3, abs=0.5)


def pooled(item: dict[str, torch.Tensor], size: int) -> dict[str, torch.Tensor]:
    """As `configs/half_resolution.json` loads it."""
    pools = {3: torch.nn.functional.adaptive_avg_pool2d, 4: torch.nn.functional.adaptive_avg_pool3d}
    return {key: pools[values.dim()](values.float(), size) for key, values in item.items()}


def centre_mm(image: torch.Tensor) -> np.ndarray:
    """Centre of mass of an image of 120 mm, in mm from its corner."""
    values = np.asarray(image[0], float)
    index = np.stack(np.indices(values.shape), -1) + 0.5
    return np.tensordot(values, index, values.ndim) / values.sum() * CUBE_SIZE / len(values)


@pytest.mark.parametrize("transform", [RandTiltd(prob=1.0), RandCentroidErrord(prob=1.0)])
def test_half_resolution_is_augmented_as_full_resolution_is(transform: RandTiltd | RandCentroidErrord) -> None:
    """A tilt turned about another point, and a wrong mark was a traceback."""
    index = np.stack(np.indices((CUBE_SIZE,) * 3), -1)
    label = torch.from_numpy(np.linalg.norm(index - [80, 60, 70], axis=-1) < 8)[None].float()
    masks = [torch.from_numpy(gaussian_mark(np.array(p)))[None] for p in ((59.5, 59.5), (59.5, 39.5))]
    item = dict(zip((*KEYS, "label"), (label.amax(2), masks[0], label.amax(3), masks[1], label), strict=True))
    transform.randomize = lambda data=None: None
    transform._do_transform = True
    # Of whole voxels at half resolution too.
    transform.errors_mm, transform.angles_deg = np.array([[6.0, -4.0], [-2.0, 8.0]]), np.array([20.0, -15.0])
    full, half = transform(item), transform(pooled(item, 60))
    for key, values in half.items():
        assert values.shape[-1] == 60
        assert centre_mm(values) == pytest.approx(centre_mm(full[key]), abs=0.3), key
    assert np.abs(centre_mm(full["label"]) - centre_mm(label)).max() > 4
    for key in ("image_ap_mask", "image_lat_mask"):
        assert half[key].sum() == pytest.approx(float(full[key].sum()) / 4, rel=0.01)


def test_scatter_spreads_as_far_at_half_resolution(sample: dict) -> None:
    parser = ConfigParser()
    parser.read_config([*CONFIGS, str(ROOT / "configs" / "half_resolution.json")])
    assert parser.get_parsed_content("film").pixel_mm == 2
    makes = {"prob": 1.0, "scatter_ratio": (0.4, 0.4), "photons": (1e12, 1e12), "hardening": (0.0, 0.0)}
    makes |= {"linear_prob": 0.0, "inverted_prob": 0.0, "field_prob": 0.0, "scatter_mm": (15.0, 15.0)}
    film = {key: sample[key] for key in ("image_ap", "image_lat")}
    full = pooled(RandFilmd(**makes)(film), 60)["image_ap"]
    off = {}
    for pixel_mm in (1.0, 2.0):
        half = RandFilmd(**makes, pixel_mm=pixel_mm)(pooled(film, 60))["image_ap"]
        off[pixel_mm] = (half - full).abs().mean()
    assert off[2.0] < 0.3 * off[1.0]


def test_errors_have_the_size_that_was_asked_for() -> None:
    transform = RandCentroidErrord(prob=1.0, sigma_mm=(3.0, 3.0), outlier_prob=0.1, outlier_mm=12.0).set_random_state(0)
    drawn = []
    for _ in range(3000):
        transform.randomize()
        drawn.append(transform.errors_mm)
    expected = np.sqrt(0.9 * 3.0**2 + 0.1 * 12.0**2)
    assert np.std(drawn) == pytest.approx(expected, rel=0.05)
    assert np.abs(drawn).max() <= 30 and np.abs(np.mean(drawn)) < 0.2


def test_marker_and_film_touch_what_they_should(sample: dict) -> None:
    marked = RandMarkersd(prob=1.0, texts=("L",), size_px=(20, 20)).set_random_state(1)(sample)
    for key in ("image_ap", "image_lat"):
        changed = (marked[key] != sample[key]).float().mean().item()
        assert 0.002 < changed < 0.15
        assert marked[key].min() >= sample[key].min() and marked[key].max() <= sample[key].max()
    inverted = RandFilmd(prob=1.0, inverted_prob=1.0, linear_prob=0.0, field_prob=0.0).set_random_state(1)(sample)
    plain = RandFilmd(prob=1.0, inverted_prob=0.0, linear_prob=0.0, field_prob=0.0).set_random_state(1)(sample)
    for key in ("image_ap", "image_lat"):
        pair = torch.stack([inverted[key].flatten(), plain[key].flatten()])
        assert torch.corrcoef(pair)[0, 1] < -0.99
        assert torch.corrcoef(torch.stack([sample[key].flatten(), plain[key].flatten()]))[0, 1] > 0.9
    assert torch.equal(marked["label"], sample["label"]) and torch.equal(inverted["label"], sample["label"])


def test_what_is_on_the_film_moves_with_the_patch(sample: dict) -> None:
    """Values that only on-film pixels have stay under the mask, whatever moved."""
    patch = sample["image_ap"].clone()
    patch[:, :30] = torch.nan
    item = OffFilmd()({**sample, "image_ap": patch, "label": torch.zeros(1, 120, 120, 120)})
    assert item["image_ap"].isfinite().all() and (item["image_ap"][:, :30] == item["image_ap"][:, 30:].min()).all()
    # A patch that says of each of its pixels whether it is on the film.
    item["image_ap"] = item["image_ap_valid"].clone()
    for transform in (RandCentroidErrord(prob=1.0, sigma_mm=(6.0, 6.0)), RandTiltd(prob=1.0)):
        moved = transform.set_random_state(2)(item)
        assert not torch.equal(moved["image_ap_valid"], item["image_ap_valid"])
        assert torch.equal(moved["image_ap_valid"], moved["image_ap"])


def test_a_known_field_takes_no_part_in_normalising(sample: dict) -> None:
    item = OffFilmd()(sample)
    makes = {"prob": 1.0, "field_prob": 1.0, "photons": (1e7, 1e7), "linear_prob": 0.0, "inverted_prob": 0.0}
    known = RandFilmd(**makes, found_prob=1.0).set_random_state(1)(item)
    unknown = RandFilmd(**makes, found_prob=0.0).set_random_state(1)(item)
    on_film = known["image_ap_valid"] > 0
    assert 0.2 < on_film.float().mean() < 1 and unknown["image_ap_valid"].all()
    assert torch.equal(known["image_ap"], unknown["image_ap"])
    shown = NormalisePatchd()(known)["image_ap"]
    assert (shown[~on_film] == 0).all() and shown[on_film].max() == 1
    share = (shown[on_film] == 0).float().mean()
    assert share < 0.02  # else the field's surroundings would have made the lower percentile


@pytest.fixture
def sample() -> dict[str, torch.Tensor]:
    row = torch.linspace(1, 4, CUBE_SIZE)[None, :, None]
    patch = row + torch.sin(torch.arange(CUBE_SIZE) / 9)[None, None]
    mask = torch.rand(1, CUBE_SIZE, CUBE_SIZE)
    label = torch.rand(1, 8, 8, 8)
    return {
        "image_ap": patch,
        "image_ap_mask": mask,
        "image_lat": patch.flip(1),
        "image_lat_mask": mask,
        "label": label,
    }


def pipeline(dataset: Path, prob: float | None = None, seed: int = 0) -> Dataset:
    """The training set of the overlay; with ``prob`` every random transform at that probability."""
    parser = ConfigParser()
    parser.read_config(CONFIGS)
    parser["bundle_root"], parser["dataset_dir"], parser["seed"] = str(ROOT), str(dataset), seed
    if prob is not None:
        random = [reference.removeprefix("@") for reference in parser["train#random_transforms"]]
        with_prob = [name for name in random if "prob" in parser[name]]
        assert with_prob
        for name in with_prob:
            parser[f"{name}#prob"] = prob
    return parser.get_parsed_content("train#dataset")


def test_every_transform_at_once_keeps_shapes_types_and_a_binary_label(dataset: Path) -> None:
    data = pipeline(dataset, prob=1.0)
    assert len(data) > 0
    set_determinism(seed=0)
    for _ in range(4):
        for item in data:
            assert item["image"].shape == (4, 120, 120) and item["label"].shape == (1, 120, 120, 120)
            assert item["image"].dtype == item["label"].dtype == torch.float32
            assert torch.isfinite(item["image"]).all()
            assert item["image"].min() >= -0.5 and item["image"].max() <= 1.5
            assert set(np.unique(item["label"])) == {0.0, 1.0}
            assert item["image"][[1, 3]].amax((1, 2)).min() > 0.9  # masks stay masks
            assert item["image"][[0, 2]].std((1, 2)).min() > 0.05  # something is left to see
    set_determinism(None)


def test_same_seed_same_items(dataset: Path) -> None:
    batches = []
    for seed in (3, 3, 4):
        data = pipeline(dataset, seed=seed)
        sampler = ReproducibleSampler(data, seed=seed)
        loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=0)
        batches.append([])
        for epoch in range(3):
            sampler.set_epoch(epoch)
            batches[-1] += [batch["image"].as_tensor() for batch in loader]
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    assert not torch.equal(batches[0][0], batches[2][0])
    assert not torch.equal(batches[0][0], batches[0][1])


def test_overlay_changes_training_only() -> None:
    overlay = json.loads((ROOT / "configs" / "augment_films.json").read_text())
    train = json.loads((ROOT / "configs" / "train.json").read_text())
    steps = overlay.pop("train#random_transforms")
    assert {f"@{name}" for name in overlay} == set(steps) - {"@normalise_patches"}
    # What it replaces in train.json are random transforms of the training too.
    assert {f"@{name}" for name in overlay.keys() & train.keys()} <= set(train["train"]["random_transforms"])


def test_training_with_the_overlay(dataset: Path, tmp_path: Path) -> None:
    bundle(
        "run", "training", "--config_file", str(CONFIGS), *TINY, "--dataset_dir", str(dataset),
        "--output_dir", str(tmp_path / "out"), "--max_epochs", "1", "--loss_weights#adversarial", "0",
    )  # fmt: skip
    assert (tmp_path / "out" / "model_final.pt").is_file()
    assert len((tmp_path / "out" / "training.csv").read_text().splitlines()) == 2
