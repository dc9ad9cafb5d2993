"""How the mean shape lies in each fresh sample: what `scripts.reconstruction.networks.pose.PoseReader` learns to read.

Fitted once to each vertebra of a patient, when its file is made. In a sample the patient is turned, deformed and marked
wrongly; the map from the sample's cube to the patient is followed there and on to the mean shape, and the affine map
nearest to it over the vertebra is taken apart into nine numbers (`scripts.anatomy.placement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from scripts.anatomy.average import cube_points
from scripts.anatomy.mean_shapes import mean_shapes
from scripts.anatomy.placement import NUMBERS, ShapeFitOptions, fit_shape, to_shape_frame
from scripts.data.online.case import OnlineCase, OnlineVertebra
from scripts.data.online.render import Field, Poses, sample_volume
from scripts.geometry.cropping import CUBE_SIZE
from scripts.geometry.rotation import rotation_vector

# Soft edges against hard ones; a vertebra with less than this after the fit is another thing, or cut off.
LEAST_DICE = 0.35
# Of a patient's own vertebra the whole shape is known: nothing is left to a prior.
FIT = ShapeFitOptions(prior=0.004, move_mm=2.0, turn_deg=8.0, stretch=0.1, steps=30)
# Where the two maps have to agree: mm down, back and left of the centroid, over body and arch.
SPAN_MM = ((-15.0, 25.0, 4), (-18.0, 50.0, 5), (-30.0, 30.0, 5))


def with_numbers(case: OnlineCase) -> OnlineCase:
    """A case whose whole vertebrae know how the mean shape lies in them."""
    known = (replace(v, numbers=own_numbers(v, case.spacing_mm)) if v.whole else v for v in case.vertebrae)
    return replace(case, vertebrae=tuple(known))


def own_numbers(vertebra: OnlineVertebra, spacing_mm: float) -> np.ndarray | None:
    """(9,) how the level's mean shape lies in a patient's vertebra; None where it does not fit.

    Args:
        vertebra: whose direction and label say where.
        spacing_mm: of its patient.
    """
    points = torch.from_numpy(cube_points(FIT.lattice_mm)).float().reshape(-1, 3)
    axes = torch.from_numpy(vertebra.axes()).float()
    index = points @ axes / spacing_mm + torch.from_numpy(vertebra.centroid - vertebra.start).float()
    size = (CUBE_SIZE // FIT.lattice_mm,) * 3
    share = sample_volume(vertebra.share.float() / 255, index.reshape(*size, 3), size).flatten()
    with torch.enable_grad():
        start, tilt = torch.zeros(1, NUMBERS), torch.zeros(1)
        numbers, dice = fit_shape(mean_shapes()[vertebra.level], points, share, start, tilt, FIT)
    return numbers.numpy().astype(float) if dice >= LEAST_DICE else None


def sample_numbers(vertebrae: Sequence[OnlineVertebra], field: Field, poses: Poses) -> torch.Tensor:
    """(B, 9) how the mean shapes lie in samples' cubes; NaN where they are not known.

    Args:
        vertebrae: that the samples show.
        field: their deformations.
        poses: of the cubes.
    """
    device = poses.offset.device
    rows = [[np.nan] * NUMBERS if v.numbers is None else v.numbers.tolist() for v in vertebrae]
    numbers = torch.tensor(rows, dtype=torch.float32, device=device)
    known = torch.isfinite(numbers).all(1)
    lines = [torch.linspace(low, high, count, device=device) for low, high, count in SPAN_MM]
    own = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(1, -1, 3).expand(len(numbers), -1, -1)
    upright, _ = to_shape_frame(torch.zeros_like(numbers), poses.tilt)
    cube = own @ upright
    source = field.source(cube @ poses.rotation.mT + poses.offset[:, None])
    linear, shift = to_shape_frame(torch.nan_to_num(numbers), torch.zeros_like(poses.tilt))
    shape = source @ field.back.mT @ linear.mT + shift[:, None]
    # A mirror image has the mirror image of the mean shape, which is symmetric.
    mirrored = torch.linalg.det(field.into) * torch.linalg.det(field.back) < 0
    shape = torch.where(mirrored[:, None, None], shape * shape.new_tensor([1.0, 1.0, -1.0]), shape)
    found = torch.linalg.lstsq(F.pad(own, (0, 1), value=1.0), shape).solution
    return torch.where(known[:, None], _taken_apart(found[:, :3].mT, found[:, 3]), torch.nan)


def _taken_apart(linear: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Numbers (B, 9) of the nearest map that they can stand for."""
    stretch = -linear.norm(dim=2).log()
    left, _, right = torch.linalg.svd(linear * stretch.exp()[:, :, None])
    move = -torch.linalg.solve(linear, shift[:, :, None])[:, :, 0]
    return torch.cat([move, torch.rad2deg(rotation_vector(left @ right)), stretch], 1)
