"""Tables 2, 3 and 4 of the paper with our numbers beside its own, and what each network costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.benchmarks.paper.comparison import Scores, half_interval, holm, paired_p
from scripts.benchmarks.paper.models import MODELS, PRINTED_SECONDS, PRINTED_SPINE_SECONDS, REFERENCE, Model
from scripts.benchmarks.paper.plan import Plan, failure, run_folder
from scripts.benchmarks.paper.table import Table
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER
from scripts.reconstruction.metrics.table import METRICS

HEADINGS = {
    "dice": "Dice",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
    "nsd_1mm": "NSD 1 mm",
    "nsd_2mm": "NSD 2 mm",
}
PRINTED = ("paper, VerSe-full: Dice / HD95 / NSD", "paper, VerSe-small: Dice / HD95 / NSD")
TESTED = ("dice", "hd95_mm", "nsd_1mm")


def comparison_table(
    name: str,
    title: str,
    models: Sequence[Model],
    scores: dict[str, Scores],
    output: Path,
    seeds: Sequence[int],
    average: Scores | None = None,
) -> Table:
    """Table 2 or 3: a row a model, also for those that have no scores, and the paper's numbers marked as such.

    Args:
        name: of its files.
        title: of the table.
        models: rows, the reference last.
        scores: model -> scores.
        output: the benchmark's folder, for reasons of failures.
        seeds: that were asked for.
        average: of the average vertebra, which is a row of its own, the first.
    """
    reference = scores.get(REFERENCE)
    rivals = [m for m in models if m.name != REFERENCE and m.name in scores]
    unit, p_values = "", {}
    for metric in TESTED:
        tests = [paired_p(scores[m.name], reference, metric) if reference else (None, "") for m in rivals]
        unit = tests[0][1] if tests else ""
        corrected = holm([p for p, _ in tests])
        p_values.update({(m.name, metric): p for m, p in zip(rivals, corrected, strict=True)})
    columns = ["model", *(f"{HEADINGS[m]}{' (p)' if m in TESTED else ''}" for m in METRICS)]
    columns += ["empty or failed", "seeds", *PRINTED]
    rows = []
    if average is not None:
        cells = [_mean(average.summary["all"][m]["mean"], half_interval(average.summary["all"], m)) for m in METRICS]
        rows.append(
            ["average vertebra at the mark, no film", *cells, f"{average.bad} of {len(average.rows)}", "", "-", "-"]
        )
    for model in models:
        printed = [" / ".join(f"{v:g}" for v in numbers) for numbers in model.printed] if model.printed else ["-", "-"]
        if model.name not in scores:
            reason = failure(output, model.name, seeds) or "not run"
            rows.append([model.title, f"failed: {reason}" if reason != "not run" else reason, *[""] * 6, *printed])
            continue
        summary = scores[model.name].summary["all"]
        cells = []
        for metric in METRICS:
            cell = _mean(summary[metric]["mean"], half_interval(summary, metric))
            if metric in TESTED and model.name != REFERENCE:
                cell += f" ({_p(p_values[model.name, metric])})"
            cells.append(cell)
        found = scores[model.name]
        results = len(found.rows) * len(found.seeds)
        rows.append([model.title, *cells, f"{found.bad} of {results}", str(len(found.seeds)), *printed])
    return Table(name, title, columns, rows, _notes(unit, scores))


def _notes(unit: str, scores: dict[str, Scores]) -> list[str]:
    notes = [
        "Mean ± half the 95 % interval over resampled patients; each vertebra is first averaged over the seeds. "
        "Empty and failed vertebrae count as Dice 0, NSD 0 and the cube's diagonal.",
        "The columns marked 'paper' are copied from the paper's Tables 2 and 3. Data, training and the definition "
        "of NSD differ, so single numbers cannot be compared.",
    ]
    if unit:
        notes.append(
            f"(p): two-sided Wilcoxon signed-rank test against ReVerteR over {unit}, with Holm's correction "
            "within the column."
            + (
                " With fewer than six patients the pairs are vertebrae, alike within a patient: p is too small."
                if unit == "vertebrae"
                else ""
            )
        )
    spread = [f"{MODELS[name].title} {s.spread['dice']:.4f}" for name, s in scores.items() if s.spread]
    if spread:
        notes.append(f"Standard deviation of Dice over seeds: {', '.join(spread)}.")
    return notes


def timing_table(scores: Scores, machine: str) -> Table:
    """Table 4: seconds a vertebra by level, the paper's beside ours."""
    timed = [row for row in scores.rows if row.seconds > 0]
    names = [LEVEL_NAMES[number] for number in LEVEL_ORDER]
    ours = {name: _mean_seconds([row.seconds for row in timed if row.level == name]) for name in names}
    rows = [[name, ours[name], f"{PRINTED_SECONDS[name]:.4f}"] for name in names]
    seconds = [row.seconds for row in timed]
    rows.append(["mean", _mean_seconds(seconds), f"{np.mean(list(PRINTED_SECONDS.values())):.4f}"])
    spine = f"{_mean_seconds(seconds, 26)} (26 times the mean)"
    rows.append(["whole spine", spine, f"{PRINTED_SPINE_SECONDS:.4f}"])
    notes = [f"Ours: {machine}, one vertebra at a time, patches to mask. The paper's: an RTX 4090, on VerSe-full."]
    if len(timed) < len(scores.rows):
        notes.append(f"Vertebrae that could not be read are left out: {len(scores.rows) - len(timed)}.")
    return Table("table4", "Table 4: seconds for each position", ["position", "ours", "paper"], rows, notes)


def cost_table(
    models: Sequence[Model], costs: dict[str, dict[str, float | str]], output: Path, seed: int, plan: Plan
) -> Table:
    """Parameters, FLOPs and memory of every network, and what its training took.

    Args:
        models: rows.
        costs: model -> its parameters, FLOPs and memory, or ``failed`` with a reason.
        output: the benchmark's folder.
        seed: whose training is looked at.
        plan: of the benchmark.
    """
    columns = [
        "model",
        "parameters M",
        "GFLOP",
        "memory of inference MiB",
        "peak memory of training MiB",
        "s per step",
        "steps",
    ]
    rows, places = [], set()
    for model in models:
        cost = costs[model.name]
        if "failed" in cost:
            rows.append([model.title, f"failed: {cost['failed']}", *[""] * 5])
            continue
        path = run_folder(output, model.name, seed) / "training" / "facts.json"
        trained = ["-"] * 3
        if path.is_file():
            facts = json.loads(path.read_text())
            places.add(f"{facts['device']} (memory of the {facts['peak_memory_of']})")
            trained = [f"{facts['peak_memory_mib']}", f"{facts['seconds'] / facts['steps']:.2f}", str(facts["steps"])]
        network = [f"{float(cost['parameters']) / 1e6:.2f}", f"{cost['gflop']:.4g}", str(cost["inference_memory_mib"])]
        rows.append([model.title, *network, *trained])
    sizes = sorted({str(c["patch_size"]) for c in costs.values() if "patch_size" in c})
    device = sorted({str(c["device"]) for c in costs.values() if "device" in c})
    notes = [
        f"One vertebra, patches of {', '.join(sizes)} pixels, padding included. GFLOP: matrix products and "
        f"convolutions; a multiplication and an addition count as one operation each. Memory of inference: beyond the "
        f"weights, on {', '.join(device)}.",
        f"Trained on: {', '.join(sorted(places)) or 'nothing yet'}.",
    ]
    return Table("costs", "What each network costs", columns, rows, notes)


def _mean_seconds(seconds: Sequence[float], times: int = 1) -> str:
    return f"{times * float(np.mean(seconds)):.4f}" if seconds else "-"


def _mean(value: float, half: float | None) -> str:
    digits = 3 if value < 2 else 2
    return f"{value:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def _p(value: float | None) -> str:
    if value is None:
        return "p -"
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"
