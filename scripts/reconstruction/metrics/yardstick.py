"""The yardstick for a network: the average vertebra of the level, put at the mark along the spine, no film looked at.

What a network scores beyond it, it has seen on the films. A patient whose vertebrae are in the shape library is left
out of his own average.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scripts.anatomy.average import average_at, average_signed_distance
from scripts.anatomy.shapes import library_subjects
from scripts.data.datalist import spine_name
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.frames import Grid
from scripts.geometry.leaning import UPRIGHT, Lean
from scripts.io.nifti import read_nifti
from scripts.levels import level_number
from scripts.reconstruction.metrics.spines import all_spines, leans_at
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import MetricsRow, metrics_row


def average_vertebra(
    level: int,
    centroid: np.ndarray,
    grid: Grid,
    lean: Lean = UPRIGHT,
    turned: Lean = UPRIGHT,
    without: tuple[str, ...] = (),
) -> np.ndarray:
    """The average vertebra in a volume.

    Args:
        level: VerSe number.
        centroid: (3,) index of the body's centroid in the volume.
        grid: of the volume.
        lean: how the spine runs there, whole (`spine_leans` with a share of 1).
        turned: the lean that the volume has been turned upright by already.
        without: subjects of the library that take no part.

    Returns:
        (I, P, L) bool.
    """
    shape = np.array(grid.shape)
    # The rest of the volume is not looked at.
    reach = _reach_mm(level, without) / grid.spacing_mm
    low = np.clip(np.floor(centroid - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(centroid + reach) + 1, 0, shape).astype(int)
    out: np.ndarray = np.zeros(grid.shape, bool)
    if (high <= low).any():
        return out
    axes = [np.arange(a, b) - c for a, b, c in zip(low, high, centroid, strict=True)]
    offset = np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32) * grid.spacing_mm
    turning = lean.rotation().T @ turned.rotation()
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    out[box] = average_at(level, offset @ turning.T.astype(np.float32), without) < 0
    return out


@cache
def _reach_mm(level: int, without: tuple[str, ...]) -> float:
    """How far an average vertebra reaches from its body's centroid."""
    inside = np.argwhere(average_signed_distance(level, 1.0, without) < 0) - NOMINAL_CENTROID
    return float(np.linalg.norm(inside, axis=1).max()) + 2


def yardstick_rows(
    dataset: Path, document: dict[str, Any], items: Sequence[dict[str, Any]]
) -> Iterable[tuple[dict[str, Any], MetricsRow]]:
    """What the average vertebra scores on items of a prepared dataset, one by one.

    Args:
        dataset: its folder.
        document: its ``dataset.json``, whose other vertebrae say how the spine runs.
        items: the rows to score.

    Raises:
        UserError: a true mask cannot be read or is empty.
    """
    spines = all_spines(document)
    for item in items:
        lean, turned = leans_at(spines.get(spine_name(item), [item]), item)
        truth, affine = read_nifti(dataset / item["label"])
        x, y, z = (float(v) for v in affine[:3, 3])
        grid = Grid((x, y, z), truth.shape, float(np.linalg.norm(affine[:3, 0])))
        centroid = grid.to_index(np.array(item["centroid_mm"]))
        mask = average_vertebra(
            level_number(item["level"]), centroid, grid, lean, turned, library_subjects(str(item["subject"]))
        )
        metrics = vertebra_metrics(mask, truth > 0, (grid.spacing_mm,) * 3)
        yield item, metrics_row(item, metrics, 0.0, "ok")
