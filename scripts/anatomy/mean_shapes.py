"""The mean shape of each level: what is left of a level's vertebrae once place, turn and three stretches are taken out.

``mean_shapes.npz`` was made by ``python -m scripts.simulation.build_mean_shapes`` from the shape library. Against
the average vertebra (`scripts.anatomy.average`), which is the best guess where nothing is known of a person, it
is sharper and has longer processes: it is what a fit of nine numbers begins with.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from scripts.levels import TABLE_SIZE

MEAN_SHAPES_FILE = Path(__file__).with_name("mean_shapes.npz")
VOXELS = 60
# Distances end here, so that a step of the stored bytes is 0.1 mm.
REACH_MM = 12.0
STEPS = 127


@cache
def mean_shapes() -> torch.Tensor:
    """(29, 60, 60, 60) float32 mm, negative inside, on voxels of 2 mm of a vertebra's cube, by VerSe number.

    Along I, P, L of the vertebra's own frame: the body's centroid at `scripts.geometry.cropping.NOMINAL_CENTROID`, the
    spine running straight down. A number that is not a level has no shape, 12 mm everywhere. Read-only.
    """
    # An ordinary tensor even if the first call is in inference mode: gradients are taken through it.
    with torch.inference_mode(False), np.load(MEAN_SHAPES_FILE) as stored:
        table = torch.full((TABLE_SIZE, VOXELS, VOXELS, VOXELS), REACH_MM)
        for number, shape in zip(stored["numbers"].tolist(), stored["shapes"], strict=True):
            table[number] = to_mm(torch.from_numpy(shape))
    return table


def to_mm(stored: torch.Tensor) -> torch.Tensor:
    """Distances in mm of stored bytes."""
    return stored.float() * (REACH_MM / STEPS)


def to_bytes(distance_mm: torch.Tensor) -> torch.Tensor:
    """What is stored of distances in mm, int8."""
    return (distance_mm * (STEPS / REACH_MM)).round().to(torch.int8)
