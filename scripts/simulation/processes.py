"""Where a vertebra's processes end: simple, robust geometry on its shape in its own frame."""

from __future__ import annotations

import numpy as np

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape
from scripts.levels import LEVEL_NUMBERS

# Left is + along axis 2; a vertebra's own right-hand tips mirror its left-hand ones.
PROCESSES = (
    "spinous",
    "transverse_left",
    "transverse_right",
    "superior_left",
    "superior_right",
    "inferior_left",
    "inferior_right",
)
# A tip is the mean of what lies this close to the farthest voxel.
TIP_MM = 2.5


def process_tips(shape: VertebraShape) -> np.ndarray:
    """Tips of the seven processes, (7, 3) mm down, back, left in the vertebra's own frame; nan where missing.

    Spinous: the farthest back near the midline (the posterior tubercle of C1). Transverse: the farthest to a side,
    behind the body below the neck. Superior and inferior: the highest and lowest of the articular processes.
    """
    inside = np.argwhere(shape.signed_distance < 0)
    return tips_of(shape.number, (inside - np.array(shape.origin)) * SHAPE_SPACING_MM)


def tips_of(number: int, points: np.ndarray) -> np.ndarray:
    """Tips of the seven processes, (7, 3) mm, from points inside a vertebra.

    Args:
        number: VerSe number.
        points: (N, 3) mm in its own frame, evenly spread.
    """
    side, back = points[:, 2], points[:, 1]
    cervical = number <= LEVEL_NUMBERS["C7"]
    # Half the depth of the body: articular processes stand behind it; those of C1 and C2 beside its middle.
    depth = _half_depth(points)
    behind = back > (-30.0 if number == 1 else 0.0 if number == 2 else 0.7 * depth)
    aside = 9.0 if number <= 2 else 7.0
    lateral = back > (-30.0 if cervical else 0.9 * depth)
    tips = [_end(points, back, np.abs(side) < 14)]
    tips += [_end(points, sign * side, lateral & (sign * side > 0)) for sign in (1, -1)]
    tips += [_end(points, -points[:, 0], behind & (sign * side > aside)) for sign in (1, -1)]
    tips += [_end(points, points[:, 0], behind & (sign * side > aside)) for sign in (1, -1)]
    return np.array(tips)


def _half_depth(points: np.ndarray) -> float:
    """How far a body reaches in front of its centroid, mm."""
    middle = points[(np.abs(points[:, 0]) < 4) & (np.abs(points[:, 2]) < 4)]
    return float(-middle[:, 1].min()) if len(middle) else 8.0


def _end(points: np.ndarray, along: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    if candidates.sum() < 20:
        return np.full(3, np.nan)
    chosen = points[candidates]
    reach = along[candidates]
    return chosen[reach > reach.max() - TIP_MM].mean(0)
