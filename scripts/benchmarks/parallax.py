"""What a cone beam costs a network that lifts along parallel rays, against the height off the central ray.

    python -m scripts.benchmarks.parallax --cone CONE_DATASET --parallel PARALLEL_DATASET [--weights FILE]

Both datasets are of the same patients, prepared with ``--beam cone`` and ``--beam parallel``; the pairs are vertebrae.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from scripts.command import run_module
from scripts.data.datalist import read_datalist
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.tables import markdown_table
from scripts.reconstruction.metrics.evaluate import evaluate_dataset
from scripts.reconstruction.metrics.table import read_metrics_csv

EDGES_MM = (0, 75, 150, 225, 300, 400)
Key = tuple[str, str]


def heights_mm(dataset: Path) -> dict[Key, float]:
    """(subject, level) -> distance of the body centroid from the plane of the central rays, mm."""
    found = {}
    for item in read_datalist(dataset, "test"):
        path = dataset / "cases" / item["case"] / "geometry.json"
        view = BiplanarGeometry.from_dict(json.loads(path.read_text())).ap
        offset = np.asarray(item["centroid_mm"]) - view.isocentre_mm
        found[item["subject"], item["level"]] = abs(float(offset @ view.row_direction))
    return found


def dice(dataset: Path, weights: Path | None) -> dict[Key, float]:
    """(subject, level) -> Dice."""
    with tempfile.TemporaryDirectory() as folder:
        evaluate_dataset(dataset, Path(folder), weights)
        return {(row.subject, row.level): row.dice for row in read_metrics_csv(Path(folder) / "metrics.csv")}


def main(cone: Path, parallel: Path, weights: Path | None = None) -> None:
    """Print the table."""
    heights, ours, theirs = heights_mm(cone), dice(cone, weights), dice(parallel, weights)
    keys = sorted(heights.keys() & ours.keys() & theirs.keys())
    height = np.array([heights[key] for key in keys])
    loss = np.array([theirs[key] - ours[key] for key in keys])
    rows = []
    for low, high in itertools.pairwise(EDGES_MM):
        chosen = (height >= low) & (height < high)
        if chosen.sum() < 2:
            continue
        width = stats.t.ppf(0.975, chosen.sum() - 1) * loss[chosen].std(ddof=1) / np.sqrt(chosen.sum())
        of = [key for key, c in zip(keys, chosen, strict=True) if c]
        means = (f"{np.mean([table[key] for key in of]):.3f}" for table in (theirs, ours))
        rows.append([f"{low}-{high}", chosen.sum(), *means, f"{loss[chosen].mean():+.3f} ± {width:.3f}"])
    columns = ["height off the central ray, mm", "vertebrae", "Dice parallel", "Dice cone", "lost, mean ± 95 %"]
    print("\n".join(markdown_table(columns, rows)))
    slope = stats.linregress(height, loss)
    print(f"\n{1000 * slope.slope:+.3f} Dice a metre (p {slope.pvalue:.2f}), {len(keys)} vertebrae")


if __name__ == "__main__":
    run_module(main)
