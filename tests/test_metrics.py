"""Metrics against brute force, MONAI's public functions and hand-computed cases."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial import cKDTree

from scripts.errors import UserError
from scripts.reconstruction.metrics.handler import VertebraMetricsHandler
from scripts.reconstruction.metrics.intervals import interval_95
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import (
    METRICS,
    MetricsRow,
    read_metrics_csv,
    summarise,
    write_metrics_csv,
    write_summary_json,
)

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 2.1)]


def blob(seed: int, shape: tuple[int, int, int] = (40, 36, 44)) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return field > np.percentile(field, 90)


def brute_force(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Nearest neighbours between all edge voxels, no distance transform and no MONAI."""
    edges = [np.argwhere(m & ~binary_erosion(m)) * spacing for m in (a, b)]
    there, back = cKDTree(edges[1]).query(edges[0])[0], cKDTree(edges[0]).query(edges[1])[0]
    both = np.concatenate([there, back])
    return {
        "dice": 2 * (a & b).sum() / (a.sum() + b.sum()),
        "hd95_mm": max(np.percentile(there, 95), np.percentile(back, 95)),
        "assd_mm": both.mean(),
        "nsd_1mm": (both <= 1).mean(),
        "nsd_2mm": (both <= 2).mean(),
    }


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_brute_force(seed: int, spacing: tuple[float, float, float]) -> None:
    a = blob(seed)
    b = np.roll(blob(seed), (2, 1, 0), (0, 1, 2)) | blob(seed + 10)
    found = asdict(vertebra_metrics(a, b, spacing))
    expected = brute_force(a, b, spacing)
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def test_masks_that_fill_the_volume_have_edges_at_its_border() -> None:
    whole = np.ones((9, 8, 7), bool)
    part = np.indices(whole.shape)[0] > 4
    assert asdict(vertebra_metrics(whole, part)) == pytest.approx(brute_force(whole, part, (1.0, 1.0, 1.0)), rel=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_agrees_with_monai_s_public_metrics(spacing: tuple[float, float, float]) -> None:
    a, b = blob(3), blob(4)
    found = vertebra_metrics(a, b, spacing)
    tensors = [torch.from_numpy(m)[None, None].float() for m in (a, b)]
    options = {"include_background": True, "spacing": spacing}
    assert found.hd95_mm == pytest.approx(
        float(compute_hausdorff_distance(*tensors, percentile=95, **options)), rel=1e-5
    )
    assert found.assd_mm == pytest.approx(
        float(compute_average_surface_distance(*tensors, symmetric=True, **options)), rel=1e-5
    )
    for tolerance, value in ((1.0, found.nsd_1mm), (2.0, found.nsd_2mm)):
        expected = float(compute_surface_dice(*tensors, class_thresholds=[tolerance], **options))
        assert value == pytest.approx(expected, rel=1e-5)


def box(*rows: tuple[int, int], side: int) -> np.ndarray:
    """Blocks over the rows given, ``side`` wide in the two other axes."""
    mask = np.zeros((60, 30, 30), bool)
    for start, stop in rows:
        mask[start:stop, 5 : 5 + side, 5 : 5 + side] = True
    return mask


# A cube of 10 has 10^3 - 8^3 = 488 edge voxels. Moved by 3 rows, of each cube's edge the far face (100) is 3 rows off,
# the rings of 36 behind it 2 rows and 1 row, and the 64 inside the other face lie 1, 2, 3, 4 voxels (28, 20, 12, 4 of
# them) from the other's walls or 3 rows from its face; the rest coincides.
@pytest.mark.parametrize(
    ("row_mm", "hd95", "total", "beyond_1mm", "beyond_2mm"),
    [
        (1.0, 3.0, 100 * 3 + 36 * 2 + 36 * 1 + 28 * 1 + 20 * 2 + 16 * 3, 100 + 36 + 20 + 16, 100 + 16),
        (2.0, 6.0, 100 * 6 + 36 * 4 + 36 * 2 + 28 * 1 + 20 * 2 + 12 * 3 + 4 * 4, 100 + 72 + 20 + 16, 100 + 36 + 16),
    ],
)
def test_shifted_cube_by_hand(row_mm: float, hd95: float, total: int, beyond_1mm: int, beyond_2mm: int) -> None:
    found = vertebra_metrics(box((8, 18), side=10), box((5, 15), side=10), (row_mm, 1.0, 1.0))
    expected = (0.7, hd95, total / 488, 1 - beyond_1mm / 488, 1 - beyond_2mm / 488)
    assert tuple(asdict(found).values()) == pytest.approx(expected)


def test_false_island_costs_by_hand() -> None:
    """From the truth alone nothing is wrong: its whole surface is found."""
    cube, island = 20**3 - 18**3, 10 * 20**2 - 8 * 18**2
    found = vertebra_metrics(box((5, 25), (40, 50), side=20), box((5, 25), side=20))
    assert found.dice == pytest.approx(2 * 8000 / (12000 + 8000))
    assert found.nsd_1mm == found.nsd_2mm == pytest.approx(2 * cube / (2 * cube + island))
    assert found.hd95_mm == 25
    assert found.assd_mm == pytest.approx((400 * (16 + 25) + 76 * sum(range(17, 25))) / (2 * cube + island))


def test_missing_half_costs_by_hand() -> None:
    """From the prediction alone only the cut face is wrong; the truth's surface beyond it is missing."""
    cube, half = 20**3 - 18**3, 10 * 20**2 - 8 * 18**2
    found = vertebra_metrics(box((5, 15), side=20), box((5, 25), side=20))
    assert found.dice == pytest.approx(2 * 4000 / (4000 + 8000))
    within_1mm = half - 16**2 + cube - 76 * 8 - 400
    within_2mm = half - 14**2 + cube - 76 * 7 - 400
    assert found.nsd_1mm == pytest.approx(within_1mm / (cube + half))
    assert found.nsd_2mm == pytest.approx(within_2mm / (cube + half))
    assert found.hd95_mm == 10


def test_few_stray_voxels_do_not_move_the_95th_percentile() -> None:
    truth = box((5, 25), side=20)
    stray = truth.copy()
    stray[50, 0, :] = True
    found = vertebra_metrics(stray, truth)
    assert found.hd95_mm == 0 < found.assd_mm


def test_the_better_prediction_scores_better_and_the_order_of_the_masks_is_immaterial() -> None:
    truth = blob(6)
    perfect = vertebra_metrics(truth, truth)
    assert tuple(asdict(perfect).values()) == (1, 0, 0, 1, 1)
    near, far = (np.roll(truth, shift, axis=1) for shift in (1, 4))
    better, worse = vertebra_metrics(near, truth), vertebra_metrics(far, truth)
    assert better.dice > worse.dice and better.nsd_1mm > worse.nsd_1mm and better.nsd_2mm > worse.nsd_2mm
    assert better.hd95_mm < worse.hd95_mm and better.assd_mm < worse.assd_mm
    assert asdict(vertebra_metrics(truth, far)) == pytest.approx(asdict(worse))


def test_a_distance_equal_to_the_tolerance_is_within_it() -> None:
    """Five rows of 0.2 mm; in double precision some of them come out as 1 mm + 2e-16."""
    found = vertebra_metrics(box((8, 18), side=10), box((13, 23), side=10), (0.2, 1.0, 1.0))
    assert found.nsd_1mm == 1


@pytest.mark.parametrize("prediction", [None, np.zeros((120, 120, 120), bool)])
def test_failures_score_worst(prediction: np.ndarray | None) -> None:
    truth = np.zeros((120, 120, 120), bool)
    truth[50:60, 50:60, 50:60] = True
    found = vertebra_metrics(prediction, truth)
    assert found.dice == found.nsd_1mm == found.nsd_2mm == 0
    assert found.hd95_mm == found.assd_mm == pytest.approx(120 * np.sqrt(3))
    stretched = vertebra_metrics(prediction, truth, (1.0, 2.0, 0.5))
    assert stretched.hd95_mm == stretched.assd_mm == pytest.approx(np.hypot(np.hypot(120, 240), 60))


def test_nothing_to_compare_with_is_an_error() -> None:
    mask = np.ones((4, 4, 4), bool)
    with pytest.raises(UserError, match="empty"):
        vertebra_metrics(mask, ~mask)
    for value in (True, False):
        with pytest.raises(UserError, match="shapes"):
            vertebra_metrics(np.full((4, 4, 5), value), mask)


def row(subject: str, level: str, dice: float, status: str = "ok") -> MetricsRow:
    return MetricsRow(subject, "", level, dice, 10 * (1 - dice), 1 - dice, dice, dice, 0.0, 0.1, status)


ROWS = [row("a", "T1", 0.8), row("a", "T2", 0.7), row("b", "L1", 0.9), row("c", "C3", 0.4), row("d", "T13", 0.6)]


def test_csv_round_trip(tmp_path) -> None:
    path = tmp_path / "metrics.csv"
    awkward = row("007", "L6", 1 / 3, 'failed: a, "b"\nc')
    rows = [*ROWS, awkward, replace(awkward, series="s1", hd95_mm=120 * 3**0.5, seconds=1e-7, status="missing")]
    write_metrics_csv(rows, path)
    header = "subject,series,level,dice,hd95_mm,assd_mm,nsd_1mm,nsd_2mm,clipped_fraction,seconds,status"
    assert path.read_text().splitlines()[0] == header
    assert read_metrics_csv(path) == rows
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("subject,series", "series,subject", "columns"),
        ("0.8", "much", r"line 2: dice 'much' is no number"),
        ("0.8", "nan", r"line 2: dice 'nan' is not finite"),
        (",ok", "", r"line 2: 10 cells instead of 11"),
    ],
)
def test_spoilt_csv_is_refused(tmp_path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics_csv([ROWS[0]], path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=complaint):
        read_metrics_csv(path)
    with pytest.raises(UserError, match=r"none\.csv"):
        read_metrics_csv(tmp_path / "none.csv")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    table, summary = tmp_path / "metrics.csv", tmp_path / "summary.json"
    write_metrics_csv(ROWS, table)
    assert write_summary_json(ROWS, summary) == json.loads(summary.read_text()) == summarise(ROWS)
    before = table.read_bytes(), summary.read_bytes()
    with pytest.raises(UserError, match="no finite number"):
        write_summary_json([row("a", "T1", float("nan"))], summary)

    def fail(*_: object) -> None:
        raise OSError("interrupted")

    monkeypatch.setattr(os, "replace", fail)
    for write, path in ((write_metrics_csv, table), (write_summary_json, summary)):
        with pytest.raises(OSError, match="interrupted"):
            write(ROWS[:2], path)
    assert (table.read_bytes(), summary.read_bytes()) == before


def test_summary_counts_failures_and_groups() -> None:
    statuses = ("failed: unreadable", "failed: x", "empty", "missing")
    failed = [*ROWS, *(row("e", "L2", 0.0, status) for status in statuses)]
    summary, without = summarise(failed), summarise(ROWS)
    for name in METRICS:
        values = [getattr(r, name) for r in failed]
        assert summary["all"][name]["mean"] == pytest.approx(np.mean(values), abs=1e-5)
        assert summary["all"][name]["median"] == pytest.approx(np.median(values), abs=1e-5)
    assert summary["all"]["dice"]["mean"] < without["all"]["dice"]["mean"]
    assert summary["all"]["hd95_mm"]["mean"] > without["all"]["hd95_mm"]["mean"]
    assert summary["all"]["status"] == {"empty": 1, "failed": 2, "missing": 1, "ok": 5}
    assert (summary["all"]["n_vertebrae"], summary["all"]["n_subjects"]) == (9, 5)
    counts = {name: (group["n_vertebrae"], group["n_subjects"]) for name, group in summary["regions"].items()}
    assert list(counts.items()) == [("cervical", (1, 1)), ("thoracic", (3, 2)), ("lumbar", (5, 2))]
    assert list(summary["levels"]) == ["C3", "T1", "T2", "T13", "L1", "L2"]
    assert summary["levels"]["L2"]["dice"]["mean"] == 0
    with pytest.raises(UserError, match="no vertebrae"):
        summarise([])


def test_interval_resamples_patients_not_vertebrae() -> None:
    low, high = summarise(ROWS)["all"]["dice"]["interval_95"]
    assert low < np.mean([r.dice for r in ROWS]) < high
    # Ten vertebrae of one patient are no better known than one.
    twins = [replace(r, level="T5") for r in ROWS for _ in range(10)]
    assert summarise(twins)["all"]["dice"] == pytest.approx(summarise(ROWS)["all"]["dice"], abs=1e-5)
    # Of two patients a resample holds the one, the other or both: 1/4, 1/4, 1/2 of the resamples.
    pair = summarise([row("a", "T1", 0.2), *(row("b", level, 0.8) for level in ("T1", "T2", "T3"))])["all"]
    assert pair["dice"] == {"mean": 0.65, "median": 0.8, "interval_95": [0.2, 0.8]}
    assert "interval_note" not in pair
    # The mean is over vertebrae, not over patients' means: more than 2.5 % of the resamples hold the first patient of
    # four 3 times (4.7 %), that is 24 vertebrae of 0 and one of 1, fewer hold it 4 times (0.4 %).
    uneven = [row("a", "T1", 0.0)] * 8 + [row(subject, "T1", 1.0) for subject in "bcd"]
    assert summarise(uneven)["all"]["dice"]["interval_95"] == [0.04, 1.0]


def test_interval_depends_on_the_seed_alone() -> None:
    rows = [row(f"p{i}", "L1", dice) for i, dice in enumerate(np.random.default_rng(0).random(20))]
    assert summarise(rows) == summarise(rows) == summarise(rows[::-1])
    interval = summarise(rows)["all"]["dice"]["interval_95"]
    assert summarise(rows, seed=1)["all"]["dice"]["interval_95"] != interval
    error = np.std([r.dice for r in rows]) / 20**0.5
    assert np.ptp(interval) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_columns_have_the_interval_that_each_has_alone() -> None:
    values, patients = np.random.default_rng(3).random((12, 2)), list("aabbbcddddef")
    both = interval_95(values, patients)
    assert both is not None and both.shape == (2, 2)
    for column in range(2):
        alone = interval_95(values[:, column], patients)
        assert alone is not None and alone.shape == (2,) and (alone == both[:, column]).all()
    assert interval_95(values, ["a"] * 12) is None


def test_a_single_patient_has_no_interval() -> None:
    single = summarise(ROWS[:2])["all"]
    assert all(single[name]["interval_95"] is None for name in METRICS)
    assert "patients" in single["interval_note"]
    assert single["dice"]["mean"] == pytest.approx(0.75)


@pytest.mark.parametrize("size", [120, 60, 30])
def test_an_evaluation_measures_in_mm_whatever_the_voxels(tmp_path: Path, size: int) -> None:
    """Distances at half resolution were half of what they are."""
    truth = torch.zeros(1, size, size, size)
    truth[0, size // 4 : size // 2, size // 4 : size // 2, size // 4 : size // 2] = 1
    moved = torch.roll(truth, 8 * size // 120, 1)
    item = {"subject": "p1", "series": "p1", "level": "L1", "clipped_fraction": 0.0}
    state = SimpleNamespace(output=[{"pred": moved, "label": truth}], batch=[item])
    handler = VertebraMetricsHandler(str(tmp_path))
    handler._measure(SimpleNamespace(state=state))
    assert handler.rows[0].hd95_mm == pytest.approx(8.0)
