"""Random relatives of vertebrae: deformations drawn from how people were measured to differ.

The one place that draws them, for ``simulate`` and for training samples that are made afresh. Torch, batched, on any
device, without host round trips if the generator lives on the device too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from scripts.geometry.rotation import rotation_matrix
from scripts.levels import LEVEL_NAMES, places_along_spine
from scripts.simulation.displacement import Displacement, displacement, smooth_waves
from scripts.simulation.variation import GROUPS, MOVES, MOVES_BASIS, STRETCH, TURN, Variation, variation

# A process's bump reaches this share of the way from its end to the body's centroid (one standard deviation).
BUMP_SHARE = 0.25
SMALLEST_BUMP_MM = 7.0


@dataclass(frozen=True)
class VariationOptions:
    """How far drawn vertebrae go from the ones they are made from; 1 is as far as people go from the mean.

    Args:
        stretch: gain of the stretches along the three axes.
        turn: of the turns.
        processes: of the moves of the processes' ends.
        smooth: of the smooth displacement.
        limit: no number goes further than this many standard deviations.
        waves: of the smooth displacement; more are nearer to a Gaussian field and cost more.
        without: subjects whose measurements take no part.
    """

    stretch: float = 1.0
    turn: float = 1.0
    processes: float = 1.0
    smooth: float = 1.0
    limit: float = 2.5
    waves: int = 32
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tables:
    """``Variation`` as float32 tensors on a device."""

    spread: torch.Tensor
    spread_given_size: torch.Tensor
    stretch_factor: torch.Tensor
    tips: torch.Tensor
    smooth_mm: torch.Tensor
    moves_basis: torch.Tensor


@lru_cache(maxsize=32)
def _tables(without: tuple[str, ...], device: torch.device) -> _Tables:
    found = variation(without)
    arrays = (found.spread, found.spread_given_size, found.stretch_factor, found.tips, found.smooth_mm, MOVES_BASIS)
    return _Tables(*(torch.as_tensor(a, dtype=torch.float32, device=device) for a in arrays))


def draw_displacement(
    levels: torch.Tensor,
    options: VariationOptions,
    generator: torch.Generator,
    device: torch.device | str,
    points: torch.Tensor,
) -> torch.Tensor:
    """Displacements of independent random relatives, one a level.

    Args:
        levels: (B,) int64 VerSe numbers; 0 where unknown.
        options: how far to go.
        generator: source of randomness; the same state gives the same result. On ``device`` it costs no transfer.
        device: where to compute.
        points: (..., 3) mm in the new vertebra's own frame: down, back, left of its body's centroid.

    Returns:
        (B, ..., 3) mm: ``points`` plus it is where each point lies in the source vertebra's own frame.
    """
    return draw_deformation(levels, options, generator, device).at(points.to(device))


def draw_deformation(
    levels: torch.Tensor,
    options: VariationOptions,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    *,
    one_person: bool = False,
    given_size: bool = False,
) -> Displacement:
    """Random deformations, to be evaluated at any points.

    Args:
        levels: (B,) int64 VerSe numbers; 0 where unknown.
        options: how far to go.
        generator: source of randomness.
        device: where to compute.
        one_person: the levels are one person's, all different: they share what levels of a person were measured to.
        given_size: the person's size has been given by the distances of the bodies; only the rest is drawn.
    """
    device = torch.device(device)
    tables = _tables(options.without, device)
    levels = levels.to(device)
    spread = (tables.spread_given_size if given_size else tables.spread)[levels]
    z = torch.randn(len(levels), spread.shape[1], generator=generator, device=generator.device).to(device)
    if one_person:
        z = _shared(z, levels, variation(options.without))
    z = z.clamp(-options.limit, options.limit)
    stretch = (tables.stretch_factor[levels] @ z[:, STRETCH, None])[..., 0] * spread[:, STRETCH] * options.stretch
    turn = z[:, TURN] * spread[:, TURN] * options.turn
    numbers = z[:, MOVES] * spread[:, MOVES] * options.processes
    moves = (numbers @ tables.moves_basis).reshape(len(levels), -1, 3)
    # Where the source's processes end once it is stretched and turned.
    tips = (tables.tips[levels] * torch.exp(stretch)[:, None]) @ rotation_matrix(torch.deg2rad(turn))
    smooth_mm = tables.smooth_mm[levels] * options.smooth
    length = torch.full_like(smooth_mm, variation(options.without).smooth_length_mm)
    waves = smooth_waves(smooth_mm, length, options.waves, generator)
    return displacement(stretch, turn, tips, bump_radius(tips), moves, waves)


def bump_radius(tips: torch.Tensor) -> torch.Tensor:
    """Standard deviation in mm (B, T) of the bumps of processes that end at ``tips`` (B, T, 3)."""
    return (tips.norm(dim=-1) * BUMP_SHARE).clamp_min(SMALLEST_BUMP_MM)


def _shared(z: torch.Tensor, levels: torch.Tensor, found: Variation) -> torch.Tensor:
    """Independent standard normals (B, 27) mixed along one person's spine."""
    vertebrae = [n for n in levels.tolist() if n in LEVEL_NAMES]
    places = dict(zip(vertebrae, places_along_spine(vertebrae), strict=True))
    sacrum = max(places.values(), default=0) + 1
    ranks = np.array([places.get(n, sacrum) for n in levels.tolist()])
    out = z.clone()
    for group, part in GROUPS.items():
        matrix = found.within_person[group].matrix(ranks) + 1e-6 * np.eye(len(ranks))
        factor = torch.as_tensor(np.linalg.cholesky(matrix), dtype=z.dtype, device=z.device)
        out[:, part] = factor @ z[:, part]
    return out
