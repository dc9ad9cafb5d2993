"""The median plane of a vertebra: the mirror in which it looks most like itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

# The arch behind the body counts this far, in samples of the volume: tips of spinous processes are often bent.
BEHIND = 45
# Half ranges and steps of the two searches: turn in degrees, offset in samples.
COARSE, FINE = ((24.0, 4.0), (3.0, 1.0)), ((3.0, 1.0), (1.0, 0.5))
BANDS = 6
# Standard deviation of a turn that is read between samples half a degree away from the truth at most.
READING_SD_DEG = 0.3


def symmetry_plane(volume: np.ndarray, middle: np.ndarray, near: bool = False) -> float:
    """How far the median plane is turned about the first axis.

    The volume is flattened along its first axis (the vertebra's long one), and its mirror image in a line near the
    middle is compared with it.

    Args:
        volume: (down, backwards, left) 0 to 1.
        middle: (3,) index of the body's middle.
        near: the turn is known to be a few degrees at most.

    Returns:
        turn in radians; positive: backwards turns towards left.
    """
    image, centre = _flattened(volume, middle)
    whole = torch.ones(1, len(image))
    start = (0.0, 0.0) if near else _search(image, centre, (0.0, 0.0), COARSE, whole)[0]
    return float(np.radians(_search(image, centre, start, FINE, whole)[0][0]))


def symmetry_sd(volume: np.ndarray, middle: np.ndarray) -> float:
    """Standard deviation of the turn, radians, of a volume whose turn is small.

    Bands from front to back are left out one after another: that tells how far the answer hangs on single parts
    (jackknife).

    Args:
        volume: (down, backwards, left) 0 to 1.
        middle: (3,) index of the body's middle.
    """
    image, centre = _flattened(volume, middle)
    mass, end = image.sum(1).numpy(), len(image)
    filled = np.flatnonzero(mass > 0.02 * mass.sum() / end)
    edges = np.linspace(filled[0], filled[-1] + 1, BANDS + 1)
    rows = torch.arange(end)
    without = torch.stack([((rows < a) | (rows >= b)).float() for a, b in pairwise(edges)])
    turns = np.array([turn for turn, _ in _search(image, centre, (0.0, 0.0), FINE, without)])
    variance = (BANDS - 1) / BANDS * ((turns - turns.mean()) ** 2).sum()
    return float(np.radians(np.sqrt(variance + READING_SD_DEG**2)))


def _flattened(volume: np.ndarray, middle: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """The volume's sum along its first axis, and the middle in it."""
    end = min(round(float(middle[1])) + BEHIND, volume.shape[1])
    image = np.ascontiguousarray(volume[:, :end].sum(0), dtype=np.float32)
    return torch.from_numpy(image), np.array([middle[1], middle[2]])


def _search(
    image: torch.Tensor,
    centre: np.ndarray,
    start: tuple[float, float],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    row_weights: torch.Tensor,
) -> list[tuple[float, float]]:
    """For each row weighting (W, rows) the turn (degrees) and offset (samples) of the best mirror."""
    turns, offsets = (
        s + np.arange(-half, half + step / 2, step) for s, (half, step) in zip(start, ranges, strict=True)
    )
    pairs = np.array([(t, o) for t in turns for o in offsets])
    angle = torch.from_numpy(np.radians(pairs[:, 0])).float()[:, None, None]
    shift = torch.from_numpy(pairs[:, 1]).float()[:, None, None]
    rows, columns = (g.float() for g in torch.meshgrid(*(torch.arange(n) for n in image.shape), indexing="ij"))
    # The mirror line runs through the centre, moved along its own normal; (cos, sin) of the turn is its direction.
    normal_row, normal_column = -torch.sin(angle), torch.cos(angle)
    away = (rows - centre[0]) * normal_row + (columns - centre[1]) * normal_column - shift
    there = torch.stack([columns - 2 * away * normal_column, rows - 2 * away * normal_row], -1)
    size = torch.tensor([image.shape[1], image.shape[0]])
    mirrored = F.grid_sample(
        image[None, None].expand(len(pairs), -1, -1, -1), (2 * there + 1) / size - 1, align_corners=False
    )[:, 0]
    cost = ((mirrored - image) ** 2).sum(2) @ row_weights.T
    grids = cost.T.reshape(-1, len(turns), len(offsets)).numpy()
    return [_minimum(grid, turns, offsets) for grid in grids]


def _minimum(grid: np.ndarray, turns: np.ndarray, offsets: np.ndarray) -> tuple[float, float]:
    """The lowest place of a grid, between its points (a parabola in each direction)."""
    i, j = np.unravel_index(int(grid.argmin()), grid.shape)
    out = []
    for line, k, values in ((grid[:, j], i, turns), (grid[i], j, offsets)):
        inside = 0 < k < len(values) - 1
        bend = line[k - 1] - 2 * line[k] + line[k + 1] if inside else 0.0
        part = 0.5 * (line[k - 1] - line[k + 1]) / bend if bend > 0 else 0.0
        out.append(float(values[k] + part * (values[1] - values[0])))
    return out[0], out[1]
