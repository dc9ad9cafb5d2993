"""A vertebra that one view alone shows gets a mark in the other one, where its neighbours there say that it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.geometry.biplanar import BiplanarGeometry
from scripts.localization.detection import Detections
from scripts.localization.found import Vertebra
from scripts.localization.levels import places_of

# Of the way between two neighbours, where a vertebra between them is looked for.
WAY = np.linspace(0.05, 0.95, 91)[:, None]
# Neighbours farther apart than this many levels say too little of what lies between them.
MOST_LEVELS = 3
NO_CORNERS = np.full((1, 4, 2), np.nan)
Views = tuple[Detections, Detections]


def complete_pairs(
    views: Views, vertebrae: Sequence[Vertebra], geometry: BiplanarGeometry
) -> tuple[Views, list[Vertebra]]:
    """Marks for what a view lacks between two vertebrae that it shows.

    The mark lies on the straight line between the two, where the other view's ray comes nearest to it.

    Args:
        views: detections of AP and LAT, in pixels of the films.
        vertebrae: head to foot.
        geometry: of both films.

    Returns:
        the views with the marks added, which have no corners (NaN), and the vertebrae with them.
    """
    out, completed = list(views), list(vertebrae)
    levels = places_of([vertebra.level for vertebra in vertebrae])
    for which, name in enumerate(("ap", "lat")):
        own = [(vertebra.ap, vertebra.lat)[which] for vertebra in vertebrae]
        other = [(vertebra.lat, vertebra.ap)[which] for vertebra in vertebrae]
        seen = np.flatnonzero(np.array(own) >= 0)
        for place in range(len(vertebrae)):
            above, below = seen[seen < place], seen[seen > place]
            if own[place] >= 0 or other[place] < 0 or not len(above) or not len(below):
                continue
            upper, lower = int(above[-1]), int(below[0])
            if levels[lower] - levels[upper] > MOST_LEVELS:
                continue
            ends = [out[which].centroid[own[i]] for i in (upper, lower)]
            line = ends[0] + (ends[1] - ends[0]) * WAY
            mark = views[1 - which].centroid[other[place]]
            marks = np.broadcast_to(mark, line.shape)
            away = geometry.back_project(*((line, marks) if which == 0 else (marks, line)))[1]
            index = len(out[which])
            out[which] = out[which].added(own[upper], line[int(np.argmin(away))], index, corners=NO_CORNERS)
            vertebra = completed[place]
            completed[place] = (
                replace(vertebra, ap=index, completed=name)
                if which == 0
                else replace(vertebra, lat=index, completed=name)
            )
    return (out[0], out[1]), completed
