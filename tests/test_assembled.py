"""Whole patients of a dataset, measured in the assembled spine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.assembled import main
from scripts.errors import UserError
from scripts.job.options import Job, NetworkOptions, OutputOptions
from scripts.job.run import Networks, run_job
from scripts.reconstruction.metrics.table import read_metrics_csv

SAMPLE = Path(__file__).resolve().parents[1] / "docs" / "sample"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The sample patient with two marks and three listed vertebrae."""
    case = tmp_path / "dataset" / "cases" / "sample"
    case.mkdir(parents=True)
    for name in ("ap.nii.gz", "lat.nii.gz", "labelmap.nii.gz"):
        (case / name).symlink_to(SAMPLE / name)
    document = json.loads((SAMPLE / "annotations.json").read_text())
    for view in document["views"].values():
        view["vertebrae"] = [mark for mark in view["vertebrae"] if mark["level"] in ("T11", "T12")]
    (case / "annotations.json").write_text(json.dumps(document))
    items = [
        {
            "subject": "LIDC-IDRI-0001", "series": "", "level": level, "case": "sample", "clipped_fraction": 0.0,
            "image": f"cases/sample/{level}_xray.nii.gz", "label": f"cases/sample/{level}_mask.nii.gz",
        }
        for level in ("T11", "T12", "L1")
    ]  # fmt: skip
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps({"test": items}))
    return tmp_path / "dataset"


def test_numbers_are_those_that_reconstruct_reports(dataset: Path, tmp_path: Path) -> None:
    main(dataset, tmp_path / "out", NetworkOptions(precision="float32"))
    rows = {row.level: row for row in read_metrics_csv(tmp_path / "out" / "metrics.csv")}
    case = dataset / "cases" / "sample"
    job = Job(case / "ap.nii.gz", case / "lat.nii.gz", annotations=case / "annotations.json")
    networks = Networks(NetworkOptions(precision="float32"))
    report = run_job(job, tmp_path / "made", networks, OutputOptions(truth=case / "labelmap.nii.gz"))
    assert [row["level"] for row in report["vertebrae"]] == ["T11", "T12"]
    for row in report["vertebrae"]:
        assert rows[row["level"]].status == "ok"
        assert rows[row["level"]].dice == pytest.approx(row["dice"], abs=1e-4)
        assert rows[row["level"]].hd95_mm == pytest.approx(row["hd95_mm"], abs=1e-2)
    assert rows["L1"].status == "missed" and rows["L1"].dice == 0
    text = (tmp_path / "out" / "assembled.md").read_text()
    assert text.startswith("1 patients, 3 vertebrae, 1 missed")
    assert "| T12 | 1, 1 |" in text and "| L1 |" not in text
    mean = (rows["T11"].dice + rows["T12"].dice) / 3
    assert f"missed ones as 0: {mean:.3f}" in text


def test_what_is_not_there_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--marks guessed: use true or found"):
        main(dataset, tmp_path / "out", NetworkOptions(), marks="guessed")
    with pytest.raises(UserError, match="none of nobody"):
        main(dataset, tmp_path / "out", NetworkOptions(), subjects=("nobody",))
    assert not (tmp_path / "out").exists()
