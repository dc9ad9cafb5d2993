"""Deformations of vertebrae as backward maps: where a point of the new vertebra lies in the one it is made from.

Batched torch on any device; no host round trip. All points are millimetres in a vertebra's own frame (down, back,
left; origin at its body's centroid). A map is affine about the centroid, plus one smooth bump at each process, plus a
smooth random field; it moves the centroid nowhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch

from scripts.geometry.rotation import rotation_matrix

# Within about this of the centroid only the affine part acts.
QUIET_MM = 10.0
# How much processes that stand close together may each go their own way, as the ridge of their equations.
RIDGE = 0.05
# The bumps' displacement changes by no more than this per mm, or space would fold; it is scaled down where it would.
STEEPEST = 0.75


@dataclass(frozen=True)
class Displacement:
    """B deformations.

    Args:
        linear: (B, 3, 3) from the new vertebra's frame to the source's.
        tips: (B, T, 3) mm where processes end in the new vertebra.
        radius: (B, T) mm, standard deviations of their bumps.
        push: (B, T, 3) mm, coefficients of the bumps: the sum of the bumps moves each tip by what was drawn.
        frequency: (B, K, 3) radians per mm, waves of the smooth field.
        phase: (B, K) radians.
        wave: (B, K, 3) mm, their amplitudes.
    """

    linear: torch.Tensor
    tips: torch.Tensor
    radius: torch.Tensor
    push: torch.Tensor
    frequency: torch.Tensor
    phase: torch.Tensor
    wave: torch.Tensor

    def __getitem__(self, index: int) -> Displacement:
        """One of them, as a batch of one."""
        return Displacement(*(getattr(self, f.name)[index : index + 1] for f in fields(self)))

    def at(self, points: torch.Tensor) -> torch.Tensor:
        """Displacement (B, ..., 3) mm at points (..., 3) mm of the new vertebra's frame: source = point + it."""
        flat = points.reshape(-1, 3)
        source = (flat + self.bend(flat)) @ self.linear.transpose(1, 2)
        return (source - flat).reshape(len(self.linear), *points.shape)

    def bend(self, points: torch.Tensor) -> torch.Tensor:
        """The part (B, ..., 3) mm that is not affine, at points (..., 3) mm; ``linear`` is applied after it."""
        return self.bend_each(points.reshape(1, -1, 3)).reshape(len(self.linear), *points.shape)

    def bend_each(self, points: torch.Tensor) -> torch.Tensor:
        """The same (B, N, 3) at points of each deformation's own, (B or 1, N, 3)."""
        # |p - t|^2 by its parts: no (B, N, T, 3) in memory.
        square = (points**2).sum(-1)
        away = square[..., None] - 2 * points @ self.tips.transpose(1, 2) + (self.tips**2).sum(-1)[:, None]
        bumps = torch.exp(-away / (2 * self.radius[:, None] ** 2)) @ self.push
        waves = torch.cos(points @ self.frequency.transpose(1, 2) + self.phase[:, None]) @ self.wave
        calm = 1 - torch.exp(-square / (2 * QUIET_MM**2))
        return (waves - bumps) * calm[..., None]

    def carry(self, points: torch.Tensor, steps: int = 4) -> torch.Tensor:
        """Where points (N, 3) mm of the source's frame lie in the new vertebra's, (B, N, 3): the inverse map."""
        straight = points @ torch.linalg.inv(self.linear).transpose(1, 2)
        where = straight
        for _ in range(steps):
            where = straight - self.bend_each(where)
        return where


def displacement(
    stretch: torch.Tensor,
    turn_deg: torch.Tensor,
    tips: torch.Tensor,
    radius: torch.Tensor,
    tip_moves: torch.Tensor,
    waves: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> Displacement:
    """The map with given numbers.

    Args:
        stretch: (B, 3) log; positive makes the new vertebra larger along the source's axes.
        turn_deg: (B, 3) rotation vector that takes the new vertebra's frame to the source's.
        tips: (B, T, 3) mm where the source's processes end after stretch and turn.
        radius: (B, T) mm of the bumps.
        tip_moves: (B, T, 3) mm by which they end elsewhere.
        waves: (B, K, 3) radians per mm, (B, K) radians and (B, K, 3) mm: frequency, phase and amplitude of the smooth
            field; None leaves it out.
    """
    linear = torch.exp(-stretch)[..., None] * rotation_matrix(torch.deg2rad(turn_deg))
    if waves is None:
        one = stretch.new_zeros(len(stretch), 1, 3)
        waves = (one, one[..., 0], one)
    return Displacement(linear, tips + tip_moves, radius, bump_coefficients(tips, radius, tip_moves), *waves)


def bump_coefficients(tips: torch.Tensor, radius: torch.Tensor, tip_moves: torch.Tensor) -> torch.Tensor:
    """Coefficients (B, T, 3) whose bumps together move each tip by what is asked, though bumps overlap.

    Processes that nearly coincide move alike (ridge), and none so far that space would fold.
    """
    away = ((tips[:, :, None] - tips[:, None]) ** 2).sum(-1)
    overlap = torch.exp(-away / (2 * radius[:, None] ** 2))
    ridge = RIDGE * torch.eye(overlap.shape[-1], device=tips.device, dtype=tips.dtype)
    push = torch.linalg.solve_ex(overlap + ridge, tip_moves)[0]
    # A Gaussian is steepest at one radius, exp(-1/2) / radius; where bumps overlap their slopes may add.
    slope = 0.607 * push.norm(dim=-1) / radius
    together = torch.exp(-away / (2 * (radius[:, :, None] + radius[:, None]) ** 2))
    steepest = (together @ slope[..., None]).amax(dim=(1, 2))
    return push * (STEEPEST / steepest.clamp_min(STEEPEST))[:, None, None]


def smooth_waves(
    spread_mm: torch.Tensor, length_mm: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A Gaussian random field of displacements as random waves (Rahimi and Recht 2007, random Fourier features).

    Args:
        spread_mm: (B,) standard deviation along each axis.
        length_mm: (B,) correlation length: at distance d the correlation is exp(-d^2 / (2 length^2)).
        count: waves; more are nearer to Gaussian.
        generator: source of randomness, on any device.

    Returns:
        Frequency (B, count, 3), phase (B, count), amplitude (B, count, 3) on ``spread_mm``'s device.
    """
    batch, device = len(spread_mm), spread_mm.device
    drawn = torch.randn(batch, count, 6, generator=generator, device=generator.device).to(device)
    phase = torch.rand(batch, count, generator=generator, device=generator.device).to(device) * (2 * math.pi)
    # Waves shorter than half the length would fold space; they carry little.
    frequency = drawn[..., :3].clamp(-2.5, 2.5) / length_mm[:, None, None]
    amplitude = drawn[..., 3:].clamp(-2.5, 2.5) * spread_mm[:, None, None] * math.sqrt(2 / count)
    return frequency, phase, amplitude
