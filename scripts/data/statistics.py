"""What a dataset holds, as the paper shows it: its Table 1 in numbers, its Figure 6 as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from scripts.errors import UserError
from scripts.io.atomic import replace_file, write_text
from scripts.levels import LEVEL_ORDER, level_name, level_number, region

Row = Mapping[str, Any]

_QUANTITIES = ("Number of subjects", "Number of spines", "Number of vertebrae")
_REGION_COLOURS = {"cervical": "#8d6fb8", "thoracic": "#2f7fb5", "lumbar": "#c9762b"}
# More spines than this have no names beside the matrix, and rows too thin for lines between them.
_NAMED_SPINES = 60


@dataclass(frozen=True)
class DatasetCounts:
    """Table 1's three rows.

    Args:
        subjects: patients.
        spines: scans (series) of them.
        vertebrae: in all scans together.
    """

    subjects: int
    spines: int
    vertebrae: int


# Table 1 of the paper.
PAPER_COUNTS = {"full": DatasetCounts(355, 374, 4522), "small": DatasetCounts(140, 140, 1407)}


def spine_levels(rows: Iterable[Row]) -> dict[tuple[str, str], list[int]]:
    """(subject, series) -> VerSe numbers, one a vertebra; random variants of a scan are no spines of their own.

    Args:
        rows: of ``dataset.json``, each with ``subject``, ``series`` and ``level``.
    """
    spines: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if "~v" not in row["series"]:
            spines.setdefault((row["subject"], row["series"]), []).append(level_number(row["level"]))
    return spines


def count_dataset(rows: Iterable[Row]) -> DatasetCounts:
    """How many patients, scans and vertebrae the rows are of, without variants."""
    spines = spine_levels(rows)
    return DatasetCounts(len({subject for subject, _ in spines}), len(spines), sum(map(len, spines.values())))


def table1_rows(counts: DatasetCounts, subset: str) -> list[tuple[str, int, int]]:
    """(quantity, found, in the paper) for each of the table's rows.

    Args:
        counts: what was found.
        subset: ``full`` or ``small``.

    Raises:
        UserError: the paper has no such subset.
    """
    if subset not in PAPER_COUNTS:
        raise UserError(f"unknown subset '{subset}'; use {' or '.join(PAPER_COUNTS)}")
    return list(zip(_QUANTITIES, astuple(counts), astuple(PAPER_COUNTS[subset]), strict=True))


def table1_markdown(counts: DatasetCounts, subset: str) -> str:
    """Table 1 as Markdown, what was found beside what the paper has; arguments as of `table1_rows`."""
    lines = [f"| | found | paper (VerSe-{subset}) |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {found} | {paper} |" for name, found, paper in table1_rows(counts, subset)]
    return "\n".join(lines) + "\n"


def table1_csv(counts: DatasetCounts, subset: str) -> str:
    """Table 1 as CSV; arguments as of `table1_rows`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["quantity", "found", f"paper_verse_{subset}"])
    writer.writerows(table1_rows(counts, subset))
    return text.getvalue()


def level_matrix(rows: Iterable[Row]) -> tuple[list[str], np.ndarray]:
    """Which levels each spine has.

    Returns:
        names of the S spines, from the one that begins highest to the one that begins lowest, and a (S, 26) bool with
        one column a level in `LEVEL_ORDER`.
    """
    spines = spine_levels(rows)
    place = {number: i for i, number in enumerate(LEVEL_ORDER)}
    present = {key: sorted({place[number] for number in numbers}) for key, numbers in spines.items()}
    # Sorted so that spines of the same extent make one block; names only break ties.
    order = sorted(present, key=lambda key: (present[key][0], present[key][-1], key))
    matrix: np.ndarray = np.zeros((len(order), len(LEVEL_ORDER)), bool)
    for i, key in enumerate(order):
        matrix[i, present[key]] = True
    return ["_".join(part for part in key if part) for key in order], matrix


def draw_figure6(rows: Iterable[Row], path: Path, title: str) -> None:
    """Histogram of the levels above a matrix of spines x levels, as one PNG; the same rows give the same bytes.

    Args:
        rows: of ``dataset.json``.
        path: PNG to write; replaced in one step.
        title: headline.

    Raises:
        UserError: the rows have no vertebra in them.
    """
    names, matrix = level_matrix(rows)
    if not names:
        raise UserError("no vertebra to draw: the dataset is empty")
    named = len(names) <= _NAMED_SPINES
    # Inches: a named row needs room for its name; 400 thin ones share a page.
    body = max(0.2 * len(names), 0.8) if named else 7.5
    head, foot = 3.0, 1.1
    figure = Figure(figsize=(9.5, head + body + foot + 0.7), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(head, body + foot / 2))
    columns = np.arange(len(LEVEL_ORDER))
    regions = [region(number) for number in LEVEL_ORDER]
    counts = matrix.sum(0)
    above.bar(columns, counts, color=[_REGION_COLOURS[name] for name in regions])
    for column, count in enumerate(counts):
        above.annotate(str(count), (column, count), (0, 1), textcoords="offset points", ha="center", fontsize=7)
    above.set_ylabel("vertebrae")
    above.margins(y=0.12)
    above.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    above.tick_params(labelbottom=False)
    # 0 absent, 1 to 3 present, by region.
    shown = matrix * (1 + np.array([list(_REGION_COLOURS).index(name) for name in regions]))
    colours = ListedColormap(["#f2f3f5", *_REGION_COLOURS.values()])
    below.imshow(shown, cmap=colours, vmin=0, vmax=3, aspect="auto", interpolation="nearest")
    for edge in columns[1:] - 0.5:
        below.axvline(edge, color="white", linewidth=0.8)
    if named:
        for edge in np.arange(1, len(names)) - 0.5:
            below.axhline(edge, color="white", linewidth=0.8)
        below.set_yticks(range(len(names)), names, fontsize=7)
    else:
        below.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    below.set_ylabel(f"{len(names)} spines")
    below.set_xticks(columns, [level_name(number) for number in LEVEL_ORDER], fontsize=8)
    below.set_xlim(-0.5, len(LEVEL_ORDER) - 0.5)
    figure.align_ylabels()
    picture = io.BytesIO()
    # The default metadata names matplotlib's version, which would change the bytes from one to the next.
    canvas.print_png(picture, metadata={"Software": None})
    replace_file(path, picture.getvalue())


def write_statistics(folder: Path, rows: Iterable[Row], subset: str) -> None:
    """Write ``table1.md``, ``table1.csv`` and ``figure6.png``.

    Args:
        folder: an existing one.
        rows: of ``dataset.json``, of all lists that shall count.
        subset: ``full`` or ``small``: which column of the paper's table to compare with.

    Raises:
        UserError: the rows have no vertebra in them, or the paper has no such subset.
    """
    rows = list(rows)
    counts = count_dataset(rows)
    write_text(folder / "table1.md", table1_markdown(counts, subset))
    write_text(folder / "table1.csv", table1_csv(counts, subset))
    draw_figure6(rows, folder / "figure6.png", f"Vertebrae by level, VerSe-{subset} rules")
