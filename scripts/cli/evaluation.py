"""How good networks are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.cli.arguments import json_words, optional_path, split_words
from scripts.errors import UserError


def evaluate(
    dataset: str,
    output: str,
    weights: str | None = None,
    data_list: str = "test",
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "float32",
    network_only: bool = False,
) -> None:
    """Measure a network on a prepared dataset: metrics.csv (one row a vertebra), average.csv and summary.json.

    Args:
        dataset: folder made by prepare.
        output: folder for the results.
        weights: .pt or .ts file; the bundle's own if left out.
        data_list: test, validation or training.
        device: cpu, cuda, ...
        batch_size: vertebrae at a time.
        precision: float32, bfloat16 or auto, see reconstruct.
        network_only: without tilt, steadying along the spine and fit, as the bundle's workflow measures it.
    """
    from scripts.reconstruction.metrics.evaluate import evaluate_dataset

    summary = evaluate_dataset(
        Path(str(dataset)),
        Path(str(output)),
        optional_path(weights),
        data_list,
        device,
        int(batch_size),
        str(precision),
        bool(network_only),
    )
    overall, average = summary["all"], summary["average_vertebra"]["all"]
    print(f"{overall['n_vertebrae']} vertebrae of {overall['n_subjects']} patients")
    for name in ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "nsd_2mm"):
        print(
            f"  {name:8} mean {overall[name]['mean']:.3f}  median {overall[name]['median']:.3f}"
            f"  (average vertebra {average[name]['mean']:.3f})"
        )
    print(f"  {Path(str(output)) / 'metrics.csv'}\n  {Path(str(output)) / 'summary.json'}")


def evaluate_localization(films: str, output: str, weights: str | None = None, device: str | None = None) -> None:
    """Measure the annotation network on films whose vertebrae are known.

    Args:
        films: folder made by python -m scripts.localization.films.
        output: folder for views.csv, vertebrae.csv, cases.csv, summary.json and summary.md.
        weights: .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...
    """
    from scripts.localization.evaluate import evaluate_films
    from scripts.localization.localizer import Localizer

    evaluate_films(",".join(split_words(films)), str(output), Localizer(optional_path(weights), device))
    print((Path(str(output)) / "summary.md").read_text())


def benchmark(
    output: str,
    dataset: str = "",
    models: Any = "all",
    seeds: Any = 0,
    steps: Any = "matrix,report",
    overlays: Any = (),
    overrides: Any = None,
    source: str = "",
    gpus: Any = None,
) -> None:
    """Train, score and compare ReVerteR, its ablations and its rivals; the same command again goes on where it was.

    Args:
        output: folder for runs/ and report/.
        dataset: folder made by prepare; trained on its training list, scored on its test list.
        models: names, or all, baselines, ablations; comma-separated.
        seeds: one training each, comma-separated.
        steps: of matrix, report and speed, comma-separated.
        overlays: config files between train.json and each model's own, comma-separated.
        overrides: config values for all models, as '{"max_epochs": 20}'.
        source: what the dataset was prepared from, for the curve over view angles.
        gpus: ids, comma-separated; all that there are if left out, '' for the CPU.
    """
    from scripts.benchmarks.paper.models import chosen
    from scripts.benchmarks.paper.run import run_benchmark

    if overrides is not None and not isinstance(overrides, dict):
        raise UserError(f"--overrides is a dictionary of config values, not {overrides!r}")
    report, failed = run_benchmark(
        Path(str(output)),
        dataset=str(dataset),
        models=chosen(split_words(models)),
        seeds=split_words(seeds),
        steps=split_words(steps),
        overlays=split_words(overlays),
        overrides=json_words(overrides or {}),
        source=str(source),
        gpus=None if gpus is None else split_words(gpus),
    )
    if report:
        print(report)
    for name, reason in failed.items():
        print(f"warning: {name} failed: {reason}")
    if failed:
        raise UserError(f"{len(failed)} of the trainings failed; the same command tries them again")
