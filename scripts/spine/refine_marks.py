"""Automatic marks, moved to where the reconstruction network sees the vertebral bodies.

The annotation network sees the whole films at 2 mm, the reconstruction network each vertebra's own patches at 1 mm: its
reader says how far the body lies from the mark (`scripts.anatomy.placement`), and all readings of a spine are weighed
against each other and against how automatic marks err (`scripts.reconstruction.steady`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Films
from scripts.geometry.biplanar import View
from scripts.io.annotations import Annotations, Mark, ViewMarks
from scripts.reconstruction.predictor import Predictor
from scripts.spine.session import Session

# A body that is read further away than this is more likely to be misread.
LARGEST_MOVE_MM = 8.0


def refine_marks(films: Films, annotations: Annotations, predictor: Predictor) -> Annotations:
    """Marks whose pairs lie where the network sees the bodies; corners move along.

    Only pairs that the annotation network set move. All stay where they are if the films do not know how they lie to
    each other, since that is then taken from the marks, with networks that do not read where a body lies, and where
    marks cannot be read at; what is wrong with them is said when they are reconstructed.

    Args:
        films: the radiographs.
        annotations: their marks.
        predictor: the reconstruction network.
    """
    if not (predictor.takes_level and films.in_one_frame):
        return annotations
    automatic = [{m.level for m in view.marks if m.set_by == "model"} for view in (annotations.ap, annotations.lat)]
    movable = automatic[0] & automatic[1]
    if not movable:
        return annotations
    try:
        seen = Session(films, predictor).read_bodies(annotations)
    except UserError:
        return annotations
    bodies = {n: body for n, body in seen.items() if n in movable}
    ap = _moved(annotations.ap, films.geometry.ap, bodies)
    return replace(annotations, ap=ap, lat=_moved(annotations.lat, films.geometry.lat, bodies))


def _moved(marks: ViewMarks, view: View, bodies: dict[int, np.ndarray]) -> ViewMarks:
    """The marks of a view at the projections of bodies, world mm (3,), that do not lie too far from them."""
    return replace(marks, marks=tuple(_at(m, view, bodies[m.level]) if m.level in bodies else m for m in marks.marks))


def _at(mark: Mark, view: View, body: np.ndarray) -> Mark:
    place = view.project(body[None])[0]
    move = place - mark.centroid
    # Written so that NaN, from damaged weights, moves nothing.
    if not np.linalg.norm(move * view.pixel_mm) <= LARGEST_MOVE_MM:
        return mark
    corners = mark.corners and tuple((row + float(move[0]), column + float(move[1])) for row, column in mark.corners)
    return replace(mark, centroid=(float(place[0]), float(place[1])), corners=corners)
