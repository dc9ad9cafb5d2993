"""What ``evaluate`` tells the network about the vertebrae of one spine."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.io.nifti import write_nifti
from scripts.reconstruction.metrics import evaluate
from scripts.reconstruction.metrics.table import read_metrics_csv
from scripts.reconstruction.steady import steady_numbers

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
