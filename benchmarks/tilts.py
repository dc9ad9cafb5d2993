"""Do reconstructed vertebrae lean as much as the true ones?

    python -m benchmarks.tilts --dataset DATASET [--weights FILE] [--data_list test]

For each vertebra of a prepared dataset the pose of the network's answer beside that of the true mask, both by
`scripts.spine.pose`. A network that puts upright vertebrae where others lean has a slope below 1: of the degrees by
which a true vertebra leans more than another, so many are reconstructed.
"""

from __future__ import annotations

from pathlib import Path

import fire
import numpy as np
from tqdm import tqdm

from scripts.benchmark.scoring import read_vertebrae
from scripts.io.nifti import read_nifti
from scripts.levels import level_number
from scripts.metrics.evaluate import read_datalist
from scripts.networks.predictor import Predictor
from scripts.spine.pose import NoBodyError, VertebraPose, estimate_pose

LEFT, FRONT, UP = 0, 1, 2


def tilts(pose: VertebraPose) -> tuple[float, float]:
    """How far the vertebra's own upward axis leans in the frontal and in the sagittal plane, degrees."""
    upward = pose.axes[UP]
    frontal, sagittal = np.degrees(np.arctan2([upward[LEFT], upward[FRONT]], upward[UP]))
    return float(frontal), float(sagittal)


def main(dataset: str, weights: str = "", data_list: str = "test") -> None:
    """Print a row a plane."""
    folder = Path(dataset)
    predictor = Predictor(Path(weights) if weights else None, batch_size=1, precision="auto")
    pairs = []
    for vertebra in tqdm(list(read_vertebrae(folder, read_datalist(folder, data_list))), unit="vertebra"):
        if vertebra.image is None:
            continue
        level = level_number(vertebra.item["level"])
        centroid = np.array(vertebra.item["centroid_mm"])
        affine = read_nifti(folder / vertebra.item["label"])[1]
        (found,) = predictor([vertebra.image])
        try:
            pairs.append([tilts(estimate_pose(level, p, affine, centroid)) for p in (vertebra.truth, found)])
        except NoBodyError:
            continue
    truth, seen = np.moveaxis(np.array(pairs), 1, 0)
    print(f"{len(pairs)} vertebrae\n\n| plane | true tilts, SD | slope | scatter about it, SD | error, SD |")
    print("| --- | --- | --- | --- | --- |")
    for plane, (x, y) in {"frontal": (truth[:, 0], seen[:, 0]), "sagittal": (truth[:, 1], seen[:, 1])}.items():
        slope, start = np.polyfit(x, y, 1)
        rest = y - (slope * x + start)
        print(f"| {plane} | {x.std():.1f} | {slope:.2f} | {rest.std():.1f} | {(y - x).std():.1f} |")


if __name__ == "__main__":
    fire.Fire(main)
