"""How ``donors/`` was made: a CT without its spine, small enough to come with the program.

    python -m scripts.data.build_donor MANIFEST.json SUBJECT NAME

``MANIFEST.json`` is one of ``prepare``'s; the donor is one of its subjects.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from scripts.anatomy.centroids import body_centroid
from scripts.command import run_module
from scripts.data.cases import find_cases
from scripts.data.volumes import read_case
from scripts.geometry.frames import bounding_grid, resample, resample_labels
from scripts.levels import in_order
from scripts.simulation.donor import CODE_OFFSET, DONORS_FOLDER, HU_PER_CODE

SPACING_MM = 3.6


def build_donor(manifest: Path, subject: str, name: str) -> None:
    """One donor file."""
    case = next(case for case in find_cases(manifest) if case.subject == subject)
    volumes = read_case(case, np.random.default_rng(0))
    grid = bounding_grid(volumes.affine, volumes.hu.shape, SPACING_MM)
    # Outside a volume resampling gives 0, which must mean air.
    hu = resample(torch.from_numpy(volumes.hu + 1024), volumes.affine, grid).numpy() - 1024
    labels = resample_labels(volumes.labels, volumes.affine, grid)
    numbers = in_order([int(n) for n in np.unique(labels) if n])
    centroids = [grid.to_index(body_centroid(n, labels == n, grid)) for n in numbers]
    hu = without_bone(hu, labels > 0)
    codes = np.clip(np.rint((hu - CODE_OFFSET) / HU_PER_CODE), 0, 255).astype(np.uint8)
    about = {
        "source": case.source,
        "licence": case.licence,
        "spacing_mm": SPACING_MM,
        "ranks": numbers,
        "centroids": np.round(centroids, 2).tolist(),
    }
    DONORS_FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(DONORS_FOLDER / f"{name}.npz", about=json.dumps(about), codes=codes)
    print(f"{name}: {codes.shape}, {(DONORS_FOLDER / f'{name}.npz').stat().st_size / 1e6:.1f} MB")


def without_bone(hu: np.ndarray, spine: np.ndarray) -> np.ndarray:
    """Soft tissue in place of the spine and what its blurred surface touches: the mean of the soft tissue around it."""
    near = ndimage.binary_dilation(spine, iterations=2)
    soft = (hu > -150) & (hu < 130) & ~near
    weight = ndimage.gaussian_filter(soft.astype(np.float32), 3)
    mean = ndimage.gaussian_filter(np.where(soft, hu, 0).astype(np.float32), 3) / np.maximum(weight, 1e-3)
    filled = np.where(weight > 0.01, mean, 40.0)
    # Lung beside the spine stays lung.
    replace = spine | (near & (hu > 60))
    return np.where(replace, filled, hu)


if __name__ == "__main__":
    run_module(build_donor)
