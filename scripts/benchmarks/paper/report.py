"""The report folder, from what is there: it can be written while the matrix still runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.benchmarks.paper.clinical import clinical_table
from scripts.benchmarks.paper.comparison import Scores, check_same_vertebrae, read_scores
from scripts.benchmarks.paper.costs import measure_costs
from scripts.benchmarks.paper.disturbances import CURVES
from scripts.benchmarks.paper.figures import Curves, draw_boxes, draw_curves
from scripts.benchmarks.paper.models import REFERENCE, Model
from scripts.benchmarks.paper.plan import Plan, finished_seeds, run_folder
from scripts.benchmarks.paper.table import Table
from scripts.benchmarks.paper.tables import comparison_table, cost_table, timing_table
from scripts.data.datalist import read_datalist, read_document, size_in_words
from scripts.io.atomic import write_text
from scripts.reconstruction.metrics.table import write_metrics_csv
from scripts.reconstruction.metrics.yardstick import yardstick_rows


def write_report(output: Path, plan: Plan, models: Sequence[Model], seeds: Sequence[int], command: str) -> Path:
    """Write ``report/report.md``, its tables and its figures.

    Args:
        output: the benchmark's folder.
        plan: of the benchmark.
        models: rows.
        seeds: that were asked for.
        command: which made it.

    Returns:
        the report's path.

    Raises:
        UserError: not all were scored on the same vertebrae.
    """
    folder = output / "report"
    folder.mkdir(exist_ok=True)
    scores: dict[str, Scores] = {}
    for model in models:
        done = [seed for seed in finished_seeds(output, model.name) if seed in seeds]
        if done:
            scores[model.name] = read_scores({s: run_folder(output, model.name, s) / "plain" for s in done})
    baselines = [m for m in models if not m.is_ablation]
    ablations = [m for m in models if m.is_ablation] + [m for m in models if m.name == REFERENCE]
    average = _average(output, plan)
    check_same_vertebrae({f"{output}: the average vertebra": average, **scores})
    title = "Table 2: ReVerteR and the baselines"
    tables = [comparison_table("table2", title, baselines, scores, output, seeds, average)]
    if len(ablations) > 1:
        title = "Table 3: what ReVerteR loses without one of its parts"
        tables.append(comparison_table("table3", title, ablations, scores, output, seeds))
    pictures = []
    if REFERENCE in scores:
        draw_boxes(folder / "figure8.png", "Figure 8: ReVerteR, Dice at each level", scores[REFERENCE])
        pictures.append("figure8.png")
        tables.append(timing_table(scores[REFERENCE], machine()))
    titles = {m.name: m.title for m in models}
    curves, plain = _curves(output, scores, seeds[0])
    if curves:
        draw_curves(folder / "curves.png", curves, plain)
        pictures.append("curves.png")
        tables.append(_curve_table(curves, plain, titles))
    folders = {m.name: run_folder(output, m.name, seeds[0]) / "plain" for m in models}
    clinical = clinical_table(folders, titles)
    if clinical:
        tables.append(clinical)
    found = {model.name: measure_costs(output, plan, model) for model in models}
    tables.append(cost_table(models, found, output, seeds[0], plan))
    for table in tables:
        table.write(folder)
    text = [f"# Benchmark\n\n{_scale(plan, seeds)}\n\n```\n{command}\n```\n"]
    text += [table.markdown() for table in tables[:1]]
    text += [f"![{name}]({name})\n" for name in pictures]
    text += [table.markdown() for table in tables[1:]]
    speed = output / "speed" / "speed.md"
    if speed.is_file():
        text.append(speed.read_text())
    write_text(folder / "report.md", "\n".join(text))
    return folder / "report.md"


def _average(output: Path, plan: Plan) -> Scores:
    """What the average vertebra of each level scores on the test list; kept, since it never changes."""
    folder, dataset = output / "average", Path(plan.dataset)
    if not (folder / "metrics.csv").is_file():
        folder.mkdir(exist_ok=True)
        rows = yardstick_rows(dataset, read_document(dataset), read_datalist(dataset, "test"))
        write_metrics_csv([row for _, row in rows], folder / "metrics.csv")
    return read_scores({0: folder})


def machine() -> str:
    """What this runs on, in words that name no machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _scale(plan: Plan, seeds: Sequence[int]) -> str:
    dataset = Path(plan.dataset)
    counts = []
    for name in ("training", "test"):
        items = read_datalist(dataset, name)
        patients = len({i["subject"] for i in items})
        counts.append(f"{size_in_words(len(items), patients)} for {name.removesuffix('ing')}ing")
    options = ", ".join(f"{k} {v}" for k, v in plan.overrides.items()) or "none"
    overlays = ", ".join(plan.overlays) or "none"
    return (
        f"Size of the run: {' and '.join(counts)}; {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; "
        f"overlays: {overlays}; settings: {options}. Every network is scored on a grid of 1 mm."
    )


def _curves(output: Path, scores: dict[str, Scores], seed: int) -> tuple[Curves, dict[str, float]]:
    curves: Curves = {}
    plain = {}
    for name in scores:
        folder = run_folder(output, name, seed)
        if not (folder / "plain" / "metrics.csv").is_file():
            continue
        # The curves' own seed, so that they start where they belong.
        plain[name] = read_scores({seed: folder / "plain"}).summary["all"]["dice"]["mean"]
        for point in CURVES:
            if (folder / point.name / "metrics.csv").is_file():
                mean = read_scores({seed: folder / point.name}).summary["all"]["dice"]["mean"]
                curves.setdefault((point.kind, point.amount), {})[name] = mean
    return curves, plain


def _curve_table(curves: Curves, plain: dict[str, float], titles: dict[str, str]) -> Table:
    units = {"angle": "°", "centroid": " mm", "noise": ""}
    points = [p for p in CURVES if (p.kind, p.amount) in curves]
    columns = ["model", "undisturbed", *(f"{p.kind} {p.amount:g}{units[p.kind]}" for p in points)]
    rows = []
    for name in [n for n in titles if n in plain]:
        values = [curves[p.kind, p.amount].get(name) for p in points]
        rows.append([titles[name], f"{plain[name]:.3f}", *("-" if v is None else f"{v:.3f}" for v in values)])
    note = (
        "One seed. Angle: the lateral view is turned about the long axis, which needs the CTs (`--source`). Centroid: "
        "the marks are moved in a random direction."
    )
    return Table("curves", "Mean Dice under disturbances", columns, rows, [note])
