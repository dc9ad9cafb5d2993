"""What a surgeon would measure on a reconstructed vertebra, against the same measurement of the true mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.paper.table import Table
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.frames import Grid
from scripts.io.tables import read_csv, write_csv
from scripts.levels import LEVEL_NUMBERS
from scripts.measure.arch import NOTHING, measure_arch
from scripts.measure.body import NoBodyError
from scripts.measure.morphometry import SAGITTAL, tilt
from scripts.measure.pose import estimate_pose

FILE = "clinical.csv"
MEASURES = {
    "height_front_mm": "body height, front, mm",
    "height_middle_mm": "middle, mm",
    "height_back_mm": "back, mm",
    "width_mm": "width, mm",
    "depth_mm": "depth, mm",
    "wedge_deg": "wedge, °",
    "canal_depth_mm": "canal depth, mm",
    "canal_width_mm": "canal width, mm",
    "spinous_mm": "spinous process, mm",
}
KEYS = ("subject", "series", "level")


def measure_mask(mask: np.ndarray, level: str) -> dict[str, float]:
    """All of `MEASURES` of one vertebra; NaN where one cannot be taken.

    Args:
        mask: (120, 120, 120) in its cube.
        level: its name. C1 has no body and is not measured.
    """
    affine = Grid((0.0, 0.0, 0.0), (mask.shape[0], mask.shape[1], mask.shape[2])).affine
    centroid = affine[:3, :3] @ NOMINAL_CENTROID + affine[:3, 3]
    try:
        pose = estimate_pose(LEVEL_NUMBERS[level], mask.astype(np.float32), affine, centroid)
    except NoBodyError:
        return dict.fromkeys(MEASURES, np.nan)
    arch = measure_arch(mask, affine, pose) if pose.canal_found else NOTHING
    wedge = tilt(pose.upper, SAGITTAL).minus(tilt(pose.lower, SAGITTAL)).degrees if pose.upper else np.nan
    values = [*(pose.heights_mm or (np.nan,) * 3), pose.width_mm, pose.depth_mm, wedge]
    return dict(zip(MEASURES, [*values, arch.canal_depth, arch.canal_width, arch.spinous_length], strict=True))


def clinical_row(item: dict[str, Any], found: np.ndarray | None, truth: np.ndarray) -> dict[str, str]:
    """A vertebra's true and found measures.

    Args:
        item: its row of the test list.
        found: (120, 120, 120) mask, or None if the network found nothing.
        truth: (120, 120, 120) mask of the true vertebra, or None.
    """
    level = str(item["level"])
    measured = {
        "true": measure_mask(truth, level),
        "found": dict.fromkeys(MEASURES, np.nan) if found is None else measure_mask(found, level),
    }
    cells = {f"{name}:{which}": f"{values[name]:.3f}" for name in MEASURES for which, values in measured.items()}
    return {key: str(item.get(key, "")) for key in KEYS} | cells


def write_clinical(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Write `clinical_row`s of at least one vertebra as CSV."""
    write_csv(path, list(rows[0]), (row.values() for row in rows))


def clinical_table(folders: dict[str, Path], titles: dict[str, str]) -> Table | None:
    """A row a model: median error, bias in brackets, and how many vertebrae could be measured.

    Args:
        folders: model -> folder with ``clinical.csv``; those without are left out.
        titles: of the models, in the table's order.
    """
    rows = []
    for name in [n for n in titles if n in folders and (folders[n] / FILE).is_file()]:
        table = read_csv(folders[name] / FILE)
        rows.append([titles[name], *(_cell(table, measure) for measure in MEASURES)])
    if not rows:
        return None
    notes = [
        "Median of the absolute errors, in brackets of the signed errors (+: too large), then the number of vertebrae "
        "measured in the reconstruction / in the true mask. Measured by `scripts/measure/pose.py` and "
        "`scripts/measure/arch.py`; one seed."
    ]
    return Table("clinical", "Clinical measures of single vertebrae", ["model", *MEASURES.values()], rows, notes)


def _cell(table: Sequence[dict[str, str]], measure: str) -> str:
    true, found = (np.array([float(row[f"{measure}:{which}"]) for row in table]) for which in ("true", "found"))
    wanted, both = np.isfinite(true), np.isfinite(true) & np.isfinite(found)
    if not both.any():
        return f"- (0/{wanted.sum()})"
    error = (found - true)[both]
    return f"{np.median(np.abs(error)):.1f} ({np.median(error):+.1f}), {both.sum()}/{wanted.sum()}"
