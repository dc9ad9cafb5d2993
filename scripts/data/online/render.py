"""Films and label of deformed vertebrae, sampled along the rays: the mathematics of the online engine.

Everything is in mm along I, P, L. A point of the deformed patient, relative to the vertebra's true centroid, is taken
to the vertebra's own frame (mirrored if so drawn), deformed there, and taken back to where in the original CT it comes
from; see `Field`. The deformation is known on a coarse lattice and interpolated. Patches, cube and marks are placed as
`scripts.geometry.cropping` places them, about the *believed* centroid and along the believed line of the spine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scripts.data.online.draws import Deformation, SampleDraws
from scripts.data.volumes import AIR_HU
from scripts.geometry.cropping import CENTROID_SIGMA_MM, CUBE_POSTERIOR_OFFSET_MM, CUBE_SIZE, NOMINAL_CENTROID
from scripts.geometry.leaning import LIMIT_DEG, SAGITTAL_SHARE
from scripts.geometry.projector import BONE_FROM_HU, WATER_PER_MM
from scripts.geometry.rotation import rotation_matrix

# Half the side of the box in which the deformation is known, and its lattice.
FIELD_HALF_MM = (110.0, 230.0, 240.0)
FIELD_STEP_MM = 15.0
# Vertebrae reach so far behind their centroids.
BEHIND_MM = 40.0
# How far rays are followed, in front of and behind the vertebra, and to its right and left.
DEPTH_MM = ((-200.0, 110.0), (-210.0, 210.0))
# Of the coarse lattice along and across the rays.
LATTICE_STEP_MM = 10.0


@dataclass(frozen=True)
class Places:
    """Where B vertebrae lie in their patients.

    Args:
        levels: (B,) VerSe numbers.
        axes: (B, 3, 3) rows: down, back and left of the vertebra's own frame, along I, P, L.
        above: (B, 3) mm to the next vertebra towards the head; zeros if it is the first.
        below: (B, 3) mm to the next vertebra towards the feet; zeros if it is the last.
    """

    levels: torch.Tensor
    axes: torch.Tensor
    above: torch.Tensor
    below: torch.Tensor


class Field:
    """The deformations of B patients about their vertebrae.

    Args:
        places: where the vertebrae are.
        draws: mirror images, and how far the patients are turned.
        deformation: of the vertebra's own frame.
        generator: source of its randomness.
    """

    def __init__(
        self, places: Places, draws: SampleDraws, deformation: Deformation, generator: torch.Generator
    ) -> None:
        device = places.axes.device
        self.half = torch.tensor(FIELD_HALF_MM, device=device)
        counts = [2 * math.ceil(h / FIELD_STEP_MM) + 1 for h in FIELD_HALF_MM]
        axes = [torch.linspace(-h, h, n, device=device) for h, n in zip(FIELD_HALF_MM, counts, strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        moved = deformation(places.levels, points, generator)
        # Displacements are interpolated, not places: they hardly change from one lattice point to the next.
        self.values = (moved - points).mT.reshape(-1, 3, *counts)
        mirror = torch.diag_embed(F.pad(draws.mirror[:, None], (2, 0), value=1.0))
        self.twist, self.drift, self.reach = draws.twist, draws.drift, draws.reach
        self.into = places.axes @ mirror @ _about_vertical(draws.turn).mT
        self.into_near = self.into @ _about_vertical(draws.twist).mT
        self.back = places.axes

    def source(self, points: torch.Tensor) -> torch.Tensor:
        """Where points (B, ..., 3) of the deformed patients come from, mm from the vertebra's centroid."""
        flat = self._in_its_body(points.flatten(1, -2))
        own = flat @ self.into.mT
        where = (own / self.half).flip(-1)[:, None, None]
        shift = F.grid_sample(self.values, where, align_corners=True, padding_mode="border")[:, :, 0, 0].mT
        return ((own + shift) @ self.back).reshape(points.shape)

    def _in_its_body(self, points: torch.Tensor) -> torch.Tensor:
        """Points (B, N, 3) before the spine was turned in its body, and the body shifted against it."""
        core, fade = self.reach[:, None].unbind(-1)
        away = (distance_from_middle_line(points[..., 1:]) - core) / fade
        share = 1 - away.clamp(0, 1)
        share = share * share * (3 - 2 * share)
        angle = torch.deg2rad(self.twist)[:, None] * share
        cos, sin = torch.cos(angle), torch.sin(angle)
        down, back, left = points.unbind(-1)
        turned = torch.stack([cos * back - sin * left, sin * back + cos * left], -1)
        turned = turned - self.drift[:, None] * (1 - share[..., None])
        return torch.cat([down[..., None], turned], -1)

    def target(self, points: torch.Tensor, steps: int = 5) -> torch.Tensor:
        """Where points (B, 3) of the originals come to lie, by fixed-point iteration."""
        mirror = self.back.mT @ self.into_near
        wanted = points[:, None]
        found = wanted @ mirror
        for _ in range(steps):
            found = found - (self.source(found) - wanted) @ mirror
        return found[:, 0]


def distance_from_middle_line(points: torch.Tensor) -> torch.Tensor:
    """(...) mm, across the spine, from a vertebra's middle line, centroid to spinous process.

    Args:
        points: (..., 2) mm to the back and to the left of its centroid.
    """
    back, left = points.unbind(-1)
    return torch.hypot(back - back.clamp(0, BEHIND_MM), left)


def _about_vertical(degrees: torch.Tensor) -> torch.Tensor:
    """(B, 3, 3) turns along I, P, L by angles (B,) that take the front towards the left."""
    return rotation_matrix(F.pad(-torch.deg2rad(degrees)[:, None], (0, 2)))


@dataclass(frozen=True)
class Poses:
    """How patches and cubes of B samples lie about the true centroid.

    Args:
        offset: (B, 3) mm from the true centroid to the believed one.
        turns: (B, view, 2, 2) of each patch in its plane.
        rotation: (B, 3, 3) of the cube.
        marks: (B, view, 2) position of each mark in its patch, (row, column).
        tilt: (B,) degrees by which the vertebra still leans in the cube's sagittal plane, as far as the marks tell.
    """

    offset: torch.Tensor
    turns: torch.Tensor
    rotation: torch.Tensor
    marks: torch.Tensor
    tilt: torch.Tensor


def believed_poses(places: Places, draws: SampleDraws, field: Field) -> Poses:
    """Where the vertebra is and how it leans, in degrees, according to marks that have errors."""
    up, down = field.target(places.above), field.target(places.below)
    along = down - up
    sagittal = SAGITTAL_SHARE * along[:, 1]
    angles = torch.rad2deg(torch.atan2(torch.stack([along[:, 2], sagittal], 1), along[:, :1]))
    scale = torch.tensor([1.0, SAGITTAL_SHARE], device=angles.device)
    angles = (angles + scale * draws.direction_error).clamp(-LIMIT_DEG, LIMIT_DEG).round()
    alone = draws.upright | (along.abs().sum(1) < 1.0)
    angles = torch.where(alone[:, None], 0.0, angles)
    tilt = angles[:, 1] * ((1 - SAGITTAL_SHARE) / SAGITTAL_SHARE)
    angles = torch.deg2rad(angles)
    cos, sin = torch.cos(angles), torch.sin(angles)
    turns = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    frontal = torch.eye(3, device=angles.device).repeat(len(angles), 1, 1)
    lateral = frontal.clone()
    frontal[:, 0, 0], frontal[:, 0, 2] = turns[:, 0, 0, 0], turns[:, 0, 0, 1]
    frontal[:, 2, 0], frontal[:, 2, 2] = turns[:, 0, 1, 0], turns[:, 0, 1, 1]
    lateral[:, :2, :2] = turns[:, 1]
    error = draws.mark_error
    rows = error[:, :, 0].mean(1)
    offset = torch.stack([rows, error[:, 1, 1], error[:, 0, 1]], 1)
    # Where the true centroid is seen: a cone shows it beside its place in the cube's middle plane.
    depth = plane_depth(offset)
    k, central = draws.divergence, draws.central
    seen = central * k * depth[:, :, None] / (1 - k * depth[:, :, None])
    left = torch.zeros_like(error)
    left[:, :, 0] = error[:, :, 0] - rows[:, None]
    nominal = torch.tensor(NOMINAL_CENTROID, dtype=torch.float32, device=angles.device)
    pivots = torch.stack([nominal[[0, 2]], nominal[[0, 1]]])
    marks = pivots + ((seen + left)[:, :, None] @ turns)[:, :, 0]
    return Poses(offset, turns, frontal @ lateral, marks, tilt)


def plane_depth(offset: torch.Tensor) -> torch.Tensor:
    """(B, view) depth of the cube's middle plane from the true centroid; there 1 mm is 1 mm in the patch."""
    return torch.stack([offset[:, 1] + CUBE_POSTERIOR_OFFSET_MM, offset[:, 2]], 1)


def film_lattice(
    view: int, poses: Poses, draws: SampleDraws, pixel_mm: float, ray_mm: float
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Coarse lattice of points on the rays of a view's patches.

    Args:
        view: 0 for AP, 1 for LAT.
        poses: of the patches.
        draws: machine.
        pixel_mm: of the film.
        ray_mm: step along the rays.

    Returns:
        points (B, depth, rows, columns, 3) mm from the true centroid, and the fine lattice's size (depth, rows,
        columns) for which they are to be interpolated, corners on corners.
    """
    device = poses.offset.device
    near, far = DEPTH_MM[view]
    pixels = round(CUBE_SIZE / pixel_mm)
    fine = (round((far - near) / ray_mm) + 1, pixels, pixels)
    coarse = [math.ceil(side / LATTICE_STEP_MM) + 1 for side in (far - near, CUBE_SIZE, CUBE_SIZE)]
    ends = ((CUBE_SIZE - pixel_mm) / 2, 0.0)
    # Middle of the patch, (row, column) mm from the believed centroid in the turned plane.
    middle = (0.0, CUBE_POSTERIOR_OFFSET_MM if view == 1 else 0.0)
    depth = torch.linspace(near, near + (fine[0] - 1) * ray_mm, coarse[0], device=device)
    across = [torch.linspace(-ends[0], ends[0], n, device=device) + m for n, m in zip(coarse[1:], middle, strict=True)]
    plane = torch.stack(torch.meshgrid(*across, indexing="ij"), -1)
    turned = torch.einsum("bij,rcj->brci", poses.turns[:, view], plane)
    column_axis, depth_axis = ((2, 1), (1, 2))[view]
    offset = poses.offset[:, [0, column_axis]]
    k, central, skew = (d[:, view, None, None, None] for d in (draws.divergence, draws.central, draws.misaligned))
    from_plane = depth[None, :, None, None, None] - plane_depth(poses.offset)[:, view, None, None, None, None]
    here = turned[:, None] + offset[:, None, None, None]
    # A ray through a point of the plane, `central` mm off the central ray, and a turn about the centroid.
    seen = here + (here + central) * k * from_plane + skew * depth[None, :, None, None, None]
    points = torch.empty(*seen.shape[:-1], 3, device=device)
    points[..., 0], points[..., column_axis] = seen[..., 0], seen[..., 1]
    points[..., depth_axis] = depth[None, :, None, None]
    return points, fine


def cube_lattice(poses: Poses, voxel_mm: float) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """The same for the cubes: points (B, i, p, l, 3), and how many voxels a side."""
    device = poses.offset.device
    side = round(CUBE_SIZE / voxel_mm)
    end, count = (CUBE_SIZE - voxel_mm) / 2, math.ceil(CUBE_SIZE / LATTICE_STEP_MM) + 1
    line = torch.linspace(-end, end, count, device=device)
    points = torch.stack(torch.meshgrid(line, line + CUBE_POSTERIOR_OFFSET_MM, line, indexing="ij"), -1)
    turned = torch.einsum("bij,xyzj->bxyzi", poses.rotation, points)
    return turned + poses.offset[:, None, None, None], (side, side, side)


def sample_volume(volume: torch.Tensor, index: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Values of a volume on a fine lattice; 0 outside the volume.

    Args:
        volume: (I, P, L) float.
        index: coarse lattice (x, y, z, 3) of fractional indices into it.
        size: of the fine lattice, whose corners are the coarse one's.

    Returns:
        (X, Y, Z).
    """
    return _sampled(volume, _sampling_units(index, volume.shape), size)


def line_integrals(
    volume: torch.Tensor, index: torch.Tensor, size: tuple[int, int, int], ray_mm: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One patch of one sample.

    Args:
        volume: (I, P, L) float, HU above air, so that 0 is air.
        index: coarse lattice (depth, rows, columns, 3) of indices into it.
        size: of the fine lattice.
        ray_mm: its step along the rays.

    Returns:
        (rows, columns) each: line integrals at a bone gain of 1, what each unit of bone gain above 1 adds to them (see
        `hu_to_attenuation`), and 1 where there is film, else 0.
    """
    where = _sampling_units(index, volume.shape)
    total, bone = sums_along_rays(_sampled(volume, where, size))
    unit = WATER_PER_MM * ray_mm / 1000
    share = F.interpolate(share_on_film(where[None])[None], size=size[1:], mode="bilinear", align_corners=True)[0, 0]
    return total * unit, bone * unit, (share > 0.5).float()


def sums_along_rays(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """HU above air (depth, rows, columns), overwritten, summed over depth: all of it, and what is above bone's."""
    total = values.sum(0)
    return total, values.add_(AIR_HU - BONE_FROM_HU).relu_().sum(0)


def share_on_film(where: torch.Tensor) -> torch.Tensor:
    """The share of each ray that runs through the scanned field, of the longest such share of its film.

    Films end where the CT ends. Along the rays everything beyond it is air; across them it is off the film.

    Args:
        where: (B, 3, depth, rows, columns) points on the rays, the volume's faces at -1 and 1.

    Returns:
        (B, rows, columns).
    """
    inside = (where.abs() < 1).all(1).float().mean(1)
    return inside / inside.amax((1, 2), keepdim=True).clamp(min=1e-3)


def _sampling_units(index: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Indices (x, y, z, 3) as `grid_sample` wants them, (3, x, y, z); for coarse lattices, which have few points."""
    limit = torch.tensor(shape, dtype=index.dtype, device=index.device)
    return ((2 * index + 1) / limit - 1).flip(-1).movedim(-1, 0)


def _sampled(volume: torch.Tensor, where: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    fine = F.interpolate(where[None], size=size, mode="trilinear", align_corners=True).movedim(1, -1)
    return F.grid_sample(volume[None, None], fine, align_corners=False, padding_mode="zeros")[0, 0]


def gaussian_marks(positions: torch.Tensor) -> torch.Tensor:
    """(B, 2) positions (row, column) -> (B, 120, 120) marks, as `scripts.geometry.cropping.gaussian_mark`."""
    line = torch.arange(CUBE_SIZE, dtype=torch.float32, device=positions.device)
    rows = torch.exp(-((line - positions[:, :1]) ** 2) / (2 * CENTROID_SIGMA_MM**2))
    columns = torch.exp(-((line - positions[:, 1:]) ** 2) / (2 * CENTROID_SIGMA_MM**2))
    return rows[:, :, None] * columns[:, None, :]
