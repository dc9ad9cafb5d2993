"""Two processes train one network and measure what one process measures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.learning import distributed
from scripts.learning.checkpoint import checkpoints, load_checkpoint
from scripts.reconstruction.metrics.table import read_metrics_csv
from tests.bundle_command import tiny
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


def logged(folder: Path) -> list[str]:
    """The lines of a training's log, one a step, without the header."""
    return (folder / "training.csv").read_text().splitlines()[1:]


def test_two_processes_measure_what_one_does(dataset: Path, tmp_path: Path) -> None:
    still = ("--learning_rate", "0.0", "--loss_weights#adversarial", "0")
    alone = run(1, dataset, tmp_path / "alone", *still)
    together = run(2, dataset, tmp_path / "together", *still)
    assert validation_dice(together) == pytest.approx(validation_dice(alone), abs=2e-3)
    # Two vertebrae a batch: two steps of one process, one of two processes; written once, not twice.
    assert (len(logged(tmp_path / "alone")), len(logged(tmp_path / "together"))) == (2, 1)
    weights = ("--ckpt_path", str(tmp_path / "alone" / "model_final.pt"), "--data_list_key", "validation")
    tables = []
    for processes in (1, 2):
        run(processes, dataset, tmp_path / f"by_{processes}", *weights, workflow="evaluating")
        tables.append(read_metrics_csv(tmp_path / f"by_{processes}" / "metrics.csv"))
    one, two = ([replace(row, seconds=0.0) for row in table] for table in tables)
    assert len(one) == 3 and two == one


def test_two_processes_train_one_network_which_one_process_trains_on(dataset: Path, tmp_path: Path) -> None:
    """Each process sees other vertebrae and, for this test, writes its own network: their parameters are the same."""
    own = ("--is_writer", "True", "--output_dir", f"${str(tmp_path)!r} + '/' + os.environ.get('RANK', '0')")
    run(2, dataset, tmp_path, "--learning_rate", "0.01", "--batch_size", "1", *own)
    first, second = (torch.load(tmp_path / rank / "model_final.pt", weights_only=True)["model"] for rank in "01")
    # Batch statistics are each process's own on CPUs: that they differ shows that the processes saw other vertebrae.
    statistics = {name for name in first if "running" in name}
    assert statistics and any(not torch.equal(first[name], second[name]) for name in statistics)
    parameters = first.keys() - statistics
    assert parameters and all(torch.equal(first[name], second[name]) for name in parameters)
    assert not any(name.startswith("module.") for name in first)
    before = logged(tmp_path / "0")
    run(1, dataset, tmp_path / "0", "--learning_rate", "0.01", "--resume", "True", "--max_epochs", "2")
    after = logged(tmp_path / "0")
    assert after[:2] == before and [row.split(",")[:2] for row in after] == [
        ["1", "1"],
        ["1", "2"],
        ["2", "3"],
        ["2", "4"],
    ]
    last = load_checkpoint(checkpoints(tmp_path / "0")[0])
    assert {state["step"].item() for state in last["optimizer"]["state"].values()} == {4}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[None]:
    """This process as the only one of a group: what it waits for is what several would wait for."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    distributed.stop()


def test_the_shipped_network_learns_in_several_processes(processes: None) -> None:
    """Its second step waited for gradients of parts that do not learn, and its weights were looked for in a wrapper."""
    parser = ConfigParser()
    parser.read_config([ROOT / "configs" / f"{name}.json" for name in ("train", "level", "multi_gpu_train")])
    parser.update(tiny(parser["network_def"]))
    parser.update({"train#handlers": parser["train#handlers"][-1:], "start_weights": str(ROOT / "models" / "model.pt")})
    network = parser.get_parsed_content("network").train()
    (begin,) = parser.get_parsed_content("train#handlers")
    engine = Engine(lambda *_: network(torch.rand(1, 4, 120, 120), level=torch.tensor([20])).mean().backward())
    begin.attach(engine)
    engine.run([0, 1], max_epochs=1)
    assert network.module.prior.table.any()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.fixture
def third_gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """As ``torchrun`` starts the third process on a machine with GPUs; nothing of a GPU can be done."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    return torch.device("cuda", 2)


def test_each_process_has_a_gpu_of_its_own(third_gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.local_device() == third_gpu
    done: list[object] = []
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", done.append)
    distributed.start()
    assert done == [third_gpu, "nccl"]


def test_gpus_share_their_batch_statistics(third_gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda network, **options: (network, options))
    network, options = distributed.parallel(torch.nn.Sequential(torch.nn.BatchNorm3d(2)), third_gpu)
    assert isinstance(network[0], torch.nn.SyncBatchNorm)
    assert options == {"device_ids": [third_gpu], "broadcast_buffers": False}
