"""The outline that a reconstructed vertebra would have on a film."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from scripts.geometry.biplanar import View
from scripts.geometry.frames import Grid

# Fine enough for the eye, coarse enough that the projected surface leaves no gaps.
RASTER_MM = 1.0
TOLERANCE_MM = 0.25


def vertebra_outline(mask: np.ndarray, grid: Grid, view: View) -> list[list[list[float]]]:
    """Borders of a mask's shadow.

    Args:
        mask: (I, P, L) bool.
        grid: of the mask.
        view: of the film.

    Returns:
        closed polygons of (row, column) film pixels; empty for an empty mask.
    """
    surface = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    if not len(surface):
        return []
    pixels = view.project(grid.to_world(surface))
    size = np.array(view.pixel_mm) / RASTER_MM
    raster = pixels * size
    first = np.floor(raster.min(0)).astype(int) - 3
    cells = np.rint(raster - first).astype(int)
    shadow = np.zeros(tuple(cells.max(0) + 4), bool)
    shadow[tuple(cells.T)] = True
    # Diverging rays leave cells between neighbouring voxels without any.
    shadow = ndimage.binary_closing(shadow, np.ones((3, 3)))
    polygons = []
    for contour in find_contours(ndimage.gaussian_filter(shadow.astype(float), 0.7), 0.5):
        line = (approximate_polygon(contour, TOLERANCE_MM / RASTER_MM) + first) / size
        polygons.append(np.round(line, 2).tolist())
    return polygons
