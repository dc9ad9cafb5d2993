"""The verb ``benchmark``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.paper.disturbances import check_tiltable
from scripts.benchmarks.paper.matrix import run_matrix, visible_gpus
from scripts.benchmarks.paper.models import Model
from scripts.benchmarks.paper.overrides import check_overrides
from scripts.benchmarks.paper.plan import FILE, Plan, check_content, finished_seeds, read_plan, write_plan
from scripts.benchmarks.paper.report import machine, write_report
from scripts.benchmarks.paper.speed import speed_table
from scripts.data.building import dataset_digest
from scripts.data.datalist import read_datalist
from scripts.errors import UserError

STEPS = ("matrix", "speed", "report")


def run_benchmark(
    output: Path,
    dataset: str,
    models: Sequence[Model],
    seeds: Sequence[int] | None,
    steps: Sequence[str],
    overlays: Sequence[str] = (),
    overrides: dict[str, Any] | None = None,
    source: str = "",
    gpus: Sequence[str] | None = None,
) -> tuple[Path | None, dict[str, str]]:
    """Train and score every model with every seed, and write the report: the steps that are asked for.

    A started benchmark knows its dataset and settings; without a dataset they are taken from there. Without seeds 0 is
    trained; where nothing is to be trained, all finished ones are taken.

    Returns:
        the report's path, if it was asked for, and which trainings failed.

    Raises:
        UserError: an unknown step, seeds that are not numbers, a dataset that cannot be used, a folder of another kind.
    """
    unknown = sorted(set(steps) - set(STEPS))
    if unknown or not steps:
        raise UserError(f"unknown step '{', '.join(unknown)}'; there are {', '.join(STEPS)}")
    if seeds is not None and (not seeds or min(seeds) < 0):
        raise UserError("--seeds are whole numbers from 0 on, at least one")
    if dataset:
        folder = Path(dataset).absolute()
        for name in ("training", "test"):
            read_datalist(folder, name)
        if source:
            check_tiltable(folder, read_datalist(folder, "test"))
        content = dataset_digest(folder)
        plan = Plan(str(folder), tuple(overlays), overrides or {}, _absolute(source), content)
        check_overrides(plan)
        for model in models:
            plan.parser(model)
        write_plan(output, plan)
    elif (output / FILE).is_file():
        plan = read_plan(output)
        check_content(output, plan)
    else:
        raise UserError(f"{output}: no benchmark was started there; it needs --dataset")
    output = output.absolute()
    if seeds is None:
        done = sorted({seed for model in models for seed in finished_seeds(output, model.name)})
        seeds = done if done and "matrix" not in steps else [0]
    failed = run_matrix(output, models, seeds, visible_gpus() if gpus is None else gpus) if "matrix" in steps else {}
    if "speed" in steps:
        (output / "speed").mkdir(exist_ok=True)
        speed_table(output, plan, models, seeds[0], machine()).write(output / "speed")
    report = None
    if "report" in steps:
        report = write_report(output, plan, models, seeds, _command(plan, models, seeds))
    return report, failed


def _absolute(source: str) -> str:
    """Several sources have commas between them."""
    return ",".join(str(Path(part).absolute()) for part in source.split(",") if part)


def _command(plan: Plan, models: Sequence[Model], seeds: Sequence[int]) -> str:
    """What makes the same again; folders by their own names only."""
    words = ["python -m scripts benchmark", f"--dataset {Path(plan.dataset).name}", "--output OUTPUT"]
    words += [f"--models {','.join(m.name for m in models)}", f"--seeds {','.join(map(str, seeds))}"]
    if plan.overlays:
        words.append(f"--overlays {','.join(plan.overlays)}")
    if plan.overrides:
        words.append(f"--overrides {shlex.quote(json.dumps(plan.overrides))}")
    if plan.source:
        words.append(f"--source {','.join(Path(part).name for part in plan.source.split(','))}")
    return " ".join(words)
