"""Random deformations of a whole patient: new patients from few CTs.

The CT and its labelmap are deformed together *before* they are projected, so that the radiograph of a variant is the
true radiograph of the deformed patient, with everything around the vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.frames import Grid


@dataclass(frozen=True)
class VariantRange:
    """How far a variant may go from its patient.

    Args:
        rotation_deg: largest turn about each axis.
        scale: smallest and largest stretch along each axis.
        mirror: whether left and right may be swapped.
        bend_mm: standard deviation of the smooth displacement at its control points.
        bend_spacing_mm: distance of the control points.
        centroid_noise_mm: standard deviation, along each axis, of the annotated centroid about the true one.
        view_angle_error_deg: largest turn of each view by itself about the patient's long axis and up or down. Marks
            are where the films show them; everything else is placed as if the views were not turned.
    """

    rotation_deg: float = 10.0
    scale: tuple[float, float] = (0.85, 1.15)
    mirror: bool = True
    bend_mm: float = 3.0
    bend_spacing_mm: float = 60.0
    centroid_noise_mm: float = 1.5
    view_angle_error_deg: float = 0.0


def misaligned(geometry: BiplanarGeometry, limits: VariantRange, rng: np.random.Generator) -> BiplanarGeometry:
    """The views as they really were taken, each turned at random; the same object if there is no error to draw."""
    if limits.view_angle_error_deg == 0:
        return geometry
    (ap_yaw, ap_pitch), (lat_yaw, lat_pitch) = rng.uniform(-1, 1, (2, 2)) * limits.view_angle_error_deg
    return BiplanarGeometry(geometry.ap.turned(ap_yaw, ap_pitch), geometry.lat.turned(lat_yaw, lat_pitch))


class Variant:
    """One random deformation, a smooth map from the variant's world to the patient's.

    Args:
        grid: the patient's grid; the deformation turns about its centre.
        limits: how far it may go.
        rng: source of randomness.
    """

    def __init__(self, grid: Grid, limits: VariantRange, rng: np.random.Generator) -> None:
        size_mm = np.array(grid.shape) * grid.spacing_mm
        self.centre = grid.to_world((np.array(grid.shape) - 1) / 2)
        turn = Rotation.from_euler("xyz", rng.uniform(-limits.rotation_deg, limits.rotation_deg, 3), degrees=True)
        common = rng.uniform(*limits.scale)
        stretch = common * rng.uniform(0.95, 1.05, 3)
        if limits.mirror and rng.random() < 0.5:
            stretch[0] = -stretch[0]  # world x runs from left to right
        self.matrix = turn.as_matrix() @ np.diag(1 / stretch)
        points = np.maximum(np.ceil(size_mm / limits.bend_spacing_mm).astype(int), 1) + 3
        field = rng.normal(0, limits.bend_mm, (1, 3, *points)).astype(np.float32)
        self.bend = F.avg_pool3d(torch.from_numpy(field), 2, 1) * 2**1.5  # neighbours agree, same spread
        # World RAS box over which the control points are laid; half as much again, since a variant may be larger.
        self.half_box = torch.as_tensor(size_mm[[2, 1, 0]] * 0.75, dtype=torch.float32)

    def __call__(self, world: torch.Tensor) -> torch.Tensor:
        """World points (..., 3) of the variant -> the patient's points that lie there."""
        relative = world - torch.as_tensor(self.centre, dtype=world.dtype)
        where = (relative / self.half_box).flip(-1).reshape(1, 1, 1, -1, 3)
        bend = F.grid_sample(self.bend, where, align_corners=True, padding_mode="border")
        moved = relative @ torch.as_tensor(self.matrix.T, dtype=world.dtype) + bend.reshape(3, -1).T.reshape(
            world.shape
        )
        return moved + torch.as_tensor(self.centre, dtype=world.dtype)

    def find(self, source_mm: np.ndarray) -> np.ndarray:
        """Where points (N, 3) of the patient come to lie in the variant: the inverse, by fixed-point iteration."""
        inverse = np.linalg.inv(self.matrix)
        world = (source_mm - self.centre) @ inverse.T + self.centre
        for _ in range(30):
            error = self(torch.as_tensor(world, dtype=torch.float32)).numpy() - source_mm
            world = world - error @ inverse.T
        return world
