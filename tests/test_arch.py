"""Canal and spinous process of vertebrae built by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.paper.clinical import MEASURES, clinical_table, measure_mask
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID
from scripts.geometry.leaning import UPRIGHT, Lean, turned_object

CANAL_DEPTH, CANAL_WIDTH, SPINOUS = 16.0, 22.0, 30.0


def vertebra(lean: Lean = UPRIGHT, closed: bool = True) -> np.ndarray:
    """A body 24 x 30 x 40 mm (height, depth, width), a ring of 6 mm behind it, a process 12 mm high that hangs."""
    axes = np.meshgrid(*[np.arange(CUBE_SIZE)] * 3, indexing="ij")
    down, behind, left = (axis - middle for axis, middle in zip(axes, NOMINAL_CENTROID, strict=True))
    bone = (np.abs(down) < 12) & (np.abs(behind) < 15) & (np.abs(left) < 20)
    end = 15 + CANAL_DEPTH
    ring = (behind > 0) & (behind < end + 6) & (np.abs(left) < CANAL_WIDTH / 2 + 6)
    canal = (behind > 15) & (behind < end) & (np.abs(left) < CANAL_WIDTH / 2)
    bone |= (np.abs(down) < 6) & ring & ~canal
    bone |= (down > 3) & (down < 15) & (behind > end) & (behind < end + SPINOUS) & (np.abs(left) < 4)
    if not closed:
        bone &= behind < end
    return turned_object(bone.astype(np.float32), lean.rotation(), NOMINAL_CENTROID, 0.0) > 0.5


@pytest.mark.parametrize("lean", [UPRIGHT, Lean(18, 0), Lean(0, -15), Lean(12, 10)])
def test_sizes_are_those_that_were_built(lean: Lean) -> None:
    found = measure_mask(vertebra(lean), "L2")
    assert found["canal_depth_mm"] == pytest.approx(CANAL_DEPTH, abs=1.2)
    assert found["canal_width_mm"] == pytest.approx(CANAL_WIDTH, abs=1.2)
    assert found["spinous_mm"] == pytest.approx(np.hypot(SPINOUS, 15), abs=1.8)
    assert found["width_mm"] == pytest.approx(40, abs=1.2) and found["depth_mm"] == pytest.approx(30, abs=1.5)
    assert found["height_middle_mm"] == pytest.approx(24, abs=1.2) and abs(found["wedge_deg"]) < 1.5


def test_what_is_not_there_is_not_measured() -> None:
    half = measure_mask(vertebra(closed=False), "L2")
    assert all(np.isnan(half[name]) for name in ("canal_depth_mm", "canal_width_mm", "spinous_mm"))
    assert half["width_mm"] == pytest.approx(40, abs=1.2)
    for mask, level in ((vertebra(), "C1"), (np.zeros((CUBE_SIZE,) * 3, bool), "L2")):
        assert all(np.isnan(value) for value in measure_mask(mask, level).values())


def test_table_counts_what_cannot_be_measured(tmp_path: Path) -> None:
    columns = ["subject", *(f"{name}:{which}" for name in MEASURES for which in ("true", "found"))]
    with (tmp_path / "clinical.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for true, found in ((10, 11), (10, 7), (10, "nan"), ("nan", 3)):
            writer.writerow(["p"] + [true, found] * len(MEASURES))
    table = clinical_table({"a": tmp_path, "b": tmp_path / "none"}, {"a": "A", "b": "B"})
    assert table is not None and list(table.rows) == [["A", *["2.0 (-1.0), 2/3"] * len(MEASURES)]]
    assert clinical_table({}, {"a": "A"}) is None
