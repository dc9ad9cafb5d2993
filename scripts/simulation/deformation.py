"""New vertebrae from real ones: size, asymmetry, smooth deformation, fractures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape
from scripts.geometry.rotation import rotation_matrix
from scripts.simulation.displacement import Displacement
from scripts.simulation.draw import VariationOptions, draw_deformation
from scripts.simulation.variation import departure, variation

FRACTURES = ("wedge", "biconcave", "crush")
FIRST_FRACTURE_LEVEL, LAST_FRACTURE_LEVEL = 11, 24
# Displacements are smooth: they are evaluated every 6 mm and interpolated.
BEND_HALF_BOX_MM, BEND_POINTS = 90.0, 31


@dataclass(frozen=True)
class Fracture:
    """An osteoporotic fracture (Genant 1993, doi 10.1002/jbmr.5650080915).

    Args:
        kind: ``wedge`` (the front is lower), ``biconcave`` (the middle is lower) or ``crush`` (all of the body).
        height_loss: share of the height that is lost where it is lowest; 0.2-0.25 is mild, 0.25-0.4 moderate.
    """

    kind: str
    height_loss: float

    def remaining_height(self, behind_mm: np.ndarray, beside_mm: np.ndarray, body_radius_mm: float) -> np.ndarray:
        """Height left, as a share, at places in the vertebra's own frame: 1 behind the body's back wall."""
        back_wall = _step((behind_mm - 0.6 * body_radius_mm) / (0.35 * body_radius_mm))
        if self.kind == "wedge":
            profile = np.clip((0.8 * body_radius_mm - behind_mm) / (1.8 * body_radius_mm), 0, 1)
        elif self.kind == "biconcave":
            profile = np.exp(-(behind_mm**2 + beside_mm**2) / (2 * (0.55 * body_radius_mm) ** 2))
        else:
            profile = np.ones_like(behind_mm)
        return 1 - self.height_loss * profile * (1 - back_wall)

    @property
    def pitch_loss(self) -> float:
        """How much of the body's height is lost at its centre, as a share."""
        return self.height_loss * {"wedge": 0.45, "biconcave": 0.1, "crush": 1.0}[self.kind]


@dataclass(frozen=True)
class DeformationOptions:
    """How far vertebrae go from the real ones they are made from.

    Args:
        variation: how far sizes, turns, processes and the rest go; 1 is as far as people were measured to.
        mirror: whether left and right may be swapped (whole spines only).
        fracture_share: of vertebrae between T4 and L5.
        height_loss: smallest and largest.
    """

    variation: VariationOptions = field(default_factory=VariationOptions)
    mirror: bool = True
    fracture_share: float = 0.03
    height_loss: tuple[float, float] = (0.2, 0.5)


@dataclass(frozen=True)
class DeformedShape:
    """A shape with what happens to it, still in its own frame.

    Args:
        shape: the real vertebra.
        scale: (3,) along its axes; a negative last one mirrors it.
        linear: (3, 3) stretch and turn, from the new vertebra's frame to the real one's before ``scale``.
        bend: (1, 3, n, n, n) displacements in mm before ``linear``, on control points around the origin.
        fracture: or None.
    """

    shape: VertebraShape
    scale: tuple[float, float, float]
    linear: torch.Tensor = field(repr=False)
    bend: torch.Tensor = field(repr=False)
    fracture: Fracture | None = None

    def signed_distance(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Distance to the surface at points (..., 3) mm of the vertebra's own frame, negative inside (nearly mm)."""
        where = points_mm
        if self.fracture is not None:
            radius = 16.0 * abs(self.scale[1])
            left = self.fracture.remaining_height(points_mm[..., 1].numpy(), points_mm[..., 2].numpy(), radius)
            where = where.clone()
            where[..., 0] /= torch.from_numpy(left).to(where)
        control = (where.reshape(1, 1, 1, -1, 3) / BEND_HALF_BOX_MM).flip(-1)
        moved = F.grid_sample(self.bend, control, align_corners=True, padding_mode="border")
        where = where + moved.reshape(3, -1).T.reshape(where.shape)
        where = where @ self.linear.T / torch.tensor(self.scale)
        index = where / SHAPE_SPACING_MM + torch.tensor(self.shape.origin)
        size = torch.tensor(self.shape.signed_distance.shape)
        sample = ((2 * index + 1) / size - 1).flip(-1).reshape(1, 1, 1, -1, 3)
        field_ = torch.from_numpy(self.shape.signed_distance)[None, None]
        distance = F.grid_sample(field_, sample, align_corners=False, padding_mode="border").reshape(where.shape[:-1])
        larger = float(np.prod(np.abs(self.scale))) / float(torch.linalg.det(self.linear))
        return distance * larger ** (1 / 3)

    def half_extent_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of a box around it in its own frame."""
        low = -np.array(self.shape.origin) * SHAPE_SPACING_MM
        high = low + np.array(self.shape.signed_distance.shape) * SHAPE_SPACING_MM
        corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) * np.array(self.scale)
        corners = corners @ np.linalg.inv(self.linear.double().numpy()).T
        margin = 4 + self.bend.abs().amax(dim=(0, 2, 3, 4)).double().numpy()
        return corners.min(0) - margin, corners.max(0) + margin


def draw_person(levels: tuple[int, ...], options: VariationOptions, rng: np.random.Generator) -> list[Displacement]:
    """What makes one person's vertebrae differ from the real ones they are made of, one displacement a level.

    Args:
        levels: VerSe numbers.
        options: how far to go.
        rng: source of randomness.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    drawn = draw_deformation(torch.tensor(levels), options, generator, one_person=True, given_size=True)
    return [drawn[i] for i in range(len(levels))]


def deform(
    shape: VertebraShape,
    size: float,
    mirrored: bool,
    displacement: Displacement,
    options: DeformationOptions,
    rng: np.random.Generator,
) -> DeformedShape:
    """A random relative of a vertebra.

    What makes the real one differ from an average person's in size and turn is taken out first: the displacement is
    drawn as wide as people differ, and a person's vertebrae are alike as far as it says.

    Args:
        shape: the real one.
        size: how much larger than the average person's the distances of the bodies are; vertebrae grow with them.
        mirrored: swap left and right.
        displacement: one of ``draw_person``.
        options: mirror images and fractures.
        rng: source of randomness.
    """
    without = options.variation.without
    source = departure(shape.subject, shape.number, without)
    scale = size ** variation(without).size_slope * np.exp(-source.stretch)
    # The mirror comes after the turn, and a turn about any axis but Left is the opposite one in a mirror.
    turn_deg = source.turn_deg * ((-1, -1, 1) if mirrored else (1, 1, 1))
    back = rotation_matrix(torch.deg2rad(torch.from_numpy(turn_deg[None]).float()))[0]
    steps = torch.linspace(-BEND_HALF_BOX_MM, BEND_HALF_BOX_MM, BEND_POINTS)
    lattice = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1)
    bend = displacement.bend(lattice).movedim(-1, 1).contiguous()
    fracture = None
    breakable = FIRST_FRACTURE_LEVEL <= shape.number <= LAST_FRACTURE_LEVEL
    if breakable and rng.random() < options.fracture_share:
        fracture = Fracture(FRACTURES[rng.integers(3)], float(rng.uniform(*options.height_loss)))
    sides = (float(scale[0]), float(scale[1]), float(-scale[2] if mirrored else scale[2]))
    return DeformedShape(shape, sides, back.T @ displacement.linear[0], bend, fracture)


def _step(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 (x <= 0) to 1 (x >= 1)."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
