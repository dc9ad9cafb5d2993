"""The table of `scripts.benchmarks.transfer`: Dice of each recipe in each person, over one seed or several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.io.atomic import write_text
from scripts.io.tables import markdown_table, read_csv, write_csv

# Subject -> Dice of each vertebra.
Scores = dict[str, list[float]]


def write_table(output: Path, seeds: Sequence[Path], titles: Mapping[str, str], about: str) -> None:
    """Write ``transfer.md`` and ``transfer.csv`` of the recipes that have results, and print the former.

    Of several seeds the cells are means of each seed's mean; then the standard deviation between the seeds' means over
    all vertebrae is a column too, and how many seeds a recipe has.

    Args:
        output: folder for the table.
        seeds: a folder each, with a folder ``<recipe>_results`` for each recipe.
        titles: recipe -> what it adds.
        about: the line above the table.

    Raises:
        UserError: they were not all scored on the same vertebrae.
    """
    found: dict[str, list[Scores]] = {}
    for name in titles:
        files = [folder / f"{name}_results" / "metrics.csv" for folder in seeds]
        found[name] = [_read(path) for path in files if path.is_file()]
    found = {name: scores for name, scores in found.items() if scores}
    sizes = [{subject: len(dice) for subject, dice in one.items()} for scores in found.values() for one in scores]
    if any(size != sizes[0] for size in sizes):
        raise UserError(f"{output}: its results are of different vertebrae; score them on one dataset")
    subjects = sorted(sizes[0]) if sizes else []
    rows = {name: _cells(scores, subjects, len(seeds) > 1) for name, scores in found.items()}
    several = (["SD of seeds", "seeds"], ["sd_of_seeds", "seeds"]) if len(seeds) > 1 else ([], [])
    table = markdown_table(
        ["recipe", "adds", *subjects, "all vertebrae", *several[0]],
        ([name, titles[name], *row] for name, row in rows.items()),
    )
    text = "\n".join([f"{about}{'; means over seeds' if len(seeds) > 1 else ''}.", "", *table])
    write_text(output / "transfer.md", f"{text}\n")
    columns = ["recipe", *subjects, "all", *several[1]]
    write_csv(output / "transfer.csv", columns, ([name, *row] for name, row in rows.items()))
    print(text)


def _cells(scores: Sequence[Scores], subjects: Sequence[str], several: bool) -> list[str]:
    means = [[np.mean(one[subject]) for subject in subjects] for one in scores]
    overall = [np.mean([value for dice in one.values() for value in dice]) for one in scores]
    cells = [f"{value:.3f}" for value in (*np.mean(means, axis=0), np.mean(overall))]
    if several:
        cells += [f"{np.std(overall, ddof=1):.3f}" if len(overall) > 1 else "-", str(len(overall))]
    return cells


def _read(path: Path) -> Scores:
    dice: Scores = defaultdict(list)
    for row in read_csv(path):
        dice[row["subject"]].append(float(row["dice"]))
    return dict(dice)
