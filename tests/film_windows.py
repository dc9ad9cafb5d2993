"""A window of a stored film and what the network should say of it, one item at a time: slower than the online engine.

Windows are sampled from films here, not traced through the patient; targets come from loops over marks.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from scripts.localization.known import unknown_boxes
from scripts.localization.levels import ends_of, region_index
from scripts.localization.network import STRIDE, UNIT_PX
from scripts.localization.windows import Window, mirror_points


def cut_window(
    film: torch.Tensor, points: np.ndarray, place: Window, shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A window of a film.

    Args:
        film: (1, rows, columns).
        points: (N, 5, 2) pixels of it: centroid, then corners.
        place: of the window.
        shape: of the window.

    Returns:
        window (1, *shape), where it shows film (1, *shape) 0 or 1, and the points in it.
    """
    turn = np.array([[np.cos(place.angle), -np.sin(place.angle)], [np.sin(place.angle), np.cos(place.angle)]])
    centre = (np.array(shape) - 1) / 2
    index = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"), -1)
    source = (index - centre) @ turn.T / place.scale + place.middle
    size = np.array(film.shape[1:])
    where = torch.from_numpy(((2 * source + 1) / size - 1)[..., ::-1].astype(np.float32))
    window = F.grid_sample(film[None], where[None], align_corners=False, padding_mode="border")[0]
    inside = np.all((source > -0.5) & (source < size - 0.5), -1) & (np.abs(index - centre)[..., 0] <= place.half_rows)
    inside &= (index[..., 1] >= place.columns[0]) & (index[..., 1] <= place.columns[1])
    valid = torch.from_numpy(inside.astype(np.float32))[None]
    moved = ((points - place.middle) @ turn * place.scale + centre).astype(np.float32)
    if place.mirrored:
        window, valid, moved = window.flip(-1), valid.flip(-1), mirror_points(moved, shape[1])
    return window * valid, valid, moved


def targets_of_view(
    points: np.ndarray, levels: np.ndarray, complete: bool, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Targets of one view of one item; the marks are those on the film, without gaps.

    Args:
        points: (N, 5, 2) pixels of the window: centroid, then corners.
        levels: (N,) places in the level table, head to foot.
        complete: whether every vertebra is listed.
        valid: (H, W) 0 or 1, where there is film.

    Returns:
        as of `scripts.localization.online.targets.batch_targets`, without batch and views.
    """
    which = np.stack([levels, [region_index(int(i)) for i in levels], ends_of(levels, complete)], 1)
    shape = tuple(n // STRIDE for n in valid.shape)
    # Pixel r is shown by cell (r - (STRIDE - 1) / 2) / STRIDE.
    exact = (points[:, 0] - (STRIDE - 1) / 2) / STRIDE
    nearest = np.rint(exact).astype(int)
    place = np.clip(np.rint(points[:, 0]).astype(int), 0, np.array(valid.shape) - 1)
    inside = np.all((nearest >= 0) & (nearest < shape), 1) & (valid.numpy()[place[:, 0], place[:, 1]] > 0)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    heat, counts = np.zeros(shape), np.ones(shape)
    for top, bottom, left, right in unknown_boxes(exact, levels, complete):
        counts[(rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)] = 0
    seen = np.flatnonzero(inside)
    where = np.full((len(seen), 14), np.nan)
    steps = np.linalg.norm(np.diff(exact, axis=0), axis=1)
    for row, i in zip(where, seen, strict=True):
        sigma = np.clip(0.11 * min(steps[max(i - 1, 0) : i + 1], default=8.0), 0.8, 1.6)
        squared = (rows - exact[i, 0]) ** 2 + (columns - exact[i, 1]) ** 2
        heat = np.maximum(heat, np.exp(-squared / (2 * sigma**2)))
        row[:2] = exact[i]
        row[2:10] = (points[i, 1:] - points[i, 0]).ravel() / UNIT_PX
        for side, other in enumerate((i - 1, i + 1)):
            if 0 <= other < len(points):
                row[10 + 2 * side : 12 + 2 * side] = (points[other, 0] - points[i, 0]) / UNIT_PX
    heat[nearest[seen, 0], nearest[seen, 1]] = 1.0
    arrays = {"heat": heat[None], "counts": counts[None], "cell": nearest[seen], "where": where, "which": which[seen]}
    return {name: torch.from_numpy(values) for name, values in arrays.items()}
