"""One row a vertebra, and what the rows say together."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import UserError
from scripts.io.documents import write_json
from scripts.io.tables import write_csv
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER, REGIONS, level_number, region
from scripts.reconstruction.metrics.intervals import DRAWS, interval_95
from scripts.reconstruction.metrics.surface import VertebraMetrics

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "nsd_2mm")


@dataclass(frozen=True)
class MetricsRow:
    """A vertebra's line in ``metrics.csv``; the fields are the columns.

    Args:
        subject: patient.
        series: of the patient.
        level: its name.
        dice: overlap, 0 to 1.
        hd95_mm: 95th percentile of the surface distance, mm.
        assd_mm: mean surface distance, mm.
        nsd_1mm: share of both surfaces within 1 mm of the other.
        nsd_2mm: share of both surfaces within 2 mm of the other.
        clipped_fraction: share of the true mask outside its cube.
        seconds: for its prediction.
        status: ``ok``, ``empty`` or ``failed: reason``.
    """

    subject: str
    series: str
    level: str
    dice: float
    hd95_mm: float
    assd_mm: float
    nsd_1mm: float
    nsd_2mm: float
    clipped_fraction: float
    seconds: float
    status: str


def metrics_row(item: dict[str, Any], metrics: VertebraMetrics, seconds: float, status: str) -> MetricsRow:
    """A row for an item of a data list (`scripts.data.vertebrae.VertebraItem` as a dictionary)."""
    return MetricsRow(
        subject=str(item["subject"]),
        series=str(item["series"]),
        level=str(item["level"]),
        **asdict(metrics),
        clipped_fraction=float(item["clipped_fraction"]),
        seconds=seconds,
        status=status,
    )


def write_metrics_csv(rows: Sequence[MetricsRow], path: Path) -> None:
    """Write the table in one step.

    Numbers keep all their digits: the summary can be recomputed from the file alone.
    """
    write_csv(path, [f.name for f in fields(MetricsRow)], (asdict(row).values() for row in rows))


def read_metrics_csv(path: Path) -> list[MetricsRow]:
    """Read the table back.

    Raises:
        UserError: no such file, other columns, or a cell that is not a finite number where one is due.
    """
    columns = [f.name for f in fields(MetricsRow)]
    try:
        with path.open(newline="") as stream:
            reader = csv.reader(stream)
            if next(reader, None) != columns:
                raise UserError(f"{path}: its columns are not {','.join(columns)}; was it written by 'evaluate'?")
            return [_parse(cells, f"{path}, line {reader.line_num}") for cells in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a metrics table ({error})") from error


def summarise(rows: Sequence[MetricsRow], bootstrap: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Mean, median and 95 % interval of each metric: over all, per region and per level. Failures count.

    Args:
        rows: of an evaluation, at least one.
        bootstrap: how often patients are drawn for the intervals, at least once.
        seed: of the drawing.

    Returns:
        ``all``, ``regions`` and ``levels`` (both head to foot, those that occur), each group with ``n_vertebrae``,
        ``n_subjects``, ``status`` (how many of each) and per metric ``mean``, ``median`` and ``interval_95``; for a
        single patient the interval is None and ``interval_note`` says why.

    Raises:
        UserError: no rows, or a level that does not exist.
    """
    if not rows:
        raise UserError("there are no vertebrae to summarise")
    regions = {name: [r for r in rows if region(level_number(r.level)) == name] for name in REGIONS.values()}
    levels = {LEVEL_NAMES[n]: [r for r in rows if level_number(r.level) == n] for n in LEVEL_ORDER}
    return {
        "all": _summarise_group(rows, bootstrap, seed),
        "regions": {name: _summarise_group(group, bootstrap, seed) for name, group in regions.items() if group},
        "levels": {name: _summarise_group(group, bootstrap, seed) for name, group in levels.items() if group},
    }


def write_summary_json(
    rows: Sequence[MetricsRow], path: Path, average: Sequence[MetricsRow] | None = None
) -> dict[str, Any]:
    """Write `summarise` in one step, and return it.

    Args:
        rows: of an evaluation.
        path: of the file.
        average: what the average vertebra scores on the same vertebrae; summarised as ``average_vertebra``.

    Raises:
        UserError: no rows, a level that does not exist, or a metric is not a finite number; nothing is written.
    """
    summary = summarise(rows)
    if average is not None:
        summary["average_vertebra"] = summarise(average)
    write_json(path, summary)
    return summary


def _parse(cells: Sequence[str], where: str) -> MetricsRow:
    if len(cells) != len(fields(MetricsRow)):
        raise UserError(f"{where}: {len(cells)} cells instead of {len(fields(MetricsRow))}")
    values: dict[str, Any] = {}
    for field, cell in zip(fields(MetricsRow), cells, strict=True):
        try:
            values[field.name] = float(cell) if field.type == "float" else cell
        except ValueError as error:
            raise UserError(f"{where}: {field.name} '{cell}' is no number") from error
        if field.type == "float" and not math.isfinite(values[field.name]):
            raise UserError(f"{where}: {field.name} '{cell}' is not finite")
    return MetricsRow(**values)


def _summarise_group(rows: Sequence[MetricsRow], bootstrap: int, seed: int) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: row.subject)
    subjects = {row.subject for row in rows}
    statuses = [row.status.split(":")[0] for row in rows]
    group: dict[str, Any] = {
        "n_vertebrae": len(rows),
        "n_subjects": len(subjects),
        "status": {name: statuses.count(name) for name in sorted(set(statuses))},
    }
    if len(subjects) < 2:
        group["interval_note"] = "no interval: it needs two patients or more"
    values = np.array([[getattr(row, name) for name in METRICS] for row in rows])
    interval = interval_95(values, [row.subject for row in rows], bootstrap, seed)
    for i, name in enumerate(METRICS):
        group[name] = {
            "mean": round(float(values[:, i].mean()), 5),
            "median": round(float(np.median(values[:, i])), 5),
            "interval_95": None if interval is None else interval[:, i].round(5).tolist(),
        }
    return group
