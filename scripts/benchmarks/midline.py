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
from scripts.data.datalist import ALL_LISTS, read_document
from scripts.io.tables import markdown_table
from scripts.levels import in_order, level_number
from scripts.measure.midline import CONTRADICTION_DEG, midline_bend


def main(simulated: Path, dataset: Path) -> None:
    """Print the errors, by the number of vertebrae in sight."""
    truth = json.loads((simulated / "simulation.json").read_text())["patients"]
    lists = read_document(dataset)
    centroids: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for name in ALL_LISTS:
        for item in lists[name]:
            if not item.get("no_mark"):
                centroids[item["subject"]][level_number(item["level"])] = item["centroid_mm"]
    rows = []
    for subject, bodies in centroids.items():
        bend = midline_bend(np.array([bodies[n] for n in in_order(list(bodies))]))
        if subject in truth and bend is not None:
            rows.append((len(bodies), bend.degrees - truth[subject]["cobb_deg"]))
    counts, errors = np.array(rows).T
    cells = []
    for fewest in (5, 10, 20):
        e = errors[counts >= fewest]
        share = 100 * (e > CONTRADICTION_DEG).mean()
        numbers = [f"{e.mean():+.1f}°", f"{e.std():.1f}°", f"{np.median(abs(e)):.1f}°", f"{share:.0f} %"]
        cells.append([f"{fewest} and more", len(e), *numbers])
    columns = ["bodies", "patients", "mean error", "SD", "median size", "line larger by more than it takes to warn"]
    print("\n".join(markdown_table(columns, cells)))


if __name__ == "__main__":
    run_module(main)
