"""The numbers of the model card: metrics by region with intervals, what disturbs the network, and its worst five.

    python -m scripts.benchmarks.model_card --dataset DATASET --output FOLDER [--source WHAT_IT_WAS_PREPARED_FROM]
        [--weights FILE] [--subjects A,B]

Writes ``card.md``, ``metrics.csv``, ``average.csv`` and ``worst.jpg``. Without a source the curve over view angles is
left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from tqdm import tqdm

from scripts.benchmarks.paper.disturbances import CURVES, Disturbance, check_tiltable, disturb, write_tilted_films
from scripts.benchmarks.paper.scoring import TestVertebra, read_vertebrae
from scripts.command import run_module
from scripts.data.augmentation import RandFilmd
from scripts.data.datalist import list_of, read_document
from scripts.data.normalisation import OffFilmd
from scripts.io.tables import markdown_table
from scripts.levels import REGIONS, level_number, region
from scripts.paths import BUNDLE_ROOT
from scripts.reconstruction.metrics.intervals import interval_95
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import MetricsRow, metrics_row, write_metrics_csv
from scripts.reconstruction.metrics.yardstick import yardstick_rows
from scripts.reconstruction.predictor import Predictor

DRAWS = 2000
METRICS = {"dice": "Dice", "hd95_mm": "HD95 mm", "assd_mm": "ASSD mm", "nsd_1mm": "NSD 1 mm"}
PIXELS_MM = (2, 3, 4)
C1, L5 = level_number("C1"), level_number("L5")
Change = Callable[[int, torch.Tensor, np.ndarray], tuple[torch.Tensor, np.ndarray]]


def film(index: int, image: torch.Tensor, truth: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Scatter, hardening, noise and collimation as `configs/augment_films.json` trains for."""
    options = json.loads((BUNDLE_ROOT / "configs" / "augment_films.json").read_text())["film"]
    options = {key: value for key, value in options.items() if key not in ("_target_", "keys", "prob")}
    transform = RandFilmd(keys=("ap", "lat"), prob=1.0, **options)
    transform.set_random_state(index)
    changed = transform(OffFilmd(("ap", "lat"))({"ap": image[0:1].clone(), "lat": image[2:3].clone()}))
    filmed = torch.cat([changed["ap"], image[1:2], changed["lat"], image[3:4]])
    return filmed.masked_fill(image.isnan(), torch.nan), truth


def coarse(pixel_mm: int, index: int, image: torch.Tensor, truth: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Films of larger pixels, brought back to the patches' 1 mm."""
    changed = image.clone()
    pooled = F.avg_pool2d(image[None, ::2], pixel_mm)
    changed[::2] = F.interpolate(pooled, image.shape[-2:], mode="bilinear", align_corners=False)[0]
    return changed, truth


def level_beside(level: int, step: int) -> int:
    """The level so many below another one in a spine of C1 to L5, as training draws wrong levels; T13 and L6 stay."""
    return min(max(level + step, C1), L5) if level <= L5 else level


LEVEL_ERRORS: dict[str, Callable[[int], int]] = {
    "level one too high": lambda level: level_beside(level, -1),
    "level one too low": lambda level: level_beside(level, 1),
    "level not given": lambda level: 0,
}


def scored(
    predictor: Predictor,
    vertebrae: list[TestVertebra],
    change: Change | None = None,
    said: Callable[[int], int] = lambda level: level,
) -> list[MetricsRow]:
    """A row a vertebra; an image that cannot be read is an empty answer.

    Args:
        predictor: the network.
        vertebrae: with their true masks.
        change: of image and mask.
        said: level -> the one that the network is told, 0 for none.
    """
    rows = []
    for index, vertebra in enumerate(vertebrae):
        image, truth = vertebra.image, vertebra.truth
        if image is not None and change is not None:
            image, truth = change(index, image, truth)
        level = said(level_number(vertebra.item["level"]))
        found = None if image is None else _found(predictor, level, image)
        status = "failed" if found is None else "ok" if found.any() else "empty"
        rows.append(metrics_row(vertebra.item, vertebra_metrics(found, truth), 0.0, status))
    return rows


def _found(predictor: Predictor, level: int, image: torch.Tensor) -> np.ndarray:
    """The network's mask of a vertebra from its image and its level."""
    return next(iter(predictor([image], [level]))) > 0.5


def interval(rows: list[MetricsRow], metric: str) -> tuple[float, float, float]:
    """Mean and 95 % interval, patients drawn with replacement; vertebrae where there is one patient only."""
    rows = sorted(rows, key=lambda row: row.subject)
    one_patient = rows[0].subject == rows[-1].subject
    values = np.array([getattr(row, metric) for row in rows])
    owners = [f"{i}" if one_patient else row.subject for i, row in enumerate(rows)]
    ends = interval_95(values, owners, DRAWS)
    low, high = (values[0], values[0]) if ends is None else ends
    return float(values.mean()), float(low), float(high)


def table(rows: list[MetricsRow]) -> list[str]:
    """By region."""
    groups = {"all": rows, **{name: [] for name in REGIONS.values()}}
    for row in rows:
        groups[region(level_number(row.level))].append(row)
    return group_table("", groups, METRICS)


def group_table(
    title: str, groups: dict[str, list[MetricsRow]], metrics: Iterable[str], digits_mm: int = 3
) -> list[str]:
    """A line a group that has vertebrae: how many, and each metric's mean with its interval.

    Args:
        title: of the first column.
        groups: their rows by name.
        metrics: the columns.
        digits_mm: after the point of metrics in mm; others have three.
    """
    lines = []
    for name, rows in groups.items():
        if rows:
            digits = [digits_mm if metric.endswith("_mm") else 3 for metric in metrics]
            cells = [
                "{:.{d}f} ({:.{d}f}-{:.{d}f})".format(*interval(rows, metric), d=d)
                for metric, d in zip(metrics, digits, strict=True)
            ]
            lines.append([name, f"{len(rows)}, {len({row.subject for row in rows})}", *cells])
    return markdown_table([title, "vertebrae, patients", *(METRICS[metric] for metric in metrics)], lines)


def draw_worst(path: Path, vertebrae: list[TestVertebra], rows: list[MetricsRow], predictor: Predictor) -> None:
    """The five vertebrae of lowest Dice: both patches, the true outline and ours."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].dice)[:5]
    figure = Figure((2.2 * len(order), 4.8), layout="constrained")
    axes: Any = figure.subplots(2, len(order), squeeze=False)
    for column, index in enumerate(order):
        vertebra = vertebrae[index]
        assert vertebra.image is not None
        found = _found(predictor, level_number(vertebra.item["level"]), vertebra.image)
        for row, (channel, along) in enumerate(((0, 1), (2, 2))):
            place = axes[row, column]
            place.imshow(vertebra.image[channel], cmap="gray")
            for mask, colour in ((vertebra.truth, "#00e676"), (found, "#ff5252")):
                if mask.any():
                    place.contour(mask.any(along), [0.5], colors=colour, linewidths=1.2)
            place.set_axis_off()
        axes[0, column].set_title(
            f"{rows[index].subject}\n{rows[index].level}  Dice {rows[index].dice:.2f}", fontsize=8
        )
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})


def main(
    dataset: Path, output: Path, source: str = "", weights: Path | None = None, subjects: tuple[str, ...] = ()
) -> None:
    """Measure and write."""
    document = read_document(dataset)
    items = [i for i in list_of(document, dataset, "test") if not subjects or i["subject"] in subjects]
    if source:
        check_tiltable(dataset, items)
    output.mkdir(parents=True, exist_ok=True)
    predictor = Predictor(weights, "cpu", batch_size=1)
    vertebrae = list(read_vertebrae(dataset, items))
    plain = scored(predictor, vertebrae)
    write_metrics_csv(plain, output / "metrics.csv")
    average = [row for _, row in yardstick_rows(dataset, document, [v.item for v in vertebrae])]
    write_metrics_csv(average, output / "average.csv")
    means = [["none", _mean(plain)]]
    for curve in tqdm(CURVES, desc="disturbances"):
        if curve.kind == "angle":
            if not source:
                continue
            images = output / "angles" / curve.name
            write_tilted_films(source, dataset, items, curve.amount, images)
            rows = scored(predictor, list(read_vertebrae(dataset, items, images)))
        else:
            rows = scored(predictor, vertebrae, partial(_disturbed, curve))
        means.append([f"{curve.kind} {curve.amount:g}", _mean(rows)])
    means.append(["film", _mean(scored(predictor, vertebrae, film))])
    means += [[f"pixels of {mm} mm", _mean(scored(predictor, vertebrae, partial(coarse, mm)))] for mm in PIXELS_MM]
    for name, said in LEVEL_ERRORS.items():
        means.append([name, _mean(scored(predictor, vertebrae, said=said))])
    lines = [*table(plain), "", "The average vertebra of each level at the same marks:", "", *table(average)]
    lines += ["", *markdown_table(["disturbance", "Dice"], means)]
    draw_worst(output / "worst.jpg", vertebrae, plain, predictor)
    (output / "card.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _disturbed(
    curve: Disturbance, index: int, image: torch.Tensor, truth: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    return disturb(image, truth, curve, (index, round(100 * curve.amount)))


def _mean(rows: list[MetricsRow]) -> str:
    return f"{np.mean([row.dice for row in rows]):.3f}"


if __name__ == "__main__":
    run_module(main)
