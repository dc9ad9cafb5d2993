"""Marks of a pair moved onto rays that meet: both films then show one point, nearer to the truth than either mark."""

from __future__ import annotations

import numpy as np

from scripts.geometry.biplanar import BiplanarGeometry
from scripts.localization.detection import Detections
from scripts.localization.pairing import Pairing


def share_rows(
    views: tuple[Detections, Detections], pairing: Pairing, geometry: BiplanarGeometry, lateral_share: float
) -> tuple[Detections, Detections]:
    """Detections of both views, those of a pair moved up or down until their rays meet.

    Rows of the lateral film are the better ones (``docs/localization.md``, "How it works"). Corners and expected
    neighbours move along. A mark that the user set (its score is 1) stays, and the other view's goes all the way.

    Args:
        views: of AP and LAT, in pixels of the films.
        pairing: which belong together.
        geometry: of both films.
        lateral_share: weight of the lateral mark in the common point, 0 to 1.
    """
    both = (pairing.ap >= 0) & (pairing.lat >= 0)
    if not both.any():
        return views
    indices = pairing.ap[both], pairing.lat[both]
    marks = [view.centroid[index] for view, index in zip(views, indices, strict=True)]
    middle, _ = geometry.back_project(*marks)
    set_ap, set_lat = (view.score[index] >= 1 for view, index in zip(views, indices, strict=True))
    # How far each mark goes towards the other view's ray.
    way_ap = np.where(set_ap, 0.0, np.where(set_lat, 1.0, lateral_share))
    way_lat = np.where(set_lat, 0.0, np.where(set_ap, 1.0, 1 - lateral_share))
    moved = []
    for view, index, mark, seen, way in zip(
        views, indices, marks, geometry.project(middle), (way_ap, way_lat), strict=True
    ):
        step = np.zeros_like(view.centroid)
        # The middle lies half-way.
        step[index] = 2 * way[:, None] * (seen - mark)
        moved.append(view.moved(step))
    return moved[0], moved[1]
