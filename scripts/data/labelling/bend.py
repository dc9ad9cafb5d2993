"""A smooth displacement of a placed shape towards the evidence for bone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scripts.data.labelling.placed import FAR_MM

# Only what is so near the surface can change.
_BAND_MM = 5.0


@dataclass(frozen=True)
class Baked:
    """A shape on points of its vertebra's own frame.

    Args:
        own: (N, 3) the points, a full lattice in the order of ``size``.
        size: of the lattice.
        distance: (N,) mm, negative inside.
        centroid: (3,) own place of the body's centroid.
    """

    own: torch.Tensor
    size: tuple[int, int, int]
    distance: torch.Tensor
    centroid: torch.Tensor

    def normalised(self, own: torch.Tensor) -> torch.Tensor:
        """Own points (N, 3) as ``grid_sample`` with aligned corners wants them: (1, 1, 1, N, 3)."""
        low, high = self.own[0], self.own[-1]
        return (2 * (own - low) / (high - low) - 1).flip(-1).reshape(1, 1, 1, -1, 3)


def sampled(baked: Baked, distance: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """A distance that is stored on a shape's lattice at other own points (N, 3); far outside the lattice."""
    volume = (FAR_MM - distance).reshape(1, 1, *baked.size)
    return FAR_MM - F.grid_sample(volume, baked.normalised(own), align_corners=True).reshape(-1)


def displaced(
    baked: Baked, seen: torch.Tensor, spread_mm: float, spacing_mm: float, steps: int, prior: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The distance (N,) after the displacement, and where the body's centroid has gone (3,) in mm.

    Args:
        baked: the shape.
        seen: (N,) evidence at its points.
        spread_mm: how far the displacement goes freely.
        spacing_mm: of its control points.
        steps: of Adam.
        prior: weight of the displacement's cost against the evidence.
    """
    low, high = baked.own[0], baked.own[-1]
    counts = [max(int(c), 3) for c in torch.ceil((high - low) / spacing_mm) + 1]
    control = torch.zeros(1, 3, *counts, requires_grad=True)
    optimiser = torch.optim.Adam([control], lr=0.25)
    volume = baked.distance.reshape(1, 1, *baked.size)
    bone = float((baked.distance < 0).sum())
    near = (baked.distance.abs() < _BAND_MM).nonzero()[:, 0]

    def distance_at(points: torch.Tensor) -> torch.Tensor:
        shift = F.grid_sample(control, baked.normalised(points), align_corners=True)
        moved = baked.normalised(points + shift.reshape(3, -1).T)
        return F.grid_sample(volume, moved, align_corners=True, padding_mode="border").reshape(-1)

    own, there = baked.own[near], seen[near]
    for _ in range(steps):
        optimiser.zero_grad()
        gained = (torch.sigmoid(-distance_at(own)) * there).sum() / bone
        rough = sum(control.diff(dim=d).square().mean() for d in (2, 3, 4))
        (6 * prior / spread_mm**2 * (control.square().mean() + 2 * rough) - gained).backward()
        optimiser.step()
    with torch.no_grad():
        shift = F.grid_sample(control, baked.normalised(baked.centroid[None]), align_corners=True).reshape(3)
        # The field says where a point's distance is looked up, so the shape itself moves the other way.
        return distance_at(baked.own).detach(), baked.centroid - shift
