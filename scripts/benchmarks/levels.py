"""The reading of levels alone, without any network: real spines, made-up evidence.

``python -m scripts.benchmarks.levels --source FOLDER`` reads the body key points of VID's ground truth (Bürgin, Prevost
and Stollenga, MICCAI 2023; CC BY-SA 4.0), draws detections from them (some missed, some false, moved by some
millimetres) with evidence of a given quality, and prints how often each way of reading the levels is right.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.command import run_module
from scripts.io.tables import markdown_table
from scripts.levels import LEVEL_ORDER, level_number
from scripts.localization.levels import FIRST_LUMBAR, FIRST_THORACIC, NAMES, S1_INDEX, region_index
from scripts.localization.path import read_levels
from scripts.localization.path_options import PathOptions

# Evidence: name -> (share of detections whose likeliest level is right; None for region alone).
EVIDENCE: dict[str, float | None] = {"region only": None, "levels, 60 % right": 0.6, "levels, 85 % right": 0.85}
MISSED, FALSE, NOISE_MM = 0.01, 0.01, 1.6


def read_scan(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places in the level table (N,) and world mm (N, 3), head to foot."""
    rows = [row for row in json.loads(path.read_text()) if row["type"]["keypoint_type"] == "body"]
    found = {
        LEVEL_ORDER.index(level_number(row["type"]["spine_level"])): row["coordinates"]["world_space"] for row in rows
    }
    order = sorted(found)
    return np.array(order), np.array([found[i] for i in order], float).reshape(-1, 3)


def draw_detections(
    levels: np.ndarray, points: np.ndarray, right: float | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True level (or -1), position and log probabilities of what a detector might have found."""
    kept = rng.random(len(levels)) >= MISSED
    kept[rng.integers(len(levels))] = True
    truth, where = levels[kept], points[kept] + rng.normal(0, NOISE_MM, (int(kept.sum()), 3))
    if rng.random() < FALSE * len(levels):
        place = rng.integers(len(truth))
        truth = np.insert(truth, place, -1)
        where = np.insert(where, place, where[place] + rng.normal(0, 8, 3), axis=0)
    if levels[-1] >= NAMES.index("L5") and rng.random() < 0.3:  # a sacrum taken for a vertebra
        truth, where = np.append(truth, -1), np.append(where, where[-1:] + [0, -12, -30], axis=0)
    logs = np.stack([_evidence(level, right, rng) for level in truth])
    return truth, where, logs


def _evidence(level: int, right: float | None, rng: np.random.Generator) -> np.ndarray:
    share = np.full(len(NAMES), 1e-3)
    level = int(level) if level >= 0 else NAMES.index("L5")
    if right is None:
        # At the border of two regions the network wavers.
        border = min(abs(level - FIRST_THORACIC + 0.5), abs(level - FIRST_LUMBAR + 0.5))
        sure = 1 / (1 + np.exp(-rng.normal(1.5 + border, 1.5)))
        mine = [i for i in range(S1_INDEX) if region_index(i) == region_index(level)]
        share[:S1_INDEX] += (1 - sure) / S1_INDEX
        share[mine] += sure / len(mine)
        share[S1_INDEX] = share[NAMES.index("L5")]
    else:
        peak = level
        if rng.random() >= right:
            peak = int(np.clip(level + rng.choice([-1, 1]), 0, S1_INDEX))
        share += 0.9 * np.exp(-((np.arange(len(NAMES)) - peak) ** 2) / (2 * (1.2 - right) ** 2 * 4))
    return np.log(share / share.sum())


def count_from_border(logs: np.ndarray) -> np.ndarray:
    """Levels by counting up and down from where the region changes from thoracic to lumbar."""
    lumbar = np.exp(logs[:, FIRST_LUMBAR:S1_INDEX]).sum(1) > np.exp(logs[:, FIRST_THORACIC:FIRST_LUMBAR]).sum(1)
    first = int(np.argmax(lumbar)) if lumbar.any() else len(logs)
    usual = [i for i in range(S1_INDEX) if NAMES[i] not in ("T13",)]
    start = usual.index(FIRST_LUMBAR) - first
    return np.array([usual[start + i] if 0 <= start + i < len(usual) else -1 for i in range(len(logs))])


def identified(
    truth: np.ndarray, where: np.ndarray, said: np.ndarray, levels: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """VerSe's rule for every true vertebra: what is called so lies nearest to it and within 20 mm."""
    hit: np.ndarray = np.zeros(len(levels), bool)
    for i, level in enumerate(levels):
        for at in where[said == level][:1]:
            apart = np.linalg.norm(points - at, axis=1)
            hit[i] = apart.argmin() == i and apart[i] < 20
    return hit


def run(source: Path, scans: int = 400, seed: int = 0) -> None:
    """Print a table.

    Args:
        source: folder with VID's ``KeypointGroundTruthNoSacrum``.
        scans: of each of the two parts.
        seed: of the detections.
    """
    full = PathOptions(end=0.0)
    rows = []
    for part in ("Validation", "Training"):
        paths = sorted(source.glob(f"**/KeypointGroundTruthNoSacrum/{part}/*.json"))[:scans]
        for name, right in EVIDENCE.items():
            rng = np.random.default_rng(seed)
            results: dict[str, list[np.ndarray]] = {}
            for path in tqdm(paths, desc=f"{part}, {name}", leave=False):
                levels, points = read_scan(path)
                if len(levels) < 2:
                    continue
                truth, where, logs = draw_detections(levels, points, right, rng)
                steps = np.linalg.norm(where[:, None] - where[None], axis=-1)
                scores = np.full(len(truth), 0.9)
                no_s1 = logs.copy()
                no_s1[:, S1_INDEX] = -30
                readings = {
                    "likeliest level" if right else "counted from T12/L1": logs.argmax(1)
                    if right
                    else count_from_border(logs),
                    "path without S1": read_levels(no_s1, None, scores, steps, full).levels,
                    "path without distances": read_levels(logs, None, scores, steps, replace(full, spacing=0.0)).levels,
                    "path": read_levels(logs, None, scores, steps, full).levels,
                }
                for reading, said in readings.items():
                    results.setdefault(reading, []).append(identified(truth, where, said, levels, points))
            for reading, hits in results.items():
                rate, whole = np.concatenate(hits).mean(), np.mean([h.all() for h in hits])
                rows.append([f"{part}, {len(hits)}", name, reading, f"{rate:.3f}", f"{whole:.3f}"])
    print("\n".join(markdown_table(["part", "evidence", "reading", "id-rate", "all right"], rows)))


if __name__ == "__main__":
    run_module(run)
