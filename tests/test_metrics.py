"""Metrics against brute force, MONAI's public functions and hand-computed cases."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial import cKDTree

from scripts.errors import UserError
from scripts.metrics.surface import vertebra_metrics
from scripts.metrics.table import METRICS, MetricsRow, read_metrics_csv, summarise, write_metrics_csv


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


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_brute_force(seed: int, spacing: tuple[float, float, float]) -> None:
    a = blob(seed)
    b = np.roll(blob(seed), (2, 1, 0), (0, 1, 2)) | blob(seed + 10)
    found = asdict(vertebra_metrics(a, b, spacing))
    expected = brute_force(a, b, spacing)
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def test_agrees_with_monai_s_public_metrics() -> None:
    a, b = blob(3), blob(4)
    found = vertebra_metrics(a, b)
    tensors = [torch.from_numpy(m)[None, None].float() for m in (a, b)]
    assert found.hd95_mm == pytest.approx(
        float(compute_hausdorff_distance(*tensors, include_background=True, percentile=95)), rel=1e-5
    )
    assert found.assd_mm == pytest.approx(
        float(compute_average_surface_distance(*tensors, include_background=True, symmetric=True)), rel=1e-5
    )
    for tolerance, value in ((1.0, found.nsd_1mm), (2.0, found.nsd_2mm)):
        expected = float(compute_surface_dice(*tensors, class_thresholds=[tolerance], include_background=True))
        assert value == pytest.approx(expected, rel=1e-5)


def test_shifted_cube_by_hand() -> None:
    truth = np.zeros((30, 30, 30), bool)
    truth[5:15, 5:15, 5:15] = True
    found = vertebra_metrics(np.roll(truth, 3, axis=0), truth)
    assert found.dice == pytest.approx(0.7)
    assert found.hd95_mm == pytest.approx(3.0)
    assert vertebra_metrics(truth, truth).assd_mm == 0 and vertebra_metrics(truth, truth).nsd_1mm == 1


def test_false_island_and_missing_half_both_cost() -> None:
    """One-sided measures are blind to one of them."""
    truth = np.zeros((60, 30, 30), bool)
    truth[5:25, 5:25, 5:25] = True
    island = truth.copy()
    island[40:50, 5:25, 5:25] = True
    half = truth.copy()
    half[15:] = False
    for wrong in (island, half):
        found = vertebra_metrics(wrong, truth)
        assert found.nsd_1mm < 0.9 and found.hd95_mm > 8


@pytest.mark.parametrize("prediction", [None, np.zeros((120, 120, 120), bool)])
def test_failures_score_worst(prediction: np.ndarray | None) -> None:
    truth = np.zeros((120, 120, 120), bool)
    truth[50:60, 50:60, 50:60] = True
    found = vertebra_metrics(prediction, truth)
    assert found.dice == found.nsd_1mm == found.nsd_2mm == 0
    assert found.hd95_mm == found.assd_mm == pytest.approx(120 * np.sqrt(3))


def test_nothing_to_compare_with_is_an_error() -> None:
    mask = np.ones((4, 4, 4), bool)
    with pytest.raises(UserError, match="empty"):
        vertebra_metrics(mask, ~mask)
    with pytest.raises(UserError, match="shapes"):
        vertebra_metrics(np.ones((4, 4, 5), bool), mask)


def row(subject: str, level: str, dice: float, status: str = "ok") -> MetricsRow:
    return MetricsRow(subject, "", level, dice, 10 * (1 - dice), 1 - dice, dice, dice, 0.0, 0.1, status)


ROWS = [row("a", "T1", 0.8), row("a", "T2", 0.7), row("b", "L1", 0.9), row("c", "C3", 0.4), row("d", "T13", 0.6)]


def test_csv_round_trip(tmp_path) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics_csv(ROWS, path)
    header = "subject,series,level,dice,hd95_mm,assd_mm,nsd_1mm,nsd_2mm,clipped_fraction,seconds,status"
    assert path.read_text().splitlines()[0] == header
    for written, read in zip(ROWS, read_metrics_csv(path), strict=True):
        for name, value in asdict(written).items():
            assert getattr(read, name) == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def test_summary_counts_failures_and_groups() -> None:
    failed = [*ROWS, row("e", "L2", 0.0, "failed: unreadable")]
    summary = summarise(failed)
    assert summary["all"]["dice"]["mean"] == pytest.approx(np.mean([r.dice for r in failed]), abs=1e-5)
    assert summary["all"]["dice"]["mean"] < summarise(ROWS)["all"]["dice"]["mean"]
    assert summary["all"]["status"] == {"failed": 1, "ok": 5}
    assert summary["regions"]["thoracic"]["n_vertebrae"] == 3
    assert list(summary["levels"]) == ["C3", "T1", "T2", "T13", "L1", "L2"]


def test_interval_resamples_patients_not_vertebrae() -> None:
    low, high = summarise(ROWS)["all"]["dice"]["interval_95"]
    assert low < np.mean([r.dice for r in ROWS]) < high
    # Ten vertebrae of one patient are no better known than one.
    twins = [replace(r, level="T5") for r in ROWS for _ in range(10)]
    few, many = summarise(ROWS[1:])["all"]["dice"], summarise([r for r in twins if r.subject != "a"])["all"]["dice"]
    assert np.ptp(many["interval_95"]) > 0.5 * np.ptp(few["interval_95"])
    assert summarise(ROWS) == summarise(ROWS)
    single = summarise(ROWS[:2])["all"]
    assert single["dice"]["interval_95"] is None and "interval_note" in single
