"""How ``distances.json`` was made from public data; not needed to simulate.

python -m scripts.anatomy.build_distances KEYPOINTS.tar.gz
"""

from __future__ import annotations

import itertools
import json
import tarfile
from pathlib import Path

import numpy as np

from scripts.anatomy.distances import STATISTICS_FILE
from scripts.command import run_module
from scripts.levels import LEVEL_NUMBERS, LEVEL_ORDER, level_name

FEWEST_SCANS = 15


def build_distances(keypoints: Path) -> None:
    """Statistics of the directions between neighbouring bodies.

    Args:
        keypoints: VID's archive of JSON files with body key points in DICOM (LPS) world mm.
    """
    order = [level_name(number) for number in LEVEL_ORDER]
    names = [f"{a}-{b}" for a, b in itertools.pairwise(order)]
    names.insert(names.index("T12-T13"), "T12-L1")
    scans = []
    with tarfile.open(keypoints) as archive:
        for member in archive.getmembers():
            if member.name.endswith(".json") and "GroundTruth" in member.name:
                handle = archive.extractfile(member)
                assert handle is not None
                scans.append(_pairs_of_scan(json.load(handle), names))
    table = np.array(scans)  # (scans, pairs, 3): distance, sagittal, frontal
    counts = np.isfinite(table[..., 0]).sum(0)
    kept = [i for i, n in enumerate(counts) if n >= FEWEST_SCANS]
    table, counts = table[:, kept], counts[kept]
    median = np.nanmedian(table, axis=0)
    # Robust spread: a wrong mark in a scan must not widen it.
    spread = 1.4826 * np.nanmedian(np.abs(table - median), axis=0)
    scale = np.nanmedian(table[..., 0] / median[:, 0], axis=1, keepdims=True)
    after_scale = table[..., 0] / scale
    own = 1.4826 * np.nanmedian(np.abs(after_scale - np.nanmedian(after_scale, axis=0)), axis=0)
    pairs = {}
    for i, row in enumerate(kept):
        pairs[names[row]] = {
            "scans": int(counts[i]),
            "distance_mm": round(float(median[i, 0]), 2),
            "distance_sd_mm": round(float(spread[i, 0]), 2),
            "distance_sd_after_scale_mm": round(float(own[i]), 2),
            "sagittal_deg": round(float(median[i, 1]), 2),
            "sagittal_sd_deg": round(float(spread[i, 1]), 2),
            "frontal_sd_deg": round(float(spread[i, 2]), 2),
        }
    signals = {"distance": after_scale, "sagittal": table[..., 1], "frontal": table[..., 2]}
    stored = {
        "source": "derived from the VID key points (Bürgin, Prevost and Stollenga, MICCAI 2023), CC BY-SA 4.0",
        "pairs": pairs,
        "correlations": {name: np.round(_correlation(values), 3).tolist() for name, values in signals.items()},
    }
    STATISTICS_FILE.write_text(json.dumps(stored, indent=None).replace('}, "', '},\n"') + "\n")


def _pairs_of_scan(points: list[dict], names: list[str]) -> np.ndarray:
    bodies = {
        p["type"]["spine_level"]: np.array(p["coordinates"]["world_space"])
        for p in points
        if p["type"]["keypoint_type"] == "body" and p["type"]["spine_level"] in LEVEL_NUMBERS
    }
    rows = np.full((len(names), 3), np.nan)
    for i, name in enumerate(names):
        upper, lower = name.split("-")
        if upper in bodies and lower in bodies and not (name == "T12-L1" and "T13" in bodies):
            left, posterior, up = bodies[lower] - bodies[upper]
            rows[i] = (
                np.linalg.norm([left, posterior, up]),
                np.degrees(np.arctan2(posterior, -up)),
                np.degrees(np.arctan2(left, -up)),
            )
    return rows


def _correlation(values: np.ndarray) -> np.ndarray:
    """Correlations of clipped deviations, from the scans that show both; made positive definite.

    Pairs that fewer than 15 scans show together take what their distance along the spine suggests.
    """
    centre = np.nanmedian(values, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(values - centre), axis=0)
    z = np.clip((values - centre) / spread, -3, 3)
    count = z.shape[1]
    matrix = np.eye(count)
    for i in range(count):
        for j in range(i):
            both = np.isfinite(z[:, i]) & np.isfinite(z[:, j])
            near = 0.8 ** abs(i - j)
            matrix[i, j] = matrix[j, i] = (
                np.corrcoef(z[both, i], z[both, j])[0, 1] if both.sum() >= FEWEST_SCANS else near * 0.5
            )
    values_, vectors = np.linalg.eigh(matrix)
    matrix = vectors @ np.diag(np.maximum(values_, 0.02)) @ vectors.T
    size = np.sqrt(np.diag(matrix))
    return matrix / np.outer(size, size)


if __name__ == "__main__":
    run_module(build_distances)
