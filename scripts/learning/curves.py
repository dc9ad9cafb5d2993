"""Learning curves of one training, or of several that began with each other's weights.

    python -m scripts.learning.curves --runs OUT_A,OUT_B --output curves.png [--term loss_dice] [--window 50]

A loss term over all steps, its running mean beside its raw values, a colour a run; the learning rate under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.tables import read_csv

matplotlib.use("Agg")
from matplotlib.figure import Figure

RATE = "lr_generator"


@dataclass(frozen=True)
class Run:
    """What ``training.csv`` of one run says: (N,) values of one loss term and (N,) learning rates."""

    name: str
    loss: np.ndarray
    rate: np.ndarray


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """(N,) means of each value and up to ``window - 1`` before it, in the units of the values.

    Raises:
        UserError: the window is not a positive number.
    """
    if window < 1:
        raise UserError(f"a window of {window} steps")
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


def read_run(folder: Path, term: str) -> Run:
    """The log that a training wrote.

    Raises:
        UserError: the log is missing or empty, or has no such column.
    """
    path = folder / "training.csv"
    if not path.is_file():
        raise UserError(f"{path}: not there; a training writes it into its --output_dir")
    rows = read_csv(path)
    if not rows:
        raise UserError(f"{path}: no step in it")
    missing = [name for name in (term, RATE) if name not in rows[0]]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; there are {', '.join(rows[0])}")
    try:
        loss, rate = (np.array([float(row[name]) for row in rows]) for name in (term, RATE))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a value is no number ({error})") from error
    return Run(folder.name, loss, rate)


def draw_runs(path: Path, runs: list[Run], term: str, window: int) -> None:
    """PNG of all runs, one after the other."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    start = 0
    for index, run in enumerate(runs):
        steps = np.arange(start + 1, start + len(run.loss) + 1)
        losses.plot(steps, run.loss, ".", color=f"C{index}", markersize=1.5, alpha=0.25)
        losses.plot(steps, running_mean(run.loss, window), color=f"C{index}", label=run.name)
        rates.plot(steps, run.rate, color=f"C{index}")
        start += len(run.loss)
    losses.set_ylim(0, 1.15 * max(float(np.percentile(run.loss, 99)) for run in runs))
    losses.set_ylabel(f"{term}, mean of {window}")
    losses.legend(ncols=min(len(runs), 6), fontsize=8)
    rates.set_yscale("log")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("steps")
    for axes in (losses, rates):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main(runs: tuple[Path, ...], output: Path, term: str = "loss_dice", window: int = 50) -> None:
    """Draw them and say where each ended.

    Raises:
        UserError: a run has no log or no such column, or the window is not a positive number.
    """
    read = [read_run(folder, term) for folder in runs]
    ends = [running_mean(run.loss, window)[-1] for run in read]
    draw_runs(output, read, term, window)
    for run, end in zip(read, ends, strict=True):
        print(f"{run.name}: {len(run.loss)} steps, {term} of the last {window}: {end:.4f}")


if __name__ == "__main__":
    run_module(main)
