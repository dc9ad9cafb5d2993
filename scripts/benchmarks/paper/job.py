"""One model, one seed, in a process of its own: train (or go on), then score.

    python -m scripts.benchmarks.paper.job --output BENCHMARK --model NAME --seed N [--curves]

`scripts.benchmarks.paper.matrix` starts these; one can be started by hand as well, say by a cluster's scheduler.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import torch
from monai.bundle import run as run_bundle

from scripts.benchmarks.paper.disturbances import CURVES, write_tilted_films
from scripts.benchmarks.paper.models import MODELS, Model
from scripts.benchmarks.paper.plan import Plan, check_content, read_plan, run_folder
from scripts.benchmarks.paper.scoring import Reconstructor, score
from scripts.command import run_module
from scripts.data.datalist import read_datalist, truth_only
from scripts.errors import UserError, reason_of
from scripts.io.atomic import write_text
from scripts.io.documents import write_json
from scripts.io.locks import only_writer
from scripts.io.tables import read_csv
from scripts.jobs import end_with_parent
from scripts.learning.checkpoint import checkpoints, load_checkpoint
from scripts.learning.handlers import save_weights
from scripts.paths import BUNDLE_ROOT


def train_and_score(output: Path, model: str, seed: int, curves: bool = False) -> None:
    """Train one model with one seed, or go on, and score it; finished parts are kept.

    Args:
        output: folder of a benchmark that was started.
        model: name.
        seed: of the training.
        curves: score under disturbances too.

    Raises:
        UserError: the dataset was prepared anew since the benchmark was started.
        Exception: whatever stopped it; the reason is in ``failed.txt``.
    """
    plan = read_plan(output)
    check_content(output, plan)
    folder = run_folder(output, model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        (folder / "failed.txt").unlink(missing_ok=True)
        try:
            _train(plan, MODELS[model], seed, folder / "training")
            # A training takes long.
            check_content(output, plan)
            _score(plan, MODELS[model], folder, output, curves)
        except Exception as error:
            # Here, because the output ends with what MONAI and the progress bar say of it.
            write_text(folder / "failed.txt", f"{_in_one_line(error)}\n")
            raise


def training_options(plan: Plan, seed: int, folder: Path) -> dict[str, Any]:
    """Config values of a training: the overrides, and what `scripts.benchmarks.paper.overrides.RESERVED` names.

    Validation would choose nothing and cost each model a share of its time: it never runs, and its list, which may be
    empty, is not read.

    Args:
        plan: of the benchmark.
        seed: of the training.
        folder: for its files.
    """
    return {
        **plan.overrides,
        "bundle_root": str(BUNDLE_ROOT),
        "dataset_dir": plan.dataset,
        "output_dir": str(folder),
        "seed": seed,
        "resume": True,
        "val_interval": 10**9,
        "validate#dataset#data": [],
    }


def _train(plan: Plan, model: Model, seed: int, folder: Path) -> None:
    """One training; complete if its final weights are there."""
    if (folder / "model_final.pt").is_file():
        return
    options = training_options(plan, seed, folder)
    run_bundle(run_id="training", config_file=plan.configs(model), logging_file=False, **options)
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if not (folder / "model_final.pt").is_file():
        # Killed after its last checkpoint: the weights are there, the file that holds them alone is not.
        state = load_checkpoint(checkpoints(folder)[0])["generator"]
        save_weights(state, folder / "model_final.pt")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steps = read_csv(folder / "training.csv")
    facts = {
        "steps": len(steps),
        "seconds": round(sum(float(row["seconds"]) for row in steps), 1),
        "device": torch.cuda.get_device_name() if memory else "cpu",
        "peak_memory_mib": round((memory or resident) / 2**20),
        "peak_memory_of": "GPU" if memory else "process",
    }
    write_json(folder / "facts.json", facts)


def _score(plan: Plan, model: Model, folder: Path, output: Path, curves: bool) -> None:
    parser, device = plan.parser(model), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = parser.get_parsed_content("network_def")
    weights = torch.load(folder / "training" / "model_final.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(weights["model"])
    reconstruct, dataset = Reconstructor(network, parser, device), Path(plan.dataset)
    items = truth_only(read_datalist(dataset, "test"))
    score(reconstruct, dataset, items, folder / "plain")
    for disturbance in CURVES if curves else ():
        images = None
        if disturbance.kind == "angle":
            if not plan.source:
                continue
            images = output / "tilted" / disturbance.name
            images.parent.mkdir(exist_ok=True)
            with only_writer(images.parent, patience_s=3600):
                write_tilted_films(plan.source, dataset, items, disturbance.amount, images)
        score(reconstruct, dataset, items, folder / disturbance.name, disturbance, images)


def _in_one_line(error: Exception) -> str:
    reason = reason_of(error)
    words = " ".join(str(reason).split())
    return (words if isinstance(reason, UserError) else f"{type(reason).__name__}: {words}")[:300]


if __name__ == "__main__":
    # A benchmark that is killed leaves no training behind that writes where the next one does.
    end_with_parent(os.getppid())
    run_module(train_and_score)
