"""Figure 8 of the paper, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.paper.comparison import Scores
from scripts.benchmarks.paper.disturbances import AXES
from scripts.benchmarks.paper.models import MODELS, REFERENCE
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER, level_number, region

# (kind, amount) -> model -> mean Dice
Curves = dict[tuple[str, float], dict[str, float]]
COLOURS = {"cervical": "#4c78a8", "thoracic": "#e1812c", "lumbar": "#54a24b"}


def draw_boxes(path: Path, title: str, scores: Scores) -> None:
    """Dice at each level that occurs, head to foot, with every vertebra as a dot where there are few."""
    figure = _figure((11, 4.2))
    axes = figure.subplots()
    by_level = {n: [r.dice for r in scores.rows if level_number(r.level) == n] for n in LEVEL_ORDER}
    by_level = {n: values for n, values in by_level.items() if values}
    boxes = axes.boxplot(
        list(by_level.values()),
        patch_artist=True,
        widths=0.6,
        medianprops={"color": "black"},
        flierprops={"marker": "."},
    )
    for place, (box, (number, values)) in enumerate(zip(boxes["boxes"], by_level.items(), strict=True), start=1):
        box.set_facecolor(COLOURS[region(number)])
        if len(values) < 10:
            axes.plot([place] * len(values), values, ".", color="black", markersize=4, alpha=0.6)
    names = [f"{LEVEL_NAMES[n]}\n{len(v)}" for n, v in by_level.items()]
    axes.set_xticks(range(1, len(names) + 1), names, fontsize=8)
    axes.set_ylabel("Dice")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_title(title)
    axes.set_xlabel("level, and number of vertebrae")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def draw_curves(path: Path, curves: Curves, plain: dict[str, float]) -> None:
    """Mean Dice against each disturbance, a line a model; the reference is drawn thick.

    Args:
        path: PNG to write.
        curves: means.
        plain: model -> mean Dice without disturbance.
    """
    kinds = [kind for kind in AXES if any(key[0] == kind for key in curves)]
    figure = _figure((4.6 * len(kinds) + 2.4, 4.4))
    grid = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    names = [name for name in MODELS if any(name in point for point in curves.values())]
    for axes, kind in zip(grid, kinds, strict=True):
        for index, name in enumerate(names):
            points = [(0.0, plain[name])] + [
                (k[1], v[name]) for k, v in sorted(curves.items()) if k[0] == kind and name in v
            ]
            ours = name == REFERENCE
            style: dict[str, Any] = {"color": "black", "linewidth": 2.5} if ours else _line(index)
            label = MODELS[name].title if axes is grid[-1] else None
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label, **style)
        axes.set_xlabel(AXES[kind], fontsize=8)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("mean Dice")
    grid[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _line(index: int) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "linewidth": 1.2, "linestyle": ("-", "--")[index // 10 % 2]}


def _figure(size: Sequence[float]) -> Any:
    # Here, because it takes half a second that the trainings' processes would spend for nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0], size[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
