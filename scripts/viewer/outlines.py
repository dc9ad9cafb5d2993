"""The outline that a reconstructed vertebra would have on a film."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from scripts.geometry.biplanar import View
from scripts.geometry.frames import Grid
from scripts.geometry.shadow import filled, surface_pixels

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
    if not mask.any():
        return []
    size = np.array(view.pixel_mm) / RASTER_MM
    raster = surface_pixels(mask, grid, view) * size
    first = np.floor(raster.min(0)).astype(int) - 3
    rows, columns = np.rint(raster.max(0) - first).astype(int) + 4
    shadow = filled(raster - first, (rows, columns))
    polygons = []
    for contour in find_contours(ndimage.gaussian_filter(shadow.astype(float), 0.7), 0.5):
        line = (approximate_polygon(contour, TOLERANCE_MM / RASTER_MM) + first) / size
        polygons.append(np.round(line, 2).tolist())
    return polygons
