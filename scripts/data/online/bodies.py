"""A body around a CT that was cropped to the spine, so that its films look like a patient's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from scripts.data.volumes import AIR_HU, CaseVolumes, resample_hu
from scripts.geometry.frames import bounding_grid, resample
from scripts.simulation.painting import paint_around_labels

# Over which the crop's border goes over into the painted body.
FADE_MM = 6.0


def put_body_around(volumes: CaseVolumes, rng: np.random.Generator) -> CaseVolumes:
    """A cropped case in a painted body, on a canonical grid of 1 mm.

    Args:
        volumes: CT numbers and labels; outside the crop nothing is known.
        rng: source of the body.
    """
    labels, affine, painted = paint_around_labels(volumes.labels, volumes.affine, rng)
    grid = bounding_grid(affine, labels.shape)
    scanned = (volumes.hu > AIR_HU + 50).astype(np.float32)
    # Where the crop reaches, a voxel inside its outermost layer counts in full.
    known = resample(torch.from_numpy(scanned), volumes.affine, grid).numpy() > 0.9
    real = resample_hu(volumes.hu, volumes.affine, grid)
    weight = np.clip(ndimage.distance_transform_edt(known) / FADE_MM, 0, 1)
    hu = (painted * (1 - weight) + real * weight).astype(np.float32)
    return replace(volumes, hu=hu, labels=labels, affine=affine)
