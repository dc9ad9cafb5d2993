"""How well the line through the bodies tells the Cobb angle of simulated patients.

    python -m scripts.benchmarks.midline --simulated SIM --dataset DATASET

SIM as ``simulate`` wrote it, with each patient's Cobb angle; DATASET prepared from it, with the body centroids.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from scripts.command import run_module
from scripts.levels import in_order, level_number
from scripts.measure.midline import CONTRADICTION_DEG, midline_bend


def main(simulated: str, dataset: str) -> None:
    """Print the errors, by the number of vertebrae in sight."""
    truth = json.loads((Path(simulated) / "simulation.json").read_text())["patients"]
    lists = json.loads((Path(dataset) / "dataset.json").read_text())
    centroids: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for name in ("training", "validation", "test", "excluded"):
        for item in lists[name]:
            centroids[item["subject"]][level_number(item["level"])] = item["centroid_mm"]
    rows = []
    for subject, bodies in centroids.items():
        bend = midline_bend(np.array([bodies[n] for n in in_order(list(bodies))]))
        if subject in truth and bend is not None:
            rows.append((len(bodies), bend.degrees - truth[subject]["cobb_deg"]))
    counts, errors = np.array(rows).T
    print("| bodies | patients | mean error | SD | median size | line larger by more than it takes to warn |")
    print("| --- | --- | --- | --- | --- | --- |")
    for fewest in (5, 10, 20):
        e = errors[counts >= fewest]
        share = 100 * (e > CONTRADICTION_DEG).mean()
        print(
            f"| {fewest} and more | {len(e)} | {e.mean():+.1f}° | {e.std():.1f}° "
            f"| {np.median(abs(e)):.1f}° | {share:.0f} % |"
        )


if __name__ == "__main__":
    run_module(main)
