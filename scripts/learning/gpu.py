"""Train for so many minutes with what lies in a kit: one command on a bare machine, see docs/gpu.md.

    python -m scripts.learning.gpu --network generator|level|pose|trunk|localizer --cases CASES --output OUT
        [--minutes 10] [--weights FILE] [--batch-size 64] [--learning-rate 0.0015] [--workers N] [--producers N]

Writes ``<network>.pt`` (half precision, as weights are shipped), ``training.csv`` and ``speeds.json`` into ``OUT``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.bundle import run as run_bundle

from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.documents import write_json
from scripts.io.tables import read_csv
from scripts.learning.compact import compact_file
from scripts.paths import BUNDLE_ROOT

CONFIGS = {
    "generator": ("train", "view_encoders", "dice_cross_entropy", "online", "minutes", "recipes/gpu_minutes"),
    "level": ("train", "dice_cross_entropy", "online", "minutes", "level", "recipes/gpu_minutes"),
    "pose": ("train", "online", "minutes", "level", "pose", "recipes/pose_gpu"),
    "trunk": ("train", "dice_cross_entropy", "online", "minutes", "level", "trunk", "recipes/gpu_minutes"),
    "localizer": ("train_localization", "recipes/films_minutes"),
}
# What each begins with if nothing else is given; no shipped weights fit the generator without level.
SHIPPED = {"level": "model.pt", "pose": "model.pt", "trunk": "model.pt", "localizer": "localization.pt"}
# These take what fits of their weights, the others all of them.
FROM_PARTS = ("level", "pose", "trunk")
# Columns of the log that are worth a mean over the last steps.
LAST_STEPS = 200


def train(
    network: str,
    output: Path,
    cases: tuple[Path, ...] = (Path("cases"),),
    minutes: float = 10.0,
    weights: Path | None = None,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    workers: int = 0,
    producers: int = 0,
    seed: int = 0,
) -> None:
    """Train a network for some minutes and write its weights, its losses and its speed.

    Args:
        network: of `CONFIGS`.
        output: folder.
        cases: folder of online cases, or several with commas.
        minutes: of training, all else comes on top.
        weights: to begin with; if empty the bundle's, but for ``generator``, which begins from scratch.
        batch_size: samples a step, as the overlay says if 0.
        learning_rate: the highest; as the overlay says if 0.
        workers: processes that simulate patients; as the overlay says if 0.
        producers: processes that make samples; 0 for a thread of this one.
        seed: of everything.

    Raises:
        UserError: no such network or weights.
    """
    if network not in CONFIGS:
        raise UserError(f"--network {network}: use {' or '.join(CONFIGS)}")
    start = weights or (BUNDLE_ROOT / "models" / SHIPPED[network] if network in SHIPPED else None)
    if start is not None and not start.is_file():
        raise UserError(f"{start}: no such weight file")
    final = "localization.pt" if network == "localizer" else "model_final.pt"
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    chosen: dict[str, Any] = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "workers": workers,
        ("start_weights" if network in FROM_PARTS else "init_weights"): str(start or ""),
    }
    files = [str(BUNDLE_ROOT / "configs" / f"{name}.json") for name in CONFIGS[network]]
    settings = {
        "bundle_root": str(BUNDLE_ROOT),
        "cases": [str(folder.absolute()) for folder in cases],
        "output_dir": str(work),
        "minutes": minutes,
        "seed": seed,
        **{name: value for name, value in chosen.items() if value},
    }
    if producers:
        settings = {**settings, **_produced(files, settings, producers)}
    run_bundle(run_id="training", config_file=files, **settings)
    compact_file(work / final, output / f"{network}.pt")
    shutil.copy(work / "training.csv", output / "training.csv")
    write_json(output / "speeds.json", speeds(output / "training.csv"))
    shutil.rmtree(work)


def _produced(files: list[str], settings: dict[str, Any], producers: int) -> dict[str, Any]:
    """Overrides with which several processes make the batches, and end with the training."""
    fresh = {
        "_target_": "scripts.learning.producers.ProducedBatches",
        "config_files": files,
        "overrides": settings,
        "producers": producers,
        "workers": "@workers",
        "seed": "@seed",
        "folder": "@output_dir",
        "batches": "@batches",
        "device": "@device",
    }
    return {"fresh": fresh, "pool": "@fresh"}


def speeds(log: Path) -> dict[str, Any]:
    """What a training's log says of its speed: steps, seconds a step, how many of them it waited for data."""
    rows = read_csv(log)
    last = rows[-LAST_STEPS:]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {
        "device": device,
        "processors": os.cpu_count(),
        "steps": len(rows),
        "seconds_a_step": sum(float(row["seconds"]) for row in last) / len(last),
        "of_these_waiting": sum(float(row["seconds_waiting_for_data"]) for row in last) / len(last),
        "memory_gib": round(memory, 2),
    }


if __name__ == "__main__":
    run_module(train)
