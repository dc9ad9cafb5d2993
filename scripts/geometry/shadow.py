"""The shadow that a mask throws on a film: where its surface is projected to, without gaps."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.geometry.biplanar import View
from scripts.geometry.frames import Grid


def surface_pixels(mask: np.ndarray, grid: Grid, view: View) -> np.ndarray:
    """Film pixels (N, 2) of the voxels on a mask's surface, which cover its whole shadow.

    Args:
        mask: (I, P, L) bool.
        grid: of the mask.
        view: of the film.
    """
    return view.project(grid.to_world(np.argwhere(mask & ~ndimage.binary_erosion(mask))))


def filled(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A raster (rows, columns) bool, true at those of the pixels (N, 2) that lie in it, and in gaps of one pixel.

    Rays that diverge leave such gaps between neighbouring voxels.
    """
    cells = np.rint(pixels).astype(int)
    cells = cells[((cells >= 0) & (cells < shape)).all(1)]
    raster: np.ndarray = np.zeros(shape, bool)
    raster[tuple(cells.T)] = True
    return raster | ndimage.binary_closing(np.pad(raster, 1), np.ones((3, 3)))[1:-1, 1:-1]
