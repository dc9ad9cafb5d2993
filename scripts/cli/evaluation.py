"""How good networks are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.errors import UserError


def evaluate(
    dataset: Path,
    output: Path,
    weights: Path | None = None,
    list_: str = "test",
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "float32",
    network_only: bool = False,
) -> None:
    """Measure a network on a prepared dataset: metrics.csv (one row a vertebra), average.csv and summary.json.

    Args:
        dataset: folder made by prepare.
        output: folder for the results.
        weights: .pt or .ts file of the shipped network; the bundle's own if left out; the bundle's workflow
            "evaluating" measures those of others (docs/commands.md).
        list_: test, validation or training.
        device: cpu, cuda, ...
        batch_size: vertebrae at a time.
        precision: float32, bfloat16 (half the time where processor or GPU have it), or auto, which takes it there.
        network_only: without tilt and steadying along the spine, as the bundle's workflow measures it.
    """
    from scripts.data.datalist import size_in_words
    from scripts.reconstruction.metrics.evaluate import evaluate_dataset

    summary = evaluate_dataset(dataset, output, weights, list_, device, batch_size, precision, network_only)
    overall, average = summary["all"], summary["average_vertebra"]["all"]
    print(size_in_words(overall["n_vertebrae"], overall["n_subjects"]))
    for name in ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "nsd_2mm"):
        print(
            f"  {name:8} mean {overall[name]['mean']:.3f}  median {overall[name]['median']:.3f}"
            f"  (average vertebra {average[name]['mean']:.3f})"
        )
    print(f"  {output / 'metrics.csv'}\n  {output / 'summary.json'}")


def evaluate_localization(
    films: str,
    output: Path,
    weights: Path | None = None,
    generator_weights: Path | None = None,
    device: str | None = None,
) -> None:
    """Measure the annotation network on films whose vertebrae are known.

    Args:
        films: folder made by python -m scripts.localization.films, or several with commas between them.
        output: folder for views.csv, vertebrae.csv, cases.csv, summary.json and summary.md.
        weights: of the annotation network, .pt or .ts file; the bundle's own if left out.
        generator_weights: of the reconstruction network, which is asked for a second opinion on levels.
        device: cpu, cuda, ...
    """
    from scripts.job.options import NetworkOptions
    from scripts.job.run import Networks
    from scripts.localization.evaluate import evaluate_films
    from scripts.spine.patch_levels import PatchLevels

    networks = Networks(NetworkOptions(generator_weights, weights, device))
    evaluate_films(films, str(output), networks.localizer, PatchLevels(networks.predictor))
    print((output / "summary.md").read_text())


def benchmark(
    output: Path,
    dataset: str = "",
    models: tuple[str, ...] = ("all",),
    seeds: tuple[int, ...] | None = None,
    steps: tuple[str, ...] = ("matrix", "report"),
    overlays: tuple[str, ...] = (),
    overrides: dict[str, Any] | None = None,
    source: str = "",
    gpus: tuple[str, ...] | None = None,
) -> None:
    """Train, score and compare ReVerteR, its ablations and its rivals; the same command again goes on where it was.

    Args:
        output: folder for runs/ and report/.
        dataset: folder made by prepare; trained on its training list, scored on its test list.
        models: names, or all, baselines, ablations; comma-separated.
        seeds: one training each, comma-separated; 0 if left out, and all that are finished if nothing is trained.
        steps: of matrix, report and speed, comma-separated.
        overlays: config files between train.json and each model's own, comma-separated.
        overrides: config values for all models, as '{"max_epochs": 20}'.
        source: what the dataset was prepared from, for the curve over view angles.
        gpus: ids, comma-separated; all that there are if left out, '' for the CPU.
    """
    from scripts.benchmarks.paper.models import chosen
    from scripts.benchmarks.paper.run import run_benchmark

    report, failed = run_benchmark(
        output, dataset, chosen(models), seeds, steps, overlays=overlays, overrides=overrides, source=source, gpus=gpus
    )
    if report:
        print(report)
    for name, reason in failed.items():
        print(f"warning: {name} failed: {reason}")
    if failed:
        raise UserError(f"{len(failed)} of the trainings failed; the same command tries them again")
