"""What the network should say of a batch of windows, computed on the batch's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from scripts.localization.known import LONE_STEP, unknown_boxes
from scripts.localization.levels import ends_of, region_index
from scripts.localization.network import STRIDE, UNIT_PX

Pixels = TypeVar("Pixels", np.ndarray, torch.Tensor)
# More marks than a view can hold.
MAX_MARKS = 28


def pack_marks(
    points: Sequence[tuple[np.ndarray, np.ndarray]], levels: Sequence[np.ndarray], complete: Sequence[bool]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marks of a batch, those of each item head to foot and then nothing.

    Args:
        points: of each item AP and LAT, (N, 5, 2) pixels of the windows: centroid, then corners; NaN where unknown.
        levels: of each item (N,) places in the level table.
        complete: of each item whether every vertebra is listed.

    Returns:
        points (B, 2, M, 5, 2) float32, NaN where unknown; level, region and end (B, M, 3) int64, -1 where
        unknown; and `unknown_boxes` (B, 2, 2, 4) float32 of each view.
    """
    batch = len(points)
    marks: np.ndarray = np.full((batch, 2, MAX_MARKS, 5, 2), np.nan, np.float32)
    which: np.ndarray = np.full((batch, MAX_MARKS, 3), -1, np.int64)
    unknown: np.ndarray = np.zeros((batch, 2, 2, 4), np.float32)
    for i, (views, numbers, whole) in enumerate(zip(points, levels, complete, strict=True)):
        count = len(numbers)
        which[i, :count] = np.stack([numbers, [region_index(int(n)) for n in numbers], ends_of(numbers, whole)], 1)
        for view, places in enumerate(views):
            marks[i, view, :count] = places
            unknown[i, view] = unknown_boxes(_cells(places[:, 0]), numbers, whole)
    return torch.from_numpy(marks), torch.from_numpy(which), torch.from_numpy(unknown)


def batch_targets(
    points: torch.Tensor, which: torch.Tensor, unknown: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Maps and numbers that the loss compares with the network's maps of (h, w) = (H, W) / STRIDE cells.

    Args:
        points: (B, 2, M, 5, 2) pixels of centroid and corners, NaN where unknown.
        which: (B, M, 3) int64 level, region and end, -1 where unknown.
        unknown: (B, 2, 2, 4) boxes of each view in which vertebrae may be unlabelled.
        valid: (B, 2, H, W) bool, where there is film.

    Returns:
        ``heat`` and ``counts`` (B, 2, 1, h, w): the centroids as Gaussians, and where the map is judged, 0 or 1.
        ``cell`` (B, 2, M, 2): the map's cell of each centroid, -1 where none is on the film. ``where`` (B, 2, M, 14):
        its exact place in cells, corners and neighbours as `network.HEADS` has them, NaN where unknown. ``which``
        (B, 2, M, 3): level, region and end, -1 where unknown.
    """
    height, width = valid.shape[-2] // STRIDE, valid.shape[-1] // STRIDE
    device = points.device
    exact = _cells(points[..., 0, :])
    nearest = exact.nan_to_num(-1e4).round().long()
    size = torch.tensor([height, width]).to(device, non_blocking=True)
    inside = ((nearest >= 0) & (nearest < size)).all(-1)
    row, column = (points[..., 0, axis].nan_to_num().round().long() for axis in (0, 1))
    row, column = row.clamp(0, valid.shape[-2] - 1), column.clamp(0, valid.shape[-1] - 1)
    inside &= valid.flatten(2).gather(2, row * valid.shape[-1] + column)
    heat = _heat(exact, nearest, inside, (height, width))
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    top, bottom, left, right = unknown[..., None, None].unbind(3)
    counts = ~((rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)).any(2)
    centre = points[..., :1, :]
    corners = (points[..., 1:, :] - centre).flatten(-2)
    # Of the first mark the upper neighbour is NaN, of the last one the lower.
    beyond = torch.full_like(points[:, :, :1, 0], torch.nan)
    line = torch.cat([beyond, points[..., 0, :], beyond], 2)
    neighbours = torch.cat([line[:, :, :-2] - points[..., 0, :], line[:, :, 2:] - points[..., 0, :]], -1)
    where = torch.cat([exact, corners / UNIT_PX, neighbours / UNIT_PX], -1)
    seen = inside[..., None]
    return {
        "heat": heat[:, :, None],
        "counts": counts.float()[:, :, None],
        "cell": torch.where(seen, nearest, -1),
        "where": torch.where(seen, where, torch.nan),
        "which": torch.where(seen, which[:, None], -1),
    }


def _heat(exact: torch.Tensor, nearest: torch.Tensor, inside: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(B, 2, H, W) largest of the centroids' Gaussians, as wide as their vertebra is far from the next ones."""
    steps = (exact[:, :, 1:] - exact[:, :, :-1]).norm(dim=-1).nan_to_num(torch.inf)
    far = torch.full_like(steps[..., :1], torch.inf)
    pitch = torch.minimum(torch.cat([far, steps], -1), torch.cat([steps, far], -1))
    pitch = torch.where(pitch.isinf(), LONE_STEP, pitch)
    sigma = (0.11 * pitch).clamp(0.8, 1.6)[..., None]
    place = exact.nan_to_num(-1e4)
    axes = [torch.arange(n, device=exact.device) for n in shape]
    gaussian = [torch.exp(-((a - place[..., i, None]) ** 2) / (2 * sigma**2)) for i, a in enumerate(axes)]
    gaussian[0] = gaussian[0] * inside[..., None]
    # A peak's own cell counts as the peak.
    own = [(a == nearest[..., i, None]).float() for i, a in enumerate(axes)]
    own[0] = own[0] * inside[..., None]
    smooth = (gaussian[0][..., :, None] * gaussian[1][..., None, :]).amax(2)
    peaks = torch.einsum("bvmh,bvmw->bvhw", own[0], own[1])
    return torch.where(peaks > 0, 1.0, smooth)


def _cells(pixels: Pixels) -> Pixels:
    """Pixel r is shown by cell (r - (STRIDE - 1) / 2) / STRIDE."""
    return (pixels - (STRIDE - 1) / 2) / STRIDE
