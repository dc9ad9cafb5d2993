"""The spine moved and twisted within the body.

Where a whole patient is bent, windpipe, heart, aorta and skin go with the spine, and a network may read its place off
them. In other people the spine lies elsewhere among them. Here only what is near the spine moves. Its vertebrae are
also turned about their bodies: processes are easier to see in frontal films than bodies, and they only show where a
body lies if vertebrae are not turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from scripts.data.online.render import distance_from_middle_line

# Heights at which the shift is known, mm along I about the middle of the volume; beyond them it stays as there.
HEIGHTS_MM = np.arange(-600.0, 601.0, 12.0)
# Steps of the fixed-point iteration; it contracts by 0.3 at least at each.
STEPS = 25
# A turn takes the ends of spinous processes this much further per radian, mm.
LEVER_MM = 45.0
# No further than this share of the distance over which everything fades; the rest is left for the shift.
LARGEST_TWIST = 0.5


@dataclass(frozen=True)
class SpineShiftOptions:
    """How far the spine may go.

    Args:
        share: of the items.
        spread_mm: standard deviation of the shift along P and along L.
        twist_deg: standard deviation of the turn about the line of the bodies.
        wave_mm: smallest and largest length along the spine (standard deviation of a Gaussian) over which it is alike.
        core_mm: smallest and largest distance from the vertebra's middle line, centroid to spinous process, that moves
            as a whole.
        fade_mm: smallest and largest distance over which it fades from there (standard deviation of a Gaussian).
    """

    share: float = 0.6
    spread_mm: tuple[float, float] = (5.0, 7.0)
    twist_deg: float = 7.0
    wave_mm: tuple[float, float] = (25.0, 70.0)
    core_mm: tuple[float, float] = (20.0, 28.0)
    fade_mm: tuple[float, float] = (16.0, 32.0)


@dataclass(frozen=True)
class SpineShift:
    """One shift: a point of the shifted patient comes from itself less the move at its height times its weight.

    Args:
        table: (K, 5) float32, at `HEIGHTS_MM`: P and L of the shifted spine, the shift along P and L, and the radians
            by which vertebrae are turned, their front towards L.
        reach: (2,) float32 mm: what moves as a whole, and over which distance the shift fades.
    """

    table: torch.Tensor
    reach: torch.Tensor

    def target(self, points: np.ndarray) -> np.ndarray:
        """Where points (..., 3) mm of the patient come to lie, by fixed-point iteration; NaN stays NaN."""
        wanted = torch.from_numpy(np.nan_to_num(points).reshape(1, -1, 3)).float()
        found = wanted
        for _ in range(STEPS):
            found = found + wanted - shift_source(found, self.table[None], self.reach[None])
        return np.where(np.isnan(points), np.nan, found.double().numpy().reshape(points.shape))


def draw_spine_shift(options: SpineShiftOptions, centroids: np.ndarray, random: np.random.RandomState) -> SpineShift:
    """A shift.

    Args:
        options: how far it goes.
        centroids: (N, 3) mm along I, P, L about the middle of the volume.
        random: source, which is left alone where nothing is ever shifted.
    """
    order = np.argsort(centroids[:, 0])
    spine = np.stack([np.interp(HEIGHTS_MM, centroids[order, 0], centroids[order, axis]) for axis in (1, 2)], 1)
    moves, reach = _drawn(options, random) if options.share > 0 else (np.zeros((len(spine), 3)), np.ones(2))
    table = np.concatenate([spine + moves[:, :2], moves], 1)
    return SpineShift(torch.from_numpy(table).float(), torch.from_numpy(reach).float())


def _drawn(options: SpineShiftOptions, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Shifts along P and L and turns (K, 3) at `HEIGHTS_MM`, and the reach."""
    wave = random.uniform(*options.wave_mm) / (HEIGHTS_MM[1] - HEIGHTS_MM[0])
    noise = ndimage.gaussian_filter1d(random.randn(len(HEIGHTS_MM), 3), wave, axis=0, mode="wrap")
    # The filter divides the spread of white noise by this root.
    moves = noise * np.sqrt(2 * np.sqrt(np.pi) * wave) * (*options.spread_mm, np.radians(options.twist_deg))
    reach = np.array([random.uniform(*options.core_mm), random.uniform(*options.fade_mm)])
    # Not so far that the body folds.
    most = LARGEST_TWIST * reach[1] / LEVER_MM
    turn = np.clip(moves[:, 2:], -most, most)
    room = reach[1] - LEVER_MM * np.abs(turn)
    moves = np.concatenate([np.clip(moves[:, :2], -room, room), turn], 1)
    return moves * float(random.rand() < options.share), reach


def shift_source(points: torch.Tensor, table: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Where points (B, ..., 3) mm of shifted patients come from.

    Args:
        points: mm along I, P, L about the middle of the volume.
        table: (B, K, 5) of each `SpineShift`.
        reach: (B, 2) of each.
    """
    flat = points.flatten(1, -2)
    last = len(HEIGHTS_MM) - 1
    place = ((flat[..., 0] - HEIGHTS_MM[0]) / (HEIGHTS_MM[1] - HEIGHTS_MM[0])).clamp(0, last)
    below = place.floor().clamp(max=last - 1)
    row = below.long()[..., None].expand(-1, -1, table.shape[2])
    here = torch.lerp(table.gather(1, row), table.gather(1, row + 1), (place - below)[..., None])
    core, fade = reach[:, None].unbind(-1)
    away = flat[..., 1:] - here[..., :2]
    # About a body, before it was turned. A front that goes to the left takes the back to the right.
    sine, cosine = torch.sin(here[..., 4]), torch.cos(here[..., 4])
    back, left = away.unbind(-1)
    unturned = torch.stack([back * cosine - left * sine, back * sine + left * cosine], -1)
    outside = (distance_from_middle_line(unturned) - core).clamp(min=0) / fade
    moved = flat.clone()
    moved[..., 1:] -= (here[..., 2:4] + away - unturned) * torch.exp(-(outside**2) / 2)[..., None]
    return moved.reshape(points.shape)
