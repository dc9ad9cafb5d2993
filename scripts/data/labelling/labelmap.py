"""Fitted vertebrae as a labelmap."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.data.labelling.fit import FittedVertebra
from scripts.geometry.components import largest_part
from scripts.geometry.frames import Grid


def draw_labels(fitted: list[FittedVertebra], grid: Grid, numbers: set[int] | None = None) -> np.ndarray:
    """(I, P, L) uint8 VerSe numbers; a voxel that two claim goes to the one in which it lies deeper.

    Each vertebra is one piece: crumbs that a displacement may tear off are left out.

    Args:
        fitted: the vertebrae.
        grid: of the labelmap.
        numbers: which of them are drawn, all if None. The others still keep their voxels for themselves.
    """
    labels: np.ndarray = np.zeros(grid.shape, np.uint8)
    depth: np.ndarray = np.zeros(grid.shape, np.float32)
    for vertebra in fitted:
        size = np.array(vertebra.distance.shape)
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij"), -1).reshape(-1, 3)
        world = vertebra.frame.to_world(vertebra.low_mm + corners * vertebra.spacing_mm)
        index = grid.to_index(world)
        low = np.clip(np.floor(index.min(0)).astype(int), 0, grid.shape)
        high = np.clip(np.ceil(index.max(0)).astype(int) + 1, 0, grid.shape)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        places = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), -1)
        own = (vertebra.frame.to_own(grid.to_world(places)) - vertebra.low_mm) / vertebra.spacing_mm
        distance = ndimage.map_coordinates(
            vertebra.distance, np.moveaxis(own, -1, 0), order=1, mode="constant", cval=10.0
        )
        wins = largest_part(distance < 0) & (distance < depth[box])
        labels[box][wins] = vertebra.level
        depth[box][wins] = distance[wins]
    if numbers is not None:
        labels[~np.isin(labels, list(numbers))] = 0
    return labels
