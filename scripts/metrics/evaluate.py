"""The verb ``evaluate``: the predictor over a prepared dataset, measured vertebra by vertebra."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scripts.errors import UserError
from scripts.io.nifti import read_nifti
from scripts.levels import level_number
from scripts.metrics.surface import vertebra_metrics
from scripts.metrics.table import metrics_row, write_metrics_csv, write_summary_json
from scripts.metrics.yardstick import yardstick_rows
from scripts.networks.predictor import Predictor


def read_datalist(dataset: Path, data_list: str) -> list[dict[str, Any]]:
    """The items of one list of a prepared dataset.

    Raises:
        UserError: no dataset, no such list, or an empty one.
    """
    items = read_document(dataset).get(data_list)
    if not items:
        raise UserError(f"{dataset / 'dataset.json'}: its list '{data_list}' is empty or missing")
    return items


def read_document(dataset: Path) -> dict[str, Any]:
    """All lists of a prepared dataset.

    Raises:
        UserError: no dataset, or one that cannot be read.
    """
    path = dataset / "dataset.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is {dataset} a prepared dataset?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from error


def truth_only(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, if all their labels are truth.

    Raises:
        UserError: some are fitted shapes (`scripts.data.labelling`): no accuracy is measured on them.
    """
    fitted = sorted({item["subject"] for item in items if item.get("label_origin")})
    if fitted:
        raise UserError(f"labels of {', '.join(fitted[:5])} are fitted shapes, no truth: nothing is measured on them")
    return items


def evaluate_dataset(
    dataset: Path,
    output: Path,
    weights: Path | None = None,
    data_list: str = "test",
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "float32",
) -> dict[str, Any]:
    """Write ``metrics.csv``, ``average.csv`` and ``summary.json``.

    ``average.csv`` is what the average vertebra of each level scores on the same vertebrae
    (`scripts.metrics.yardstick`); its means stand in the summary as ``average_vertebra``.

    A vertebra whose image cannot be read is a row of its own with the reason, and scores as an empty one. A true mask
    that cannot be read or is empty stops the evaluation: nothing can be said then, and leaving it out would flatter.

    Args:
        dataset: folder made by ``prepare``.
        output: folder for the results.
        weights: see `Predictor`.
        data_list: ``test``, ``validation`` or ``training``.
        device: see `Predictor`.
        batch_size: vertebrae at a time.
        precision: see `Predictor`.

    Returns:
        the summary.
    """
    items = truth_only(read_datalist(dataset, data_list))
    predictor = Predictor(weights, device, batch_size, precision=precision)
    rows = []
    for item in tqdm(items, desc="vertebrae", unit="vertebra"):
        started = time.perf_counter()
        prediction, status = _predict(dataset, item, predictor)
        seconds = time.perf_counter() - started
        truth = read_nifti(dataset / item["label"])[0] > 0
        rows.append(metrics_row(item, vertebra_metrics(prediction, truth), seconds, status))
    output.mkdir(parents=True, exist_ok=True)
    write_metrics_csv(rows, output / "metrics.csv")
    average = [row for _, row in yardstick_rows(dataset, read_document(dataset), items)]
    write_metrics_csv(average, output / "average.csv")
    return write_summary_json(rows, output / "summary.json", average)


def _predict(dataset: Path, item: dict[str, Any], predictor: Predictor) -> tuple[np.ndarray | None, str]:
    try:
        patches = read_nifti(dataset / item["image"])[0]
        rays = _read_rays(dataset / item["rays"]) if "rays" in item and predictor.unprojects else None
    except UserError as error:
        return None, f"failed: {error}"
    image = torch.from_numpy(np.ascontiguousarray(patches[:, :, 0].transpose(2, 0, 1), dtype=np.float32))
    prediction = next(iter(predictor([image], rays, [level_number(item["level"])]))) > 0.5
    return prediction, "ok" if prediction.any() else "empty"


def _read_rays(path: Path) -> list[torch.Tensor]:
    try:
        return [torch.from_numpy(np.load(path, allow_pickle=False))]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
