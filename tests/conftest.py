"""Shared fixtures: one thread, a small simulated spine, the sample patient."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.films.film import Films, Radiograph
from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.geometry.projector import project_views
from scripts.io.annotations import Annotations
from scripts.io.checksums import sha256

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SAMPLE = ROOT / "docs" / "sample"
# They take longest, so they come first: otherwise one worker ends long before the other.
LONGEST_FILES = (
    "test_viewer_browser", "test_viewer_service", "test_release", "test_listener", "test_reconstruct",
    "test_distributed", "test_deploy", "test_bundle", "test_dicom_identity", "test_documents", "test_dicom_out",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in their order."""
    place = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def films_of(ap: np.ndarray, lat: np.ndarray, geometry: BiplanarGeometry) -> Films:
    """Two arrays whose geometry is known."""
    return Films(Radiograph(ap, geometry.ap.pixel_mm), Radiograph(lat, geometry.lat.pixel_mm), geometry, True)


def without_films(annotations: Annotations) -> Annotations:
    """Marks that do not say which films they are of, as in files of before."""
    return replace(annotations, ap=replace(annotations.ap, film=""), lat=replace(annotations.lat, film=""))


def checksums(folder: Path) -> dict[str, str]:
    """Name below the folder -> SHA-256, of all its files."""
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def dice(a: np.ndarray | torch.Tensor, b: np.ndarray | torch.Tensor) -> float:
    """Overlap of two masks."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def project_volume(volume: torch.Tensor, affine: np.ndarray, view: View) -> torch.Tensor:
    """The radiograph of one volume in one view."""
    return project_views(volume, affine, [view])[0]


@dataclass(frozen=True)
class SimulatedCase:
    """A CT + labelmap of a few crude vertebrae in a body, written in any orientation."""

    ct: Path
    mask: Path
    centroids_mm: dict[int, np.ndarray]


def simulate_case(
    folder: Path,
    stem: str,
    axcodes: str = "RAS",
    levels: tuple[int, ...] = (20, 21, 22),
    shift: float = 0.0,
    step: float = 0.0,
) -> SimulatedCase:
    """Blocks with a spinous process behind and one long transverse process on the left, 2 mm voxels, 40 mm apart.

    The left-right asymmetry is what an orientation test needs. With a step each block stands so far to the right of the
    one above, so that the line of the centroids leans.
    """
    shape = (80, 70, 90)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-80.0 + shift, -75.0, -90.0)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    x, y, z = (index @ affine[:3, :3] + affine[:3, 3]).transpose(3, 0, 1, 2)
    hu = np.where((np.hypot((x - shift) / 70, (y + 5) / 55) < 1), 40.0, -1000.0)
    labels = np.zeros(shape, np.uint8)
    centroids = {}
    for position, level in enumerate(levels):
        centre = np.array([shift + step * position, 0.0, 40.0 - 40.0 * position])
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        body = (np.abs(dx) < 20) & (np.abs(dy) < 14) & (np.abs(dz) < 12)
        spinous = (np.abs(dx) < 4) & (dy < -14) & (dy > -44) & (np.abs(dz) < 6)
        left = (dx < -20) & (dx > -42) & (np.abs(dy + 12) < 4) & (np.abs(dz) < 4)
        labels[body | spinous | left] = level
        centroids[level] = centre
    hu[labels > 0] = 500.0
    target = nib.orientations.axcodes2ornt(tuple(axcodes))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for array, suffix in ((hu.astype(np.int16), "ct"), (labels, "vert_msk")):
        image = nib.Nifti1Image(array, affine)
        image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), target))
        paths.append(folder / f"{stem}_{suffix}.nii.gz")
        nib.save(image, paths[-1])
    return SimulatedCase(paths[0], paths[1], centroids)


@pytest.fixture
def case(tmp_path: Path) -> SimulatedCase:
    return simulate_case(tmp_path / "source", "patient1")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset of three simulated patients, one in each list, with L1 and L2 each."""
    from scripts.data.prepare import SplitOptions, prepare_dataset
    from scripts.data.vertebrae import PrepareOptions

    folder = tmp_path_factory.mktemp("data")
    for name in ("p1", "p2", "p3"):
        simulate_case(folder / "source", name, levels=(20, 21))
    split = SplitOptions(training=("p1",), validation=("p2",), test=("p3",))
    prepare_dataset(folder / "source", folder / "dataset", PrepareOptions(), split)
    return folder / "dataset"


@pytest.fixture
def service_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What services log, though other services and trainings of this process have set up logs of their own."""
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", False)
    # A server that an earlier test started may have set it to "critical".
    caplog.set_level(logging.INFO, "uvicorn.error")
    return caplog
