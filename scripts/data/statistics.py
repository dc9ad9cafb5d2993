"""What a dataset holds: the paper's Table 1 and Figure 6 for the data at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scripts.data.subset import SUBSETS, SpineRecord, SubsetOptions, why_dropped
from scripts.io.atomic import write_text
from scripts.io.documents import write_json
from scripts.io.tables import markdown_table
from scripts.levels import LEVEL_ORDER, level_name, region

TABLE_FILE, TABLE_VALUES_FILE, FIGURE_FILE = "table1.md", "table1.json", "figure6.png"
_COLOURS = {"cervical": "#4c78a8", "thoracic": "#59a14f", "lumbar": "#e17c3a"}


@dataclass(frozen=True)
class Counts:
    """Size of a subset.

    Args:
        subjects: patients.
        spines: series.
        vertebrae: with a mask, those that the field of view cuts included.
    """

    subjects: int
    spines: int
    vertebrae: int


# ReVerteR, Table 1.
PAPER = {"full": Counts(355, 374, 4522), "small": Counts(140, 140, 1407)}


def write_statistics(folder: Path, spines: list[SpineRecord], options: SubsetOptions) -> None:
    """``table1.md``, ``table1.json`` and ``figure6.png``: both subsets, whichever of them the dataset is.

    Args:
        folder: of the dataset.
        spines: every spine that could be prepared.
        options: whose lists of metal count here too.
    """
    chosen = {name: [s for s in spines if not why_dropped(s, replace(options, subset=name))] for name in SUBSETS}
    found = {name: count(members) for name, members in chosen.items()}
    values = {name: {"found": asdict(found[name]), "paper": asdict(PAPER[name])} for name in SUBSETS}
    write_json(folder / TABLE_VALUES_FILE, values)
    write_text(folder / TABLE_FILE, table(found))
    draw_levels(folder / FIGURE_FILE, chosen)


def count(spines: list[SpineRecord]) -> Counts:
    """Subjects, spines and vertebrae of a list of spines."""
    return Counts(len({s.subject for s in spines}), len(spines), sum(len(s.levels) for s in spines))


def table(found: dict[str, Counts]) -> str:
    """Table 1 in Markdown, what was found beside the paper's numbers."""
    columns = ["", *(title for name in SUBSETS for title in (f"VerSe-{name}, found", "paper"))]
    rows = [
        [what, *(getattr(counts[name], what) for name in SUBSETS for counts in (found, PAPER))]
        for what in ("subjects", "spines", "vertebrae")
    ]
    return "\n".join(markdown_table(columns, rows)) + "\n"


def level_matrix(spines: list[SpineRecord]) -> np.ndarray:
    """Spines x levels: (N, 26) bool, columns from head to foot, rows by their first and last level."""
    column = {number: i for i, number in enumerate(LEVEL_ORDER)}
    rows = sorted((sorted(column[n] for n in spine.levels), spine.case) for spine in spines)
    matrix: np.ndarray = np.zeros((len(rows), len(LEVEL_ORDER)), bool)
    for row, (columns, _) in zip(matrix, rows, strict=True):
        row[columns] = True
    return matrix


def draw_levels(path: Path, chosen: dict[str, list[SpineRecord]]) -> None:
    """Figure 6: how often each level occurs, and which spine has which; the same spines give the same bytes.

    Args:
        path: PNG to write.
        chosen: name of a subset -> its spines.
    """
    # Here, because it takes half a second that the processes which prepare the cases would spend for nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [level_name(number) for number in LEVEL_ORDER]
    regions = [region(number) for number in LEVEL_ORDER]
    colours = [_COLOURS[name] for name in regions]
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(chosen), squeeze=False, sharex=True, height_ratios=(2, 3))
    for (above, below), (name, spines) in zip(axes.T, chosen.items(), strict=True):
        matrix = level_matrix(spines)
        numbers = matrix.sum(0)
        bars = above.bar(range(len(names)), numbers, color=colours)
        above.bar_label(bars, labels=[str(n) if n else "" for n in numbers], fontsize=7)
        above.set_title(f"{name}: {len(spines)} spines, {int(numbers.sum())} vertebrae")
        above.set_ylabel("vertebrae")
        # One colour a region, 0 for levels that a spine does not show.
        code = np.array([1 + list(_COLOURS).index(name) for name in regions])
        if len(matrix):
            shades = ListedColormap(["#f2f2f2", *_COLOURS.values()])
            place = (-0.5, len(names) - 0.5, len(matrix), 0)
            below.imshow(
                matrix * code, cmap=shades, vmin=0, vmax=3, aspect="auto", interpolation="nearest", extent=place
            )
        below.set_ylabel("spines")
        for axis in (above, below):
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        below.set_xlim(-0.6, len(names) - 0.4)
        below.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    # Without the program's version in it, the same dataset gives the same file for longer.
    figure.savefig(path, dpi=90, metadata={"Software": None})
