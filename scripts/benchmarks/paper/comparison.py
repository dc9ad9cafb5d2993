"""Means with intervals over resampled patients, and a paired test against the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from scripts.errors import UserError
from scripts.reconstruction.metrics.table import METRICS, MetricsRow, read_metrics_csv, summarise

# A two-sided signed-rank test of fewer pairs cannot fall below 0.05 whatever they are.
FEWEST_PAIRS = 6
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Scores:
    """A model's rows, averaged over its seeds.

    Args:
        rows: one a vertebra; a vertebra that any seed left empty says so; one that no seed could read has 0 seconds.
        seeds: that went in.
        summary: of `scripts.reconstruction.metrics.table.summarise`.
        spread: metric -> standard deviation of the seeds' means; empty for a single seed.
        bad: how many results, over all seeds, are empty or failed.
    """

    rows: tuple[MetricsRow, ...]
    seeds: tuple[int, ...]
    summary: dict[str, Any]
    spread: dict[str, float]
    bad: int


def read_scores(folders: dict[int, Path]) -> Scores:
    """Scores of one model.

    Args:
        folders: seed -> folder with ``metrics.csv``.

    Raises:
        UserError: the seeds were not scored on the same vertebrae.
    """
    tables = {
        seed: {_key(row): row for row in read_metrics_csv(path / "metrics.csv")} for seed, path in folders.items()
    }
    first = next(iter(tables.values()))
    if any(table.keys() != first.keys() for table in tables.values()):
        raise UserError(f"{next(iter(folders.values()))}: its seeds were scored on different vertebrae")
    rows = tuple(_mean_row([table[key] for table in tables.values()]) for key in first)
    means = {m: [np.mean([getattr(r, m) for r in table.values()]) for table in tables.values()] for m in METRICS}
    spread = {m: float(np.std(values, ddof=1)) for m, values in means.items()} if len(tables) > 1 else {}
    bad = sum(row.status != "ok" for table in tables.values() for row in table.values())
    return Scores(rows, tuple(tables), summarise(rows), spread, bad)


def paired_p(scores: Scores, reference: Scores, metric: str) -> tuple[float | None, str]:
    """Two-sided Wilcoxon signed-rank test of a metric, and its unit.

    Pairs are patients' means, since a patient's vertebrae are alike. With fewer than six patients they are vertebrae,
    which makes p too small; the unit says so.

    Returns:
        p, or None with fewer than six pairs or no difference at all; ``patients`` or ``vertebrae``.

    Raises:
        UserError: the two were scored on different vertebrae.
    """
    check_same_vertebrae({"a model": scores, "its reference": reference})
    a, b = ({_key(row): row for row in s.rows} for s in (scores, reference))
    differences: dict[str, list[float]] = defaultdict(list)
    for key in a:
        differences[key[0]].append(getattr(a[key], metric) - getattr(b[key], metric))
    unit = "patients" if len(differences) >= FEWEST_PAIRS else "vertebrae"
    pairs = [v for values in differences.values() for v in ([np.mean(values)] if unit == "patients" else values)]
    if len(pairs) < FEWEST_PAIRS or not np.any(pairs):
        return None, unit
    return float(wilcoxon(pairs).pvalue), unit


def check_same_vertebrae(scores: Mapping[str, Scores]) -> None:
    """Refuse scores that cannot stand in one table.

    Args:
        scores: by the name of what was scored.

    Raises:
        UserError: two were scored on different vertebrae; names them.
    """
    first: tuple[str, set[Key]] | None = None
    for name, one in scores.items():
        keys = {_key(row) for row in one.rows}
        first = first or (name, keys)
        if keys != first[1]:
            raise UserError(f"{first[0]} and {name} were scored on different vertebrae; score them again")


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of the p values of one table column; None stays and is not counted."""
    order = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[i] = largest
    return corrected


def half_interval(summary: dict[str, Any], metric: str) -> float | None:
    """Half the width of the 95 % interval of a group's mean; None for a single patient."""
    interval = summary[metric]["interval_95"]
    return (interval[1] - interval[0]) / 2 if interval else None


def _key(row: MetricsRow) -> Key:
    return row.subject, row.series, row.level


def _mean_row(rows: Sequence[MetricsRow]) -> MetricsRow:
    bad = [row.status for row in rows if row.status != "ok"]
    values: dict[str, Any] = {name: float(np.mean([getattr(row, name) for row in rows])) for name in METRICS}
    # What could not be read took no time.
    times = [row.seconds for row in rows if row.seconds > 0]
    return replace(rows[0], **values, seconds=float(np.mean(times)) if times else 0.0, status=bad[0] if bad else "ok")
