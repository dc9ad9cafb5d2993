"""Two processes train one network and measure what one process measures."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.reconstruction.metrics.table import read_metrics_csv
from tests.conftest import ROOT, simulate_case
from tests.test_bundle import TINY


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training vertebrae and three for validation: an odd number, which two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("data")
    for name, levels in (("p1", (20, 21)), ("p2", (20, 21)), ("p3", (20, 21, 22))):
        simulate_case(folder / "source", name, levels=levels)
    split = SplitOptions(training=("p1", "p2"), validation=("p3",))
    prepare_dataset(folder / "source", folder / "dataset", PrepareOptions(), split)
    return folder / "dataset"


def run(processes: int, dataset: Path, output: Path, *options: str, workflow: str = "training") -> str:
    configs = ["configs/train.json"]
    if workflow == "evaluating":
        configs += ["configs/evaluate.json"] + (["configs/multi_gpu_evaluate.json"] if processes > 1 else [])
    elif processes > 1:
        configs += ["configs/multi_gpu_train.json"]
    launch = [sys.executable, "-m", "monai.bundle"]
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        launch += ["-m", "monai.bundle"]
    command = [*launch, "run", workflow, "--config_file", str(configs), "--dataset_dir", str(dataset)]
    command += ["--output_dir", str(output), *TINY, "--max_epochs", "1", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def validation_dice(log: str) -> float:
    line = next(line for line in log.splitlines() if "val_dice:" in line)
    return float(line.split("val_dice:")[1].split()[0])


def test_two_processes_are_as_good_as_one(dataset: Path, tmp_path: Path) -> None:
    """Without a step both must measure the same; with one, each process sees half and both end with one network."""
    still = ("--learning_rate", "0.0", "--loss_weights#adversarial", "0")
    alone = run(1, dataset, tmp_path / "alone", *still)
    together = run(2, dataset, tmp_path / "together", *still)
    assert validation_dice(together) == pytest.approx(validation_dice(alone), abs=2e-3)
    log = run(2, dataset, tmp_path / "gan", "--learning_rate", "0.01", "--batch_size", "1")
    assert 0 <= validation_dice(log) <= 1
    weights = ("--ckpt_path", str(tmp_path / "alone" / "model_final.pt"), "--data_list_key", "validation")
    tables = []
    for processes in (1, 2):
        run(processes, dataset, tmp_path / f"by_{processes}", *weights, workflow="evaluating")
        tables.append(read_metrics_csv(tmp_path / f"by_{processes}" / "metrics.csv"))
    one, two = ([replace(row, seconds=0.0) for row in table] for table in tables)
    assert len(one) == 3 and two == one
    rows = (tmp_path / "gan" / "training.csv").read_text().splitlines()
    assert len(rows) == 1 + 2  # four vertebrae over two processes of one each; written once, not twice
    stored = torch.load(tmp_path / "gan" / "model_final.pt", weights_only=True)["model"]
    assert not any(name.startswith("module.") for name in stored)
    # One process goes on where two left off.
    run(1, dataset, tmp_path / "gan", "--resume", "True", "--max_epochs", "2")
