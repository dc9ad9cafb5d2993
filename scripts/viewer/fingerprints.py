"""Fingerprints of what shapes are made from: a shape is current if it has the one that its level has now."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scripts.films.film import Films
from scripts.learning.loading import weights_sha256
from scripts.levels import level_name
from scripts.viewer.memory import OpenCase, predictor


def films_fingerprint(films: Films) -> str:
    """Of the pixels of both films."""
    return _digest([view.film.fingerprint for view in films.views])


def marks_fingerprint(case: OpenCase) -> str:
    """Of all marks."""
    views = (case.marks.ap, case.marks.lat)
    return _digest([[(mark.level, mark.centroid, mark.confidence) for mark in view.marks] for view in views])


def level_fingerprints(case: OpenCase, levels: list[int]) -> dict[str, str]:
    """Of what some vertebrae are made from, by name: marks in both views, level, neighbours, geometry and weights.

    Args:
        case: the case.
        levels: VerSe numbers that are marked in both views.

    Raises:
        UserError: nothing can be made from these marks.
    """
    around = [case.films.geometry.to_dict(), weights_sha256(predictor().weights)]
    made_from = case.session.made_from(case.marks, levels)
    return {level_name(level): _digest([*around, [float(n) for n in facts]]) for level, facts in made_from.items()}


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
