"""The verb ``evaluate``: the predictor over a prepared dataset, measured vertebra by vertebra.

Each vertebra is reconstructed in its own cube as `reconstruct` does it: its lean is known, readings of one
spine steady each other. Overlaps of neighbours are not resolved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.data.datalist import list_of, read_document, truth_only
from scripts.data.items import read_patches
from scripts.errors import UserError
from scripts.io.nifti import read_nifti
from scripts.levels import level_number
from scripts.reconstruction.metrics.spines import Item, all_spines, group_by_spine, leans_at
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import metrics_row, write_metrics_csv, write_summary_json
from scripts.reconstruction.metrics.yardstick import yardstick_rows
from scripts.reconstruction.predictor import Predictor
from scripts.reconstruction.steady import steady_numbers


def evaluate_dataset(
    dataset: Path,
    output: Path,
    weights: Path | None = None,
    data_list: str = "test",
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "float32",
    network_only: bool = False,
) -> dict[str, Any]:
    """Write ``metrics.csv``, ``average.csv`` and ``summary.json``.

    ``average.csv`` is what the average vertebra of each level scores on the same vertebrae
    (`scripts.reconstruction.metrics.yardstick`); its means are in the summary as ``average_vertebra``.

    A vertebra whose image cannot be read is a row of its own with the reason, and scores as an empty one. A true mask
    that cannot be read or is empty stops the evaluation: nothing can be said then, and leaving it out would flatter.

    Args:
        dataset: folder made by ``prepare``.
        output: folder for the results.
        weights: of the reconstruction network, ``.pt`` or ``.ts`` file; the bundle's own if None.
        data_list: ``test``, ``validation`` or ``training``.
        device: torch device; CUDA if the machine has it and None is given.
        batch_size: vertebrae at a time.
        precision: ``float32``, ``bfloat16``, or ``auto``, which is the latter where the device computes in it.
        network_only: the network's own answer to an image and a level, without tilt and steadying, as the
            bundle's workflow ``evaluating`` measures it.

    Returns:
        the summary.
    """
    document = read_document(dataset)
    items = truth_only(list_of(document, dataset, data_list))
    predictor = Predictor(weights, device, batch_size, precision=precision)
    spines = all_spines(document)
    rows = {}
    with tqdm(total=len(items), desc="vertebrae", unit="vertebra") as bar:
        for name, listed in group_by_spine(items).items():
            answers = _reconstruct(dataset, listed, None if network_only else spines[name], predictor)
            for item, prediction, status, seconds in answers:
                truth = read_nifti(dataset / item["label"])[0] > 0
                rows[id(item)] = metrics_row(item, vertebra_metrics(prediction, truth), seconds, status)
                bar.update()
    table = [rows[id(item)] for item in items]
    output.mkdir(parents=True, exist_ok=True)
    write_metrics_csv(table, output / "metrics.csv")
    average = [row for _, row in yardstick_rows(dataset, document, items)]
    write_metrics_csv(average, output / "average.csv")
    return write_summary_json(table, output / "summary.json", average)


def _reconstruct(
    dataset: Path, items: list[Item], spine: list[Item] | None, predictor: Predictor
) -> Iterator[tuple[Item, np.ndarray | None, str, float]]:
    """Items of one spine with their masks, None where an image cannot be read, what became of them, and seconds.

    Without the spine the network gets nothing but images and levels.
    """
    started = time.perf_counter()
    read, images = [], []
    for item in items:
        try:
            image = read_patches(dataset / item["image"])
        except UserError as error:
            yield item, None, f"failed: {error}", time.perf_counter() - started
            continue
        read.append(item)
        images.append(image)
    levels = [level_number(item["level"]) for item in read]
    tilts = numbers = None
    if read and spine is not None and predictor.takes_level:
        leans = [leans_at(spine, item) for item in read]
        tilts = [along.sagittal_deg - turned.sagittal_deg for along, turned in leans]
        numbers = steady_numbers(predictor.read(images, levels, tilts), levels).tolist()
    # Reading takes about as long for each.
    share = (time.perf_counter() - started) / max(len(read), 1)
    for i, item in enumerate(read):
        started = time.perf_counter()
        part = slice(i, i + 1)
        answers = predictor(images[part], levels[part], tilts and tilts[part], numbers and numbers[part])
        mask = next(iter(answers)) > 0.5
        yield item, mask, "ok" if mask.any() else "empty", share + time.perf_counter() - started
