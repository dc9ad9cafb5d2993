"""What ``evaluate`` tells the network about the vertebrae of one spine."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalist import read_document
from scripts.data.prepare import prepare_dataset
from scripts.data.split import SplitOptions
from scripts.data.vertebrae import PrepareOptions
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.leaning import UPRIGHT
from scripts.io.nifti import write_nifti
from scripts.reconstruction.metrics import evaluate
from scripts.reconstruction.metrics.spines import all_spines, leans_at
from scripts.reconstruction.metrics.table import read_metrics_csv
from scripts.reconstruction.steady import steady_numbers
from tests.conftest import simulate_case

LEVELS = (21, 22, 23)


class Recorder:
    """A network that answers a ball and keeps what it was told."""

    takes_level = True

    def __init__(self, *args: object, **options: object) -> None:
        self.calls = []
        Recorder.last = self

    def read(self, inputs: list, levels: list[int], tilts: list[float]) -> np.ndarray:
        self.read_levels, self.read_tilts = list(levels), list(tilts)
        return np.arange(9.0) + 8.0 * np.arange(len(inputs))[:, None]

    def __call__(self, inputs, levels=None, tilts=None, numbers=None):
        self.calls.append((levels, tilts, numbers))
        return iter([ball().astype(np.float32)])


def ball() -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(120),) * 3, indexing="ij"), -1)
    return np.linalg.norm(index - NOMINAL_CENTROID, axis=-1) < 20


@pytest.fixture
def leaning_spine(tmp_path: Path) -> Path:
    """Three vertebrae 35 mm apart, 20 degrees towards the back; cut along half of that. T12 is in another list."""
    folder = tmp_path / "cases" / "a"
    folder.mkdir(parents=True)
    items = []
    for i, level in enumerate(("L2", "L3", "L4")):
        mark = 35.0 * (i - 1) * np.array([np.cos(np.radians(20)), np.sin(np.radians(20)), 0]) + NOMINAL_CENTROID
        write_nifti(folder / f"{level}_mask.nii.gz", ball().astype(np.uint8), Grid((0.0, 0.0, 0.0), (120,) * 3).affine)
        write_nifti(folder / f"{level}_xray.nii.gz", np.zeros((120, 120, 1, 4), np.float32), np.eye(4))
        items.append({"subject": "a", "series": "", "level": level, "centroid_mm": (mark @ IPL_AXES).tolist()})
        items[-1] |= {"label": f"cases/a/{level}_mask.nii.gz", "image": f"cases/a/{level}_xray.nii.gz"}
        items[-1] |= {"clipped_fraction": 0.0, "along_spine": True}
    (tmp_path / "dataset.json").write_text(json.dumps({"test": items}))
    return tmp_path


def test_vertebrae_are_measured_as_they_are_reconstructed(leaning_spine, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "Predictor", Recorder)
    evaluate.evaluate_dataset(leaning_spine, tmp_path / "out")
    told = Recorder.last
    assert len(told.calls) == 3 and tuple(told.read_levels) == LEVELS
    # The whole lean is 20 degrees; the cubes have been turned by half of its tangent.
    left = 20 - np.degrees(np.arctan(np.tan(np.radians(20)) / 2))
    assert told.read_tilts == pytest.approx([left] * 3, abs=1.0)
    steady = steady_numbers(np.arange(9.0) + 8.0 * np.arange(3)[:, None], LEVELS)
    for i, (levels, tilts, numbers) in enumerate(told.calls):
        assert (levels, tilts) == ([LEVELS[i]], [told.read_tilts[i]]) and numbers == [steady[i].tolist()]
    rows = read_metrics_csv(tmp_path / "out" / "metrics.csv")
    assert [row.level for row in rows] == ["L2", "L3", "L4"] and all(row.dice == 1 for row in rows)


def test_the_network_alone_is_told_the_level_only(leaning_spine, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "Predictor", Recorder)
    (leaning_spine / "cases" / "a" / "L3_xray.nii.gz").write_bytes(b"no nifti")
    evaluate.evaluate_dataset(leaning_spine, tmp_path / "out", network_only=True)
    assert Recorder.last.calls == [([21], None, None), ([23], None, None)]
    evaluate.evaluate_dataset(leaning_spine, tmp_path / "out")
    assert Recorder.last.read_levels == [21, 23]
    status = [row.status for row in read_metrics_csv(tmp_path / "out" / "metrics.csv")]
    assert status[0] == status[2] == "ok" and status[1].startswith("failed")


def test_debris_says_nothing_about_how_the_spine_runs(tmp_path: Path) -> None:
    """Of T8 only the tip of a transverse process is left: `prepare` does not take its middle for a mark."""
    case = simulate_case(tmp_path / "source", "p", levels=(15, 16, 17))
    # Of the size of thoracic vertebrae, and as near to each other.
    for path in (case.ct, case.mask):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine @ np.diag([0.75] * 3 + [1])), path)
    image = nib.load(case.mask)
    labels = np.asanyarray(image.dataobj).copy()
    debris = np.argwhere(labels == 15)
    labels[labels == 15] = 0
    labels[tuple(debris[debris[:, 0] <= debris[:, 0].min() + 8].T)] = 15
    nib.save(nib.Nifti1Image(labels, image.affine), case.mask)
    prepare_dataset(tmp_path / "source", tmp_path / "d", PrepareOptions(along_spine=True), SplitOptions(test=("p",)))
    document = read_document(tmp_path / "d")
    assert [(item["level"], item["no_mark"]) for item in document["excluded"]] == [("T8", True)]
    spine = all_spines(document)["cases/p"]
    # The true marks stand above each other, which is how images and labels were cut.
    assert len(spine) == 3 and {leans_at(spine, item) for item in document["test"]} == {(UPRIGHT, UPRIGHT)}
    believed = [{**item, "no_mark": False} for item in spine]
    assert leans_at(believed, document["test"][0]) != (UPRIGHT, UPRIGHT)
