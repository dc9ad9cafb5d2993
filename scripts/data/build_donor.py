"""How ``donors/`` was made: a CT without its spine, small enough to come with the program.

    python -m scripts.data.build_donor MANIFEST.json SUBJECT NAME [--reach-mm 15] [--sacrum True]

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
# A sacrum lies below the last vertebra, between the iliac bones: from its plate to its end, to each side, before and
# behind, mm; and what its cortex has at least in a CT whose muscle has -70 HU, as the one donor with a sacrum.
SACRUM_MM = (10.0, 115.0)
SACRUM_HALF_WIDTH_MM, SACRUM_BEFORE_MM, SACRUM_BEHIND_MM = 46.0, 30.0, 110.0
LEAST_CORTEX_HU = 20.0


def build_donor(manifest: Path, subject: str, name: str, reach_mm: float | None = None, sacrum: bool = False) -> None:
    """One donor file.

    Args:
        manifest: names its CT and labels.
        subject: in it.
        name: of the donor.
        reach_mm: how far the body goes on above the first labelled centroid and below the last; as far as the CT if
            None. Beyond them, vertebrae without a label or a face would stay in it.
        sacrum: take out what bone lies in the middle below the last vertebra, too.
    """
    case = next(case for case in find_cases(manifest) if case.subject == subject)
    volumes = read_case(case, np.random.default_rng(0))
    grid = bounding_grid(volumes.affine, volumes.hu.shape, SPACING_MM)
    # Outside a volume resampling gives 0, which must become the lowest code.
    hu = resample(torch.from_numpy(volumes.hu - CODE_OFFSET), volumes.affine, grid).numpy() + CODE_OFFSET
    labels = resample_labels(volumes.labels, volumes.affine, grid)
    numbers = in_order([int(n) for n in np.unique(labels) if n])
    centroids = [grid.to_index(body_centroid(n, labels == n, grid)) for n in numbers]
    spine = labels > 0
    if sacrum:
        spine |= sacral_bone(hu, centroids[-1])
    hu = without_bone(hu, spine)
    if reach_mm is not None:
        reach = reach_mm / SPACING_MM
        first = max(int(centroids[0][0] - reach), 0)
        hu = hu[first : int(centroids[-1][0] + reach) + 1]
        centroids = [centroid - np.array([first, 0, 0]) for centroid in centroids]
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


def sacral_bone(hu: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(I, P, L) bool: bone of a sacrum and coccyx below the last lumbar centroid (3,), an index."""
    rows, p, left = (np.arange(n) - c for n, c in zip(hu.shape, last, strict=True))
    box = (
        ((rows * SPACING_MM > SACRUM_MM[0]) & (rows * SPACING_MM < SACRUM_MM[1]))[:, None, None]
        & ((p * SPACING_MM > -SACRUM_BEFORE_MM) & (p * SPACING_MM < SACRUM_BEHIND_MM))[None, :, None]
        & (np.abs(left) * SPACING_MM < SACRUM_HALF_WIDTH_MM)[None, None]
    )
    closed = ndimage.binary_closing(box & (hu > LEAST_CORTEX_HU), iterations=3) & box
    return np.stack([ndimage.binary_fill_holes(part) for part in np.moveaxis(closed, 2, 0)], axis=2)


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
