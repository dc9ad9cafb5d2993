"""Do reconstructed vertebrae lean as much as the true ones?

    python -m scripts.benchmarks.tilts --dataset DATASET [--weights FILE] [--list test]

Reconstructs every patient of a prepared dataset's list from the films and true marks, and sets each vertebra's pose
beside that of its true mask, both by `scripts.measure.pose`. Slope: of the degrees by which a true vertebra leans more
than another, so many are reconstructed (Theil-Sen, since a pose that failed is far off).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage, stats
from tqdm import tqdm

from scripts.command import run_module
from scripts.data.datalist import read_datalist
from scripts.films.calibration import calibrate
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_nifti
from scripts.io.tables import markdown_table
from scripts.measure.body import NoBodyError
from scripts.measure.pose import VertebraPose, estimate_pose
from scripts.reconstruction.predictor import Predictor
from scripts.spine.session import reconstruct_films

LEFT, FRONT, UP = 0, 1, 2
MARGIN = 3


def tilts(pose: VertebraPose) -> tuple[float, float]:
    """How far the vertebra's own upward axis leans in the frontal and in the sagittal plane, degrees."""
    upward = pose.axes[UP]
    frontal, sagittal = np.degrees(np.arctan2([upward[LEFT], upward[FRONT]], upward[UP]))
    return float(frontal), float(sagittal)


def true_pose(labels: np.ndarray, affine: np.ndarray, level: int, centroid_mm: np.ndarray) -> VertebraPose:
    """The pose of one label of a labelmap.

    Raises:
        NoBodyError: it has none, or no body.
    """
    found = ndimage.find_objects((labels == level).view(np.uint8))
    if not found:
        raise NoBodyError("not in the labelmap")
    box = tuple(slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in found[0])
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [s.start for s in box]
    return estimate_pose(level, (labels[box] == level).astype(np.float32), moved, centroid_mm)


def main(dataset: Path, weights: Path | None = None, list_: str = "test") -> None:
    """Print a row a plane."""
    cases = sorted({(dataset / item["label"]).parent for item in read_datalist(dataset, list_)})
    predictor = Predictor(weights, precision="auto")
    pairs = []
    for case in tqdm(cases, unit="patient"):
        geometry = case / "geometry.json"
        marks = read_annotations(case / "annotations.json")
        where = geometry if geometry.is_file() else None
        films = calibrate(read_films(case / "ap.nii.gz", case / "lat.nii.gz", ReadingOptions(where)), marks)
        labels, affine = read_nifti(case / "labelmap.nii.gz")
        for part in reconstruct_films(films, marks, predictor).parts:
            centroid = np.array(part.vertebra.cube.body_centroid_mm)
            try:
                found = estimate_pose(part.level, part.probability, part.vertebra.cube.grid.affine, centroid)
                pairs.append((tilts(true_pose(labels, affine, part.level, centroid)), tilts(found)))
            except NoBodyError:
                continue
    truth, seen = np.moveaxis(np.array(pairs), 1, 0)
    print(f"{len(pairs)} vertebrae of {len(cases)} patients\n")
    rows = []
    for plane, (x, y) in {"frontal": (truth[:, 0], seen[:, 0]), "sagittal": (truth[:, 1], seen[:, 1])}.items():
        error = np.abs(y - x)
        middle, most = (f"{np.percentile(error, share):.1f}°" for share in (50, 90))
        rows.append([plane, f"{x.std():.1f}°", f"{stats.theilslopes(y, x).slope:.2f}", middle, most])
    print("\n".join(markdown_table(["plane", "true tilts, SD", "slope", "median error", "90 % below"], rows)))


if __name__ == "__main__":
    run_module(main)
