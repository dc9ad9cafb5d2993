"""Whether marks run down their film as a spine does: levels from the wrong end, and rows and columns exchanged."""

from __future__ import annotations

import itertools

import numpy as np

from scripts.errors import UserError
from scripts.io.annotations import Annotations, Mark
from scripts.levels import level_name, places_along_spine

# Columns a row along the line of a spine's marks. Whole spines stay below 0.4, single levels of a bad curve reach 1.5.
TOO_FLAT, FLAT = 2.5, 1.0


def check_order(annotations: Annotations, where: str = "") -> list[str]:
    """Refuse marks that cannot be those of a spine whose head is up.

    All marks are used, whichever levels are wanted, because a single level has no order.

    Args:
        annotations: marks of both views.
        where: the file, for errors.

    Returns:
        warnings: views whose marks run more across than down, and neighbours in the wrong order.

    Raises:
        UserError: the marks of a view run from foot to head, or across the film.
    """
    refusals, warnings = order_complaints(annotations)
    if refusals:
        raise UserError(f"{where}: {refusals[0]}" if where else refusals[0])
    return warnings


def order_complaints(annotations: Annotations) -> tuple[list[str], list[str]]:
    """Why `check_order` refuses the marks, and what it warns of."""
    views = {"AP": annotations.ap.marks, "LAT": annotations.lat.marks}
    slopes = {name: _slopes(marks) for name, marks in views.items() if len(marks) > 1}
    across = {name: abs(columns) / max(abs(rows), 1e-6) for name, (rows, columns) in slopes.items()}
    flat = [name for name, share in across.items() if share > TOO_FLAT]
    up = [name for name, (rows, _) in slopes.items() if rows < 0 and name not in flat]
    refusals = []
    if flat:
        refusals.append(
            f"the {' and '.join(flat)} marks run across the film, not down it: are rows and columns exchanged? "
            "Positions are [row, column]"
        )
    if up:
        marks = views[up[0]]
        refusals.append(
            f"the {' and '.join(up)} marks run from foot to head, {level_name(marks[-1].level)} above "
            f"{level_name(marks[0].level)}: is a film upside down, or are the levels?"
        )
    warnings = [
        f"the {name} marks run more across the film than down it; are they right?"
        for name, share in across.items()
        if FLAT < share <= TOO_FLAT
    ]
    for name in slopes:
        for upper, lower in itertools.pairwise(views[name]):
            if lower.centroid[0] <= upper.centroid[0] and name not in (*flat, *up):
                warnings.append(f"{name}: {level_name(lower.level)} is marked above {level_name(upper.level)}")
    return refusals, warnings


def _slopes(marks: tuple[Mark, ...]) -> tuple[float, float]:
    """By how many rows and columns the marks move from one level to the next."""
    places = np.array(places_along_spine([mark.level for mark in marks]), float)
    away = places - places.mean()
    rows, columns = away @ np.array([mark.centroid for mark in marks]) / (away @ away)
    return float(rows), float(columns)
