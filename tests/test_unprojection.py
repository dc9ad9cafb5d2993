"""The lift by unprojection: a point that both films show must come out of the lift where it is in space."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.films.pair import read_films
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.cropping import NOMINAL_CENTROID, network_input, place_cube, turned_back
from scripts.geometry.frames import Grid
from scripts.geometry.leaning import UPRIGHT, Lean
from scripts.geometry.unprojection import ray_positions
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_nifti
from scripts.metrics.evaluate import read_datalist
from scripts.networks.fusion import CentroidFusion
from scripts.networks.generator import Generator
from scripts.networks.lifting import ReplicateLift, UnprojectLift, takes_rays, unproject
from scripts.networks.predictor import Predictor
from scripts.networks.resunet import ResUNet
from scripts.spine.session import Session
from tests.bundle_command import SMALL, bundle, config, options, tiny
from tests.conftest import ROOT, simulate_case
from tests.test_session import BallPredictor

GRID = Grid((0.0, 0.0, 0.0), (700, 240, 300))
# 290 mm above the central ray.
CENTROID = GRID.to_world(np.array([60.0, 110.0, 140.0]))
SIGMA = 3.0


def brightest(volume: torch.Tensor) -> np.ndarray:
    """Centre of mass around the maximum."""
    weight = torch.where(volume > 0.5 * volume.max(), volume, torch.zeros(())).numpy()
    index = np.stack(np.meshgrid(*[np.arange(n) for n in weight.shape], indexing="ij"), axis=-1)
    return (index * weight[..., None]).sum((0, 1, 2)) / weight.sum()


@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("lean", [UPRIGHT, Lean(20, 15), Lean(-12, -18)])
def test_a_point_is_lifted_to_where_it_is(beam: Beam, lean: Lean) -> None:
    geometry = geometry_of_grid(GRID, beam)
    cube = place_cube(CENTROID, GRID)
    for offset in ([0, 0, 0], [30, 35, 20], [-20, 40, -30]):
        point = cube.grid.to_world(NOMINAL_CENTROID + lean.rotation() @ offset)
        films, marks = [], []
        for view in (geometry.ap, geometry.lat):
            (row, column), *_ = view.project(point)
            squared = (np.arange(view.shape[0])[:, None] - row) ** 2 + (np.arange(view.shape[1]) - column) ** 2
            films.append(torch.from_numpy(np.exp(-squared / (2 * SIGMA**2))).float())
            marks.append(view.project(CENTROID)[0])
        image = network_input((films[0], films[1]), (marks[0], marks[1]), geometry, cube, lean)[None].nan_to_num(0.0)
        rays = ray_positions(geometry, cube, lean)[None]
        ap, lat = UnprojectLift()(image[:, :1], image[:, 2:3], rays)[0]
        # Films under a cone are magnified, the blobs in them are not; the centre is what counts.
        assert np.abs(brightest(ap * lat) - (NOMINAL_CENTROID + offset)).max() < 0.6
        half = [unproject(torch.nn.functional.avg_pool2d(image[:, c : c + 1], 2), rays[:, s]) for c, s in HALVES]
        at_half = (NOMINAL_CENTROID + offset - 0.5) / 2
        assert np.abs(brightest((half[0] * half[1])[0, 0]) - at_half).max() < 0.4


HALVES = ((0, slice(0, 2)), (2, slice(2, 4)))


def test_replication_loses_that_point() -> None:
    """Off a cone's central ray, which is what the lift is for."""
    geometry, cube = geometry_of_grid(GRID, Beam.CONE), place_cube(CENTROID, GRID)
    rays = ray_positions(geometry, cube)
    upright = ray_positions(geometry_of_grid(GRID), cube)
    off = (rays - upright).abs().amax(dim=(1, 2, 3)) * 60
    assert off[0] > 8 and off[2] > 8  # pixels, along the rows of each view


def test_parallel_rays_leave_replication() -> None:
    cube = place_cube(CENTROID, GRID)
    rays = ray_positions(geometry_of_grid(GRID), cube)[None]
    ap, lat = torch.rand(2, 1, 3, 60, 60)
    assert torch.allclose(UnprojectLift()(ap, lat, rays), ReplicateLift()(ap, lat), atol=1e-4)
    assert torch.equal(UnprojectLift()(ap, lat), ReplicateLift()(ap, lat))


def test_gradients_are_those_of_finite_differences() -> None:
    view = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    positions = torch.rand(1, 2, 2, 2, 2) * 1.5 - 0.75
    # grid_sample computes in float32 whatever it is given.
    assert torch.autograd.gradcheck(lambda x: unproject(x, positions), view, eps=1e-2, atol=1e-3)


def test_torchscript_takes_rays_too() -> None:
    generator = Generator(CentroidFusion(), UnprojectLift(), ResUNet(channels=(4, 8, 8), strides=(2, 2))).eval()
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(generator), stream)
    stream.seek(0)
    loaded = torch.jit.load(stream)
    assert takes_rays(generator) and takes_rays(loaded)
    assert not takes_rays(Generator(CentroidFusion(), ReplicateLift(), ResUNet(channels=(4, 8), strides=(2,))))
    image, rays = torch.rand(2, 4, 32, 32), torch.rand(2, 4, 3, 3, 3) * 2 - 1
    with torch.no_grad():
        for args in ((image,), (image, rays)):
            assert torch.allclose(generator(*args), loaded(*args), atol=1e-5)
        assert (generator(image) - generator(image, rays)).abs().max() > 1e-3


@pytest.fixture(scope="module")
def leaning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same leaning patient prepared upright and along the spine."""
    folder = tmp_path_factory.mktemp("leaning")
    for name in ("p1", "p2"):
        simulate_case(folder / "source", name, step=12.0)
    split = SplitOptions(training=("p1",), validation=("p2",))
    for name, along in (("upright", False), ("along", True)):
        prepare_dataset(folder / "source", folder / name, PrepareOptions((Beam.CONE,), along_spine=along), split)
    return folder


def test_a_dataset_along_the_spine(leaning: Path) -> None:
    """Its labels, turned back, are those of the upright dataset."""
    upright, along = (read_datalist(leaning / name, "training") for name in ("upright", "along"))
    assert len(upright) == len(along) == 3 and "rays" not in upright[0]
    for before, after in zip(upright, along, strict=True):
        assert before["centroid_mm"] == after["centroid_mm"]
        rays = np.load(leaning / "along" / after["rays"])
        assert rays.shape[0] == 4 and np.abs(rays).max() < 2
        expected = read_nifti(leaning / "upright" / before["label"])[0] > 0
        turned = read_nifti(leaning / "along" / after["label"])[0]
        # 12 mm aside on 40 mm down.
        back = turned_back(turned.astype(np.float32), Lean(-np.degrees(np.arctan2(12, 40)).round(), 0)) > 0.5
        assert dice(back, expected) > 0.93 > 0.9 > dice(turned > 0, expected)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_training_by_unprojection(leaning: Path, tmp_path: Path) -> None:
    """Images alone would train as well: that rays reach the network shows in its answers."""
    names = ("train.json", "train_improved.json", "unproject.json")
    small = options(tiny(config("train_improved.json")["network_def"]))
    bundle(
        "run", "training", "--config_file", str([str(ROOT / "configs" / name) for name in names]), *small, *SMALL,
        "--dataset_dir", str(leaning / "along"), "--output_dir", str(tmp_path), "--max_epochs", "1",
    )  # fmt: skip
    assert (tmp_path / "model_final.pt").is_file() and (tmp_path / "model.pt").is_file()


def test_trainer_gives_rays_to_the_network(leaning: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in ("train.json", "unproject.json")])
    parser["dataset_dir"] = str(leaning / "along")
    batch = next(iter(parser.get_parsed_content("validate#dataloader")))
    _, _, args, named = parser.get_parsed_content("prepare_batch")(batch, "cpu")
    assert args == () and named["rays"].shape[:2] == (3, 4)


def test_reconstruction_uses_rays_where_the_network_does(leaning: Path) -> None:
    asked: list[Any] = []

    class Asked(BallPredictor):
        unprojects = True

        def __call__(self, inputs: Sequence[torch.Tensor], *given: Any) -> Iterator[np.ndarray]:
            asked.append(given[0])
            return super().__call__(inputs)

    case = leaning / "upright" / "cases" / "p1"
    marks = read_annotations(case / "annotations.json")
    films = read_films(case / "ap.nii.gz", case / "lat.nii.gz", geometry=case / "geometry.json")
    for predictor in (Asked(), BallPredictor()):
        Session(films, cast(Predictor, predictor)).reconstruct(marks)
    assert len(asked) == 1
    # The reconstruction's rays are the training's.
    stored = [np.load(leaning / "along" / i["rays"]) for i in read_datalist(leaning / "along", "training")]
    assert np.abs(np.stack(asked[0]) - np.stack(stored)).max() < 1e-3
