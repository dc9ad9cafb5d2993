"""The outline that a reconstructed vertebra would have on a film, as the page draws it: few points, plain numbers."""

from __future__ import annotations

import numpy as np
from skimage.measure import approximate_polygon

from scripts.geometry.biplanar import View
from scripts.measure.reprojection import RASTER_MM, cast_shadow, raster_of
from scripts.spine.assembly import ReconstructedVertebra

# How far a side of the polygon may lie from the outline that the report and its picture have.
TOLERANCE_MM = 0.25


def vertebra_outline(part: ReconstructedVertebra, view: View) -> list[list[list[float]]]:
    """Borders of a vertebra's shadow.

    Args:
        part: a found vertebra.
        view: of the film.

    Returns:
        closed polygons of (row, column) film pixels.
    """
    raster = raster_of(view, [part])
    tolerance = TOLERANCE_MM / RASTER_MM * float(np.min(raster.step))
    outlines = cast_shadow(part, raster).outlines
    return [np.round(approximate_polygon(line, tolerance), 2).tolist() for line in outlines]
