"""Every bundle command as documented, from the bundle's root and from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.metrics.table import read_metrics_csv
from tests.conftest import DATA, ROOT, simulate_case

TINY = [
    "--network_def#backbone#channels", "[4,4,8,8]", "--network_def#fusion#key_stride", "8",
    "--discriminator_def#channels", "4", "--discriminator_def#num_layers_d", "2",
    "--batch_size", "2", "--num_workers", "0",
]  # fmt: skip


def bundle(command: str, *arguments: str, cwd: Path = ROOT, path: str = "") -> str:
    """Run ``python -m monai.bundle``; its output if it succeeds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-m", "monai.bundle", command, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("p1", "p2", "p3"):
        simulate_case(folder / "source", name, levels=(20, 21))
    split = SplitOptions(training=("p1",), validation=("p2",), test=("p3",))
    prepare_dataset(folder / "source", folder / "dataset", PrepareOptions(), split)
    return folder / "dataset"


def test_metadata_is_valid(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copy(DATA / "meta_schema_20240725.json", schema)
    bundle("verify_metadata", "--meta_file", "configs/metadata.json", "--filepath", str(schema))


def test_network_takes_and_gives_what_the_metadata_says() -> None:
    bundle(
        "verify_net_in_out", "--net_id", "network_def", "--meta_file", "configs/metadata.json",
        "--config_file", "configs/inference.json",
    )  # fmt: skip


def test_export_reproduces_the_shipped_torchscript(tmp_path: Path) -> None:
    """ckpt_export of model.pt, from elsewhere, gives the network in models/model.ts."""
    import torch

    target = tmp_path / "model.ts"
    bundle(
        "ckpt_export", "--net_id", "network_def", "--filepath", str(target), "--ckpt_file", f"{ROOT}/models/model.pt",
        "--meta_file", f"{ROOT}/configs/metadata.json", "--config_file", f"{ROOT}/configs/inference.json",
        cwd=tmp_path, path=str(ROOT),
    )  # fmt: skip
    image = torch.rand(1, 4, 120, 120)
    with torch.inference_mode():
        exported, shipped = (torch.jit.load(str(p)).eval()(image) for p in (target, ROOT / "models" / "model.ts"))
    assert torch.allclose(exported, shipped, atol=1e-4)


def test_preprocessing_needs_no_code_of_ours() -> None:
    """So that model.ts alone runs in MONAI Deploy."""
    config = json.loads((ROOT / "configs" / "inference.json").read_text())
    for part in ("load_transforms", "normalise_transforms", "preprocessing", "postprocessing", "inferer"):
        assert "scripts" not in json.dumps(config[part])


def test_training_and_inference_normalise_alike() -> None:
    train, inference = (json.loads((ROOT / "configs" / n).read_text()) for n in ("train.json", "inference.json"))

    def step(config: dict, target: str) -> dict:
        return next(t for t in config["normalise_transforms"] if t["_target_"] == target)

    for target in ("ScaleIntensityRangePercentilesd", "ConcatItemsd"):
        assert step(train, target) == step(inference, target)
    improved, paper = (
        json.loads((ROOT / "configs" / n).read_text()) for n in ("train_improved.json", "paper_network.json")
    )
    assert improved["network_def"] == inference["network_def"] and paper["network_def"] == train["network_def"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_train_then_evaluate_then_infer(dataset: Path, tmp_path: Path, elsewhere: bool) -> None:
    """The whole workflow; as a GAN from the root, and without adversarial learning from another folder."""
    cwd = tmp_path if elsewhere else ROOT
    configs = ROOT / "configs" if elsewhere else Path("configs")
    common = [*TINY, "--dataset_dir", str(dataset), *(["--bundle_root", str(ROOT)] if elsewhere else [])]
    trained = tmp_path / "trained"
    bundle(
        "run", "training", "--config_file", f"{configs}/train.json", *common, "--output_dir", str(trained),
        "--max_epochs", "2", "--learning_rate", "0.01", "--loss_weights#adversarial", "0" if elsewhere else "0.1",
        cwd=cwd,
    )  # fmt: skip
    assert {"model.pt", "model_final.pt", "training.csv"} <= {p.name for p in trained.iterdir()}
    header, *rows = (trained / "training.csv").read_text().splitlines()
    assert ("loss_adversarial" in header) is not elsewhere and len(rows) == 2
    weights = str(trained / "model_final.pt")
    evaluated = tmp_path / "evaluated"
    bundle(
        "run", "evaluating", "--config_file", f"['{configs}/train.json','{configs}/evaluate.json']", *common,
        "--output_dir", str(evaluated), "--ckpt_path", weights, cwd=cwd,
    )  # fmt: skip
    assert [row.level for row in read_metrics_csv(evaluated / "metrics.csv")] == ["L1", "L2"]
    assert json.loads((evaluated / "summary.json").read_text())["all"]["n_subjects"] == 1
    inferred = tmp_path / "inferred"
    without_discriminator = [a for pair in zip(common[::2], common[1::2], strict=True) for a in pair
                             if not pair[0].startswith("--discriminator")]  # fmt: skip
    bundle(
        "run", "inference", "--config_file", f"['{configs}/inference.json','{configs}/paper_network.json']",
        *without_discriminator,
        "--output_dir", str(inferred), "--ckpt_path", weights, cwd=cwd,
    )  # fmt: skip
    document = json.loads((dataset / "dataset.json").read_text())
    for item in document["test"]:
        found = list(inferred.rglob(f"{item['level']}_xray_pred.nii.gz"))
        truth = nib.load(dataset / item["label"])
        prediction = nib.load(found[0])
        assert prediction.shape == truth.shape and np.allclose(prediction.affine, truth.affine)


def test_inference_from_torchscript_gives_the_same_masks(dataset: Path, tmp_path: Path) -> None:
    common = ["run", "inference", "--config_file", "configs/inference.json", "--dataset_dir", str(dataset)]
    bundle(*common, "--output_dir", str(tmp_path / "pt"))
    bundle(
        *common, "--output_dir", str(tmp_path / "ts"), "--load_pretrain", "False",
        "--network_def", "$torch.jit.load(@bundle_root + '/models/model.ts')",
    )  # fmt: skip
    masks = sorted((tmp_path / "pt").rglob("*.nii.gz"))
    assert len(masks) == 2
    for path in masks:
        other = tmp_path / "ts" / path.relative_to(tmp_path / "pt")
        assert (nib.load(path).get_fdata() == nib.load(other).get_fdata()).all()


def test_evaluate_verb_agrees_with_the_bundle_workflow(dataset: Path, tmp_path: Path) -> None:
    from scripts.__main__ import main

    assert main(["evaluate", f"--dataset={dataset}", f"--output={tmp_path / 'verb'}"]) == 0
    bundle(
        "run", "evaluating",
        "--config_file", "['configs/train.json','configs/train_improved.json','configs/evaluate.json']",
        "--dataset_dir", str(dataset), "--output_dir", str(tmp_path / "workflow"), "--num_workers", "0",
        "--amp", "False",
    )  # fmt: skip
    rows = [read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("verb", "workflow")]
    for one, other in zip(*rows, strict=True):
        assert one.level == other.level and one.status == other.status
        assert one.dice == pytest.approx(other.dice, abs=1e-3)


def test_evaluate_counts_what_it_cannot_read(dataset: Path, tmp_path: Path) -> None:
    from scripts.__main__ import main

    spoilt = tmp_path / "dataset"
    shutil.copytree(dataset, spoilt)
    item = json.loads((spoilt / "dataset.json").read_text())["test"][0]
    (spoilt / item["image"]).write_bytes(b"no nifti")
    assert main(["evaluate", f"--dataset={spoilt}", f"--output={tmp_path / 'out'}"]) == 0
    failed = read_metrics_csv(tmp_path / "out" / "metrics.csv")[0]
    assert (
        failed.status.startswith("failed") and failed.dice == 0 and failed.hd95_mm == pytest.approx(207.846, abs=0.01)
    )
    assert main(["evaluate", f"--dataset={tmp_path}", f"--output={tmp_path / 'no'}"]) == 1
    assert main(["evaluate", f"--dataset={dataset}", f"--output={tmp_path / 'no'}", "--data_list=none"]) == 1
    assert not (tmp_path / "no").exists()
