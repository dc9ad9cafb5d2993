"""A vertebra without neighbours: its axes and its size from the average vertebra of its level."""

from __future__ import annotations

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from scripts.anatomy.average import average_occupancy, cube_points
from scripts.anatomy.shapes import shape_subjects, vertebrae_of
from scripts.anatomy.sizes import mean_pitch
from scripts.geometry.frames import IPL_AXES

SPACING_MM = 3.0
SOFTNESS_MM = 1.5
# A single vertebra's file may be turned this far from the patient's axes.
START_DEG = (-20.0, 0.0, 20.0)


def frame_from_average(
    number: int, occupancy: np.ndarray, affine: np.ndarray, centroid_mm: np.ndarray
) -> tuple[np.ndarray, float]:
    """Axes and pitch of a single vertebra: the turn, scale and small move under which it overlaps the average best.

    Args:
        number: VerSe number.
        occupancy: (X, Y, Z) 0 to 1.
        affine: 4x4 index -> RAS mm.
        centroid_mm: (3,) world, its body's.

    Returns:
        world vectors (3, 3), rows down, back, left; and the mean distance to its neighbours that goes with its size.
    """
    singles = tuple(s for s in shape_subjects() if len(vertebrae_of(s)) == 1)
    points = cube_points(SPACING_MM).reshape(-1, 3)
    average = average_occupancy(number, SPACING_MM, singles, SOFTNESS_MM).ravel()
    to_index = np.linalg.inv(affine)
    smooth = ndimage.gaussian_filter(occupancy, 1.0 / np.linalg.norm(affine[:3, 0]))

    def miss(parameters: np.ndarray) -> float:
        turn = Rotation.from_rotvec(parameters[:3]).as_matrix()
        local = (points * np.exp(parameters[3]) + 10 * parameters[4:]) @ turn.T
        index = apply_affine(to_index, local @ IPL_AXES + centroid_mm)
        own = ndimage.map_coordinates(smooth, index.T, order=1, mode="constant", prefilter=False)
        return 1 - 2 * float((own * average).sum() / (own.sum() + average.sum()))

    starts = [np.r_[0.0, 0.0, np.radians(degrees), np.zeros(4)] for degrees in START_DEG]
    best = minimize(miss, min(starts, key=miss), method="Powell", options={"xtol": 1e-3, "ftol": 1e-5})
    turn = Rotation.from_rotvec(best.x[:3]).as_matrix()
    return turn.T @ IPL_AXES, float(np.exp(best.x[3]) * mean_pitch(number))
