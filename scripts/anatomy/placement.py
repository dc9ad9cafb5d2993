"""How a mean shape lies in a vertebra's cube: nine numbers, the map they stand for, and their fit to a volume.

The numbers (B, 9) are, in the vertebra's own frame (down along the spine, back, left):

- 0-2: mm from the mark to the body's centroid;
- 3-5: the rotation vector, in degrees, that takes the vertebra's frame to the mean shape's; the first is axial turn;
- 6-8: logarithms of the stretches along the mean shape's axes, positive where the vertebra is larger.

Zeros put the mean shape at the mark, along the spine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scripts.anatomy.mean_shapes import REACH_MM
from scripts.geometry.cropping import CUBE_SIZE, NOMINAL_CENTROID
from scripts.geometry.rotation import rotation_matrix

NUMBERS = 9


def by_kind(move: float, turn: float, stretch: float) -> list[float]:
    """Nine values, three each for place, turn and stretch."""
    return [move] * 3 + [turn] * 3 + [stretch] * 3


@dataclass(frozen=True)
class ShapeFitOptions:
    """How a mean shape is fitted to a volume.

    Args:
        lattice_mm: distance of the points at which the two are compared.
        reach_mm: points further than this from the shape as it lies at the start take no part.
        steps: of Adam.
        rate: its step, in standard deviations; a third of it in the last third.
        move_mm: standard deviation of the place.
        turn_deg: of the turn about each axis.
        stretch: of the logarithm of each stretch.
        prior: weight of the squared departure (mean over the nine numbers) against a Dice of 1.
        edge_mm: softness of the shape's surface.
    """

    lattice_mm: int = 4
    reach_mm: float = 11.0
    steps: int = 36
    rate: float = 0.2
    move_mm: float = 3.0
    turn_deg: float = 7.0
    stretch: float = 0.12
    prior: float = 0.05
    edge_mm: float = 1.5


def to_shape_frame(numbers: torch.Tensor, tilt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The affine map from vertebrae's cubes to the frames of the mean shapes that lie in them.

    Args:
        numbers: (B, 9) place (mm), turn (degrees) and logarithms of the stretches of each mean shape.
        tilt: (B,) degrees by which each vertebra leans in its cube's sagittal plane, feet towards the back.

    Returns:
        ``linear`` (B, 3, 3) and ``shift`` (B, 3): a point p, mm along I, P, L of the cube from the nominal centroid,
        is at ``linear @ p + shift`` of the mean shape's frame, mm from its body's centroid.
    """
    lean = torch.zeros_like(numbers[:, :3])
    lean[:, 2] = torch.deg2rad(tilt.to(lean.dtype))
    turn = rotation_matrix(torch.deg2rad(numbers[:, 3:6]))
    own = torch.exp(-numbers[:, 6:9])[:, :, None] * turn
    # Products by hand: under autocast `@` would round millimetres to bfloat16.
    shift = -(own * numbers[:, None, :3]).sum(2)
    upright = rotation_matrix(lean)
    return (own[:, :, None] * upright[:, None]).sum(3), shift


def from_mark(numbers: np.ndarray, tilt_deg: float) -> np.ndarray:
    """(3,) mm along I, P, L of a vertebra's cube, from the mark to the centroid of the body that lies as said.

    Args:
        numbers: (9,) how the mean shape lies.
        tilt_deg: by which the vertebra leans in the cube's sagittal plane, feet towards the back.
    """
    upright = rotation_matrix(torch.tensor([[0.0, 0.0, np.deg2rad(tilt_deg)]], dtype=torch.float64))[0].numpy()
    return upright @ numbers[:3]


def shape_distance(
    shape: torch.Tensor, points: torch.Tensor, numbers: torch.Tensor, tilt: torch.Tensor
) -> torch.Tensor:
    """Distances (N,) mm, negative inside, within +-12, to a mean shape that lies in a cube.

    Args:
        shape: (n, n, n) mm of `scripts.anatomy.mean_shapes`.
        points: (N, 3) mm of the cube along I, P, L from the nominal centroid.
        numbers: (1, 9) how it lies.
        tilt: (1,) degrees.
    """
    linear, shift = to_shape_frame(numbers, tilt)
    index = points @ linear[0].T + shift[0] + points.new_tensor(NOMINAL_CENTROID)
    where = ((2 * index + 1) / CUBE_SIZE - 1).flip(-1)[None, None, None]
    found = F.grid_sample(shape[None, None], where, padding_mode="border", align_corners=False)[0, 0, 0, 0]
    return (found * torch.exp(numbers[0, 6:].mean())).clamp(-REACH_MM, REACH_MM)


def fit_shape(
    shape: torch.Tensor,
    points: torch.Tensor,
    seen: torch.Tensor,
    start: torch.Tensor,
    tilt: torch.Tensor,
    options: ShapeFitOptions,
) -> tuple[torch.Tensor, float]:
    """The numbers with which a shape overlaps best with what is seen.

    The objective is soft Dice, which asks for little bone where none was seen, less a Gaussian prior about the start.

    Args:
        shape: (n, n, n) signed distance in mm, a mean shape of `scripts.anatomy.mean_shapes`.
        points: (N, 3) mm of the cube along I, P, L from the nominal centroid.
        seen: (N,) probabilities or shares of vertebra there.
        start: (1, 9) numbers.
        tilt: (1,) degrees by which the vertebra leans in the cube's sagittal plane, feet towards the back.
        options: how it is fitted: points compared, steps, strength of the prior.

    Returns:
        (9,) numbers, and the soft Dice that they reach.
    """
    near = shape_distance(shape, points, start, tilt) < options.reach_mm
    points, seen = points[near], seen[near]
    spread = torch.tensor(by_kind(options.move_mm, options.turn_deg, options.stretch), device=seen.device)
    unit = torch.zeros(1, NUMBERS, device=seen.device, requires_grad=True)
    optimiser = torch.optim.Adam([unit], lr=options.rate)
    dice = seen.new_zeros(())
    for step in range(options.steps):
        if step == 2 * options.steps // 3:
            optimiser.param_groups[0]["lr"] = options.rate / 3
        optimiser.zero_grad()
        inside = torch.sigmoid(-shape_distance(shape, points, start + unit * spread, tilt) / options.edge_mm)
        dice = 2 * (inside @ seen) / (inside.sum() + seen.sum() + 1)
        (options.prior * unit.square().mean() - dice).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (start + unit.detach() * spread)[0], float(dice.detach())
