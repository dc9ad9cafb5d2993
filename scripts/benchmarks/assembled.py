"""Whole patients of a prepared dataset as `reconstruct` makes them, measured in the assembled spine.

    python -m scripts.benchmarks.assembled --dataset DATASET --output FOLDER [--marks true|found] [--weights FILE]
        [--localizer-weights FILE] [--precision auto|float32|bfloat16] [--list test] [--subjects A,B]

`evaluate` measures vertebrae alone, each in its cube. Here films and marks go through the whole road: patches along
the line of the marks, overlaps resolved, one labelmap. With ``--marks found`` the marks are the annotation network's.
Writes ``metrics.csv``, ``average.csv`` (the average vertebra at the same marks) and ``assembled.md``: by region and by
level with intervals, patients drawn with replacement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.anatomy.shapes import library_subjects
from scripts.benchmarks.model_card import group_table, interval, table
from scripts.command import run_module
from scripts.data.datalist import read_datalist
from scripts.errors import UserError
from scripts.films.options import ReadingOptions
from scripts.geometry.leaning import spine_leans
from scripts.job.options import Job, NetworkOptions
from scripts.job.output import read_truth
from scripts.job.run import Networks, find_marks, read_job_films, reconstruct_job
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER, level_number
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import MetricsRow, metrics_row, write_metrics_csv
from scripts.reconstruction.metrics.yardstick import average_vertebra
from scripts.spine.reconstruction import Reconstruction

MARKS = ("true", "found")
MISSED = "missed"


def reconstruct_case(case: Path, networks: Networks, marks: str) -> Reconstruction | None:
    """The spine of one prepared patient; None if the annotation network finds nothing that can be reconstructed."""
    geometry, annotations = case / "geometry.json", case / "annotations.json"
    job = Job(
        case / "ap.nii.gz",
        case / "lat.nii.gz",
        annotations=annotations if marks == "true" else None,
        reading=ReadingOptions(geometry if geometry.is_file() else None),
    )
    try:
        films = read_job_films(job)
        return reconstruct_job(job, films, find_marks(job, films, networks), networks)[1]
    except UserError:
        if marks == "true":
            raise
        return None


def average_rows(case: Path, items: list[dict[str, Any]], result: Reconstruction | None) -> list[MetricsRow]:
    """What the average vertebra of each level scores at the same marks."""
    if result is None:
        return []
    truth = read_truth(case / "labelmap.nii.gz", result.grid)
    places = {vertebra.level: i for i, vertebra in enumerate(result.vertebrae)}
    marks = np.array([vertebra.cube.body_centroid_mm for vertebra in result.vertebrae])
    leans, rows = spine_leans(marks, sagittal_share=1.0), []
    for item in items:
        level = level_number(item["level"])
        if level in places:
            place = places[level]
            own = library_subjects(str(item["subject"]))
            mask = average_vertebra(level, result.grid.to_index(marks[place]), result.grid, leans[place], without=own)
            rows.append(metrics_row(item, vertebra_metrics(mask, truth == level), 0.0, "ok"))
    return rows


def measured(case: Path, items: list[dict[str, Any]], result: Reconstruction | None) -> list[MetricsRow]:
    """A row for each of a patient's listed vertebrae; one that has no mark of its name is missed, with Dice 0."""
    rows = []
    made = set() if result is None else {vertebra.level for vertebra in result.vertebrae}
    truth = None if result is None else read_truth(case / "labelmap.nii.gz", result.grid)
    for item in items:
        level = level_number(item["level"])
        if result is None or truth is None or level not in made:
            nothing = vertebra_metrics(None, np.ones((1, 1, 1), bool))
            rows.append(metrics_row(item, nothing, 0.0, MISSED))
            continue
        found = result.labels == level
        rows.append(metrics_row(item, vertebra_metrics(found, truth == level), 0.0, "ok" if found.any() else "empty"))
    return rows


def level_table(rows: list[MetricsRow]) -> list[str]:
    """A line a level, head to foot."""
    groups: dict[str, list[MetricsRow]] = {LEVEL_NAMES[number]: [] for number in LEVEL_ORDER}
    for row in rows:
        groups[row.level].append(row)
    return group_table("level", groups, ("dice", "hd95_mm"), digits_mm=1)


def main(
    dataset: Path,
    output: Path,
    networks: NetworkOptions,
    marks: str = "true",
    list_: str = "test",
    subjects: tuple[str, ...] = (),
) -> None:
    """Measure, write and print.

    Args:
        dataset: folder made by prepare.
        output: folder for the results.
        networks: which are measured.
        marks: true, those of the dataset, or found, those of the annotation network.
        list_: test, validation or training.
        subjects: patients to take, comma-separated; all of the list if left out.

    Raises:
        UserError: no such list or marks, or a patient's files cannot be read.
    """
    if marks not in MARKS:
        raise UserError(f"--marks {marks}: use {' or '.join(MARKS)}")
    cases: dict[Path, list[dict[str, Any]]] = {}
    for item in read_datalist(dataset, list_):
        if not subjects or item["subject"] in subjects:
            cases.setdefault((dataset / item["label"]).parent, []).append(item)
    if not cases:
        raise UserError(f"{dataset}: none of {', '.join(subjects)} is in its list '{list_}'")
    loaded = Networks(networks)
    rows, average = [], []
    for case, items in tqdm(cases.items(), unit="patient"):
        result = reconstruct_case(case, loaded, marks)
        rows += measured(case, items, result)
        average += average_rows(case, items, result)
    output.mkdir(parents=True, exist_ok=True)
    write_metrics_csv(rows, output / "metrics.csv")
    write_metrics_csv(average, output / "average.csv")
    there = [row for row in rows if row.status != MISSED]
    lines = [f"{len(cases)} patients, {len(rows)} vertebrae, {len(rows) - len(there)} missed", ""]
    if there:
        lines += [*table(there), "", "The average vertebra of each level at the same marks:", "", *table(average)]
        lines += ["", *level_table(there)]
    if len(there) < len(rows):
        lines += ["", "Dice with missed ones as 0: {:.3f} ({:.3f}-{:.3f})".format(*interval(rows, "dice"))]
    (output / "assembled.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    run_module(main)
