"""A whole patient deformed at random: size, shape, turn and posture, drawn on the CPU, applied on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

# Half the side of the box in which displacements are known, mm along I, P, L; beyond it they stay as at its border.
BOX_HALF_MM = (480.0, 240.0, 300.0)


@dataclass(frozen=True)
class BodyDeformation:
    """How far a patient may go from the original; each default of 0 leaves it alone.

    Args:
        turn_deg: standard deviation of the turn about each axis.
        size: of the logarithm of the patient's size.
        stretch: of the logarithm of the stretch along each axis.
        bend_mm: of a smooth displacement, which changes the shapes of vertebrae.
        bend_spacing_mm: distance of its control points.
        posture_mm: of a displacement along P and L that hardly changes a vertebra and bends the spine.
        posture_spacing_mm: distance of its control points.
        mirror_prob: of left and right to be exchanged.
    """

    turn_deg: float = 3.0
    size: float = 0.05
    stretch: float = 0.05
    bend_mm: float = 2.5
    bend_spacing_mm: float = 60.0
    posture_mm: float = 12.0
    posture_spacing_mm: float = 200.0
    mirror_prob: float = 0.5


@dataclass(frozen=True)
class DrawnDeformation:
    """One deformation: a point p of the deformed patient comes from ``matrix @ p`` plus the displacement at p.

    Args:
        matrix: (3, 3), along I, P, L about the middle of the volume.
        displacement: (3, i, p, l) mm, on a lattice over the box of `BOX_HALF_MM`, corners on corners.
        mirrored: whether left and right are exchanged.
    """

    matrix: torch.Tensor
    displacement: torch.Tensor
    mirrored: bool

    def target(self, points: np.ndarray, steps: int = 6) -> np.ndarray:
        """Where points (..., 3) mm of the original come to lie, by fixed-point iteration; NaN stays NaN."""
        wanted = torch.from_numpy(np.nan_to_num(points).reshape(-1, 3)).float()
        inverse = torch.linalg.inv(self.matrix)
        found = wanted @ inverse.mT
        for _ in range(steps):
            found = found - (source(found[None], self.matrix[None], self.displacement[None])[0] - wanted) @ inverse.mT
        return np.where(np.isnan(points), np.nan, found.double().numpy().reshape(points.shape))


def draw_deformation(options: BodyDeformation, random: np.random.RandomState) -> DrawnDeformation:
    """A deformation.

    Args:
        options: how far it goes.
        random: source.
    """
    turn = Rotation.from_rotvec(np.clip(options.turn_deg * random.randn(3), -15, 15), degrees=True).as_matrix()
    logarithm = np.clip(options.size * random.randn() + options.stretch * random.randn(3), -0.25, 0.25)
    mirrored = bool(random.rand() < options.mirror_prob)
    matrix = turn @ np.diag(np.exp(logarithm) * [1, 1, -1 if mirrored else 1])
    bend = _smooth(options.bend_mm, options.bend_spacing_mm, random)
    posture = _smooth(options.posture_mm, options.posture_spacing_mm, random)
    # Up and down it would change the heights of all vertebrae of a region.
    posture[:, 0] = 0
    total = bend + F.interpolate(posture, bend.shape[2:], mode="trilinear", align_corners=True)
    return DrawnDeformation(torch.from_numpy(matrix).float(), total[0], mirrored)


def source(points: torch.Tensor, matrix: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Where points (B, ..., 3) mm of deformed patients come from.

    Args:
        points: mm along I, P, L.
        matrix: (B, 3, 3), linear part of the map to where points come from, along I, P, L about the middle of the
            volume.
        displacement: (B, 3, i, p, l) mm, added to it, on a lattice over the box of `BOX_HALF_MM`.
    """
    flat = points.flatten(1, -2)
    where = torch.stack([flat[..., axis] / BOX_HALF_MM[axis] for axis in (2, 1, 0)], -1)[:, None, None]
    shift = F.grid_sample(displacement, where, align_corners=True, padding_mode="border")[:, :, 0, 0]
    return torch.baddbmm(shift.mT, flat, matrix.mT).reshape(points.shape)


def _smooth(spread_mm: float, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """(1, 3, i, p, l) random control points, averaged in twos so that neighbours agree."""
    counts = [max(math.ceil(2 * half / spacing_mm), 1) + 2 for half in BOX_HALF_MM]
    field = torch.from_numpy(spread_mm * random.randn(1, 3, *counts)).float()
    return F.avg_pool3d(field, 2, 1) * 2**1.5
