"""How large people are, and a person of the shape library."""

from __future__ import annotations

from functools import cache

import numpy as np

from scripts.anatomy.distances import pair_statistics
from scripts.anatomy.mean_shapes import VOXELS, mean_shapes
from scripts.anatomy.shapes import SACRUM, vertebrae_of
from scripts.geometry.cropping import CUBE_SIZE
from scripts.levels import level_name


def mean_pitch(number: int) -> float:
    """Mean distance of an average level to its neighbours."""
    names = [f"{level_name(number)}-", f"-{level_name(number)}"]
    found = [row["distance_mm"] for pair, row in pair_statistics().items() if pair.startswith(names[0])]
    found += [row["distance_mm"] for pair, row in pair_statistics().items() if pair.endswith(names[1])]
    return float(np.mean(found))


def subject_size(subject: str) -> float:
    """How much larger a shape subject is than the average person, from the distances of its bodies."""
    pitches = {number: row["pitch_mm"] for number, row in vertebrae_of(subject).items() if number != SACRUM}
    ratios = [pitch / mean_pitch(number) for number, pitch in pitches.items() if pitch > 0]
    return float(np.median(ratios))


@cache
def mean_volume_mm3(number: int) -> float:
    """Volume of the mean shape of a level."""
    return float((mean_shapes()[number] < 0).sum()) * (CUBE_SIZE / VOXELS) ** 3
