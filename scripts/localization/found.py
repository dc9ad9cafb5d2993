"""What was found in a pair of films, what the user should know of it, and how it becomes marks of a file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scripts.io.annotations import Annotations, Mark, ViewMarks
from scripts.levels import LEVEL_ORDER, USUAL_LEVELS
from scripts.localization.anchors import Anchor
from scripts.localization.detection import Detections
from scripts.localization.levels import NAMES, S1_INDEX
from scripts.localization.matching import Matched
from scripts.localization.path import Reading
from scripts.localization.warning_lines import FROM_THE_SACRUM, IN_NO_VIEW, IN_ONE_VIEW, LEVELS_UNCERTAIN

# Below this many nats between the best reading and one a level off, the user gets a warning.
LEAST_MARGIN = 2.0


@dataclass(frozen=True)
class Vertebra:
    """One vertebra as found.

    Args:
        level: place in the level table; S1 is the last of it.
        ap: index among the AP detections, -1 if the view lacks it.
        lat: index among the LAT detections, -1 if the view lacks it.
        posterior: (LEVELS,) of its level.
        score: probability of being a vertebra.
        residual_mm: distance of the rays through both marks, NaN if seen in one view.
        completed: view in which it was not seen, and has a mark from its neighbours there; empty if there is none.
    """

    level: int
    ap: int
    lat: int
    posterior: np.ndarray
    score: float
    residual_mm: float
    completed: str = ""

    @property
    def seen_in(self) -> str:
        """``both``, ``ap`` or ``lat``: the views that show it."""
        if self.ap >= 0 and self.lat >= 0 and not self.completed:
            return "both"
        return "ap" if self.lat < 0 or self.completed == "lat" else "lat"

    @property
    def confidence(self) -> float:
        """Probability that it is a vertebra and of this level."""
        return float(self.score * self.posterior[self.level])


@dataclass(frozen=True)
class Localization:
    """What was found in a pair of films.

    Args:
        views: detections of AP and LAT, in pixels of the films.
        vertebrae: head to foot; S1 may be the last.
        reading: of the levels.
        warnings: what the user should know.
        pixel_mm: what the network took each film's pixels for, (row, column).
        anchors: what the user said of levels.
        levels_uncertain: whether all levels may be one too high or too low.
        matched: what was read.
    """

    views: tuple[Detections, Detections]
    vertebrae: list[Vertebra]
    reading: Reading
    warnings: list[str] = field(default_factory=list)
    pixel_mm: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 1.0), (1.0, 1.0))
    anchors: tuple[Anchor, ...] = ()
    levels_uncertain: bool = False
    matched: Matched | None = None


def to_annotations(found: Localization, shapes: tuple[tuple[int, int], tuple[int, int]], case: str = "") -> Annotations:
    """The marks of both views as ``annotations.json`` has them; S1 is left out, as it is not reconstructed.

    Args:
        found: in pixels of the films.
        shapes: of the AP and the LAT film.
        case: name of the case.
    """
    views = []
    for which, shape in enumerate(shapes):
        marks = []
        for vertebra in found.vertebrae:
            index = (vertebra.ap, vertebra.lat)[which]
            if vertebra.level == S1_INDEX or index < 0:
                continue
            marks.append(_mark(vertebra, found, which, index))
        views.append(ViewMarks(shape, tuple(marks)))
    return Annotations(
        views[0],
        views[1],
        case,
        float(min(found.reading.margin, 1e6)),
        tuple(found.warnings),
        tuple(str(anchor) for anchor in found.anchors),
        found.levels_uncertain,
    )


def _mark(vertebra: Vertebra, found: Localization, which: int, index: int) -> Mark:
    view = found.views[which]
    completed = vertebra.completed == ("ap", "lat")[which]
    corners = tuple((float(r), float(c)) for r, c in view.corners[index])
    likely = {NAMES[i]: round(float(p), 4) for i, p in enumerate(vertebra.posterior) if p >= 0.005}
    return Mark(
        level=LEVEL_ORDER[vertebra.level],
        centroid=(float(view.centroid[index, 0]), float(view.centroid[index, 1])),
        # The ring of C1 has no corners to learn from.
        corners=None if vertebra.level == 0 or completed else corners,
        confidence=0.0 if completed else round(vertebra.confidence, 4),
        set_by="model",
        seen_in=vertebra.seen_in,
        level_posterior=likely,
        interpolated=completed,
    )


def why_uncertain(vertebrae: Sequence[Vertebra], reading: Reading, views: tuple[Detections, Detections]) -> str:
    """Why all levels may be one too high or too low; empty if they are certain.

    Args:
        vertebrae: head to foot.
        reading: of their levels.
        views: what both views show.
    """
    if not {NAMES[v.level] for v in vertebrae} & {"C1", "C2", "S1"}:
        return "neither C2 nor the sacrum is in sight"
    if reading.margin < LEAST_MARGIN:
        return f"margin {reading.margin:.1f}"
    for vertebra in vertebrae:
        for name, index, view in zip(("AP", "LAT"), (vertebra.ap, vertebra.lat), views, strict=True):
            if vertebra.level != S1_INDEX and index >= 0 and np.exp(view.log_level[index, S1_INDEX]) > 0.5:
                return f"the {name} film shows the sacrum where {NAMES[vertebra.level]} is"
    return ""


def reading_warnings(vertebrae: Sequence[Vertebra], doubt: str = "", settled: bool = False) -> list[str]:
    """What one view alone shows, what neither shows between two, and how sure the count is.

    Args:
        vertebrae: head to foot.
        doubt: as of `why_uncertain`; empty if the user settled a level.
        settled: whether the user did.
    """
    warnings = []
    single = [NAMES[v.level] for v in vertebrae if v.seen_in != "both"]
    if single:
        warnings.append(f"{IN_ONE_VIEW}: {', '.join(single)}")
    for upper, lower in itertools.pairwise(vertebrae):
        between = [i for i in range(upper.level + 1, lower.level) if LEVEL_ORDER[i] in USUAL_LEVELS]
        if between:
            warnings.append(f"{IN_NO_VIEW} {', '.join(NAMES[i] for i in between)}")
    if doubt:
        warnings.append(f"{LEVELS_UNCERTAIN} ({doubt}): settle one with an anchor")
    elif not settled and counted_from_sacrum([v.level for v in vertebrae]):
        warnings.append(FROM_THE_SACRUM)
    return warnings


def counted_from_sacrum(levels: Sequence[int]) -> bool:
    """Whether the sacrum alone says which level is which, as if nobody had four or six lumbar vertebrae.

    Args:
        levels: places in the level table.
    """
    names = {NAMES[level] for level in levels}
    return "S1" in names and not names & {"C1", "C2", "L6"}
