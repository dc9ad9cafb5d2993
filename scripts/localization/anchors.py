"""One word from the user that settles which vertebra is which: "the lowest one is L5", "the one here is T12"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from scripts.errors import UserError
from scripts.io.annotations import Annotations, Mark, Pixel
from scripts.levels import LEVEL_NUMBERS, LEVEL_ORDER, in_order, level_name, level_number, places_along_spine
from scripts.localization.warning_lines import FROM_THE_SACRUM, IN_NO_VIEW, IN_ONE_VIEW, LEVELS_UNCERTAIN

# A place belongs to the mark nearest to it, if that is nearer than this share of the distance of neighbours.
NEAR_SHARE = 0.5
_WORD = re.compile(r"([CTL]\d{1,2})(?:@(ap|lat):([-\d.]+),([-\d.]+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Anchor:
    """A vertebra whose level the user knows.

    Args:
        level: VerSe number.
        view: ``ap`` or ``lat``, the film that ``pixel`` belongs to; empty for the lowest whole vertebra.
        pixel: (row, column) in or near the vertebra, in the pixels of annotations.json.
    """

    level: int
    view: str = ""
    pixel: Pixel | None = None

    def __str__(self) -> str:
        """``L5``, or ``T12@lat:310,85.5`` with a position."""
        name = level_name(self.level)
        return name if self.pixel is None else f"{name}@{self.view}:{self.pixel[0]:g},{self.pixel[1]:g}"


def parse_anchors(text: str) -> tuple[Anchor, ...]:
    """Anchors as the user writes them, one or several with commas between them.

    >>> [str(anchor) for anchor in parse_anchors("L5")]
    ['L5']
    >>> [str(anchor) for anchor in parse_anchors("t12@lat:310,85.5,C2@ap:20,90")]
    ['T12@lat:310,85.5', 'C2@ap:20,90']

    Raises:
        UserError: not an anchor, the level does not exist, or two name the lowest vertebra.
    """
    anchors: list[Anchor] = []
    rest = text.replace(" ", "")
    while rest:
        match = _WORD.match(rest)
        if match is None or (match.end() < len(rest) and rest[match.end()] != ","):
            raise UserError(f"anchor '{text}': write L5 (the lowest whole vertebra) or T12@lat:ROW,COLUMN")
        name, view, row, column = match.groups()
        try:
            pixel = None if view is None else (float(row), float(column))
        except ValueError as error:
            raise UserError(f"anchor '{text}': {row},{column} is no pixel") from error
        anchors.append(Anchor(level_number(name), (view or "").lower(), pixel))
        rest = rest[match.end() + 1 :]
    if sum(anchor.pixel is None for anchor in anchors) > 1:
        raise UserError(f"anchor '{text}': only one vertebra is the lowest; give others a place, as T12@lat:ROW,COLUMN")
    return tuple(anchors)


Anchors = Annotated[tuple[Anchor, ...], parse_anchors]


def nearest_mark(anchor: Anchor, centroids: np.ndarray, reach: float) -> int:
    """Which of a film's vertebrae an anchor's place means.

    Args:
        anchor: with a place.
        centroids: (N, 2) pixels.
        reach: how far away it may be, in pixels.

    Raises:
        UserError: none is near.
    """
    if not len(centroids):
        raise UserError(f"anchor {anchor}: there is no vertebra in that film")
    away = np.linalg.norm(centroids - np.array(anchor.pixel), axis=1)
    nearest = int(away.argmin())
    if away[nearest] > reach:
        row, column = centroids[nearest]
        raise UserError(f"anchor {anchor}: there is no vertebra; the nearest is at {row:.0f},{column:.0f}")
    return nearest


def renumber(annotations: Annotations, anchors: Sequence[Anchor]) -> Annotations:
    """Marks whose levels are moved up or down so that an anchor holds; distances in levels stay.

    Args:
        annotations: marks of any source.
        anchors: vertebrae whose level the user knows; none leaves the marks alone.

    Returns:
        the marks. Who set a mark's place, and how sure that is, stays as it was; each is now called so with
        certainty. End vertebrae and the names in the warnings move along; levels that were confirmed are so no more
        if they move.

    Raises:
        UserError: an anchor means no mark, two contradict each other, or a level beyond C1 or L6 would result.
    """
    if not anchors:
        return annotations
    # A spine with a T13 only where the marks or an anchor have one.
    levels = marked_levels(annotations)
    thirteenth = LEVEL_NUMBERS["T13"]
    has_one = thirteenth in levels or any(anchor.level == thirteenth for anchor in anchors)
    order = [n for n in LEVEL_ORDER if n != thirteenth or has_one]
    meant = {str(anchor): _meant_level(annotations, anchor) for anchor in anchors}
    places = dict(zip(levels, places_along_spine(levels), strict=True))
    moves = {order.index(a.level) - places[level] for a, level in zip(anchors, meant.values(), strict=True)}
    if len(moves) > 1:
        raise UserError(f"the anchors contradict each other: {', '.join(meant)} do not fit the same marks")
    by = moves.pop()
    lowest, highest = places[levels[-1]] + by, places[levels[0]] + by
    if highest < 0 or lowest >= len(order):
        which, end = ("highest", "C1") if highest < 0 else ("lowest", level_name(order[-1]))
        raise UserError(f"anchor {next(iter(meant))}: the {which} mark would lie beyond {end}")
    new = {level: order[place + by] for level, place in places.items()}
    ap, lat = (
        replace(view, marks=tuple(_renamed(mark, new[mark.level]) for mark in view.marks))
        for view in (annotations.ap, annotations.lat)
    )
    # End vertebrae need no mark.
    ends = annotations.end_vertebrae
    unmarked = {level: places_along_spine([*levels, level])[-1] + by for level in LEVEL_ORDER if level not in new}
    new |= {level: order[place] for level, place in unmarked.items() if 0 <= place < len(order)}
    lost = [level_name(level) for chosen in ends for level in (chosen.upper, chosen.lower) if level not in new]
    if lost:
        raise UserError(f"anchor {next(iter(meant))}: the end vertebra {lost[0]} would lie beyond C1 or L6")
    warnings = _settled(annotations.warnings, {level_name(old): level_name(now) for old, now in new.items()})
    contradicted = annotations.levels_confirmed and any(new[level] != level for level in levels)
    if contradicted:
        warnings = (
            *warnings,
            f"anchor {', '.join(meant)} contradicts the confirmed levels: they are confirmed no more",
        )
    return replace(
        annotations,
        ap=ap,
        lat=lat,
        anchors=tuple(meant),
        levels_uncertain=False,
        levels_confirmed=annotations.levels_confirmed and not contradicted,
        end_vertebrae=tuple(replace(chosen, upper=new[chosen.upper], lower=new[chosen.lower]) for chosen in ends),
        warnings=warnings,
    )


def _settled(warnings: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings of the annotation network by the new names, without those that the anchor has settled."""
    lines = [line for line in warnings if not line.startswith((LEVELS_UNCERTAIN, FROM_THE_SACRUM))]
    return tuple(
        re.sub(r"[CTL]\d+", lambda match: names.get(match[0], match[0]), line)
        if line.startswith((IN_ONE_VIEW, IN_NO_VIEW))
        else line
        for line in lines
    )


def marked_levels(annotations: Annotations) -> list[int]:
    """Levels that are marked in either view, head to foot."""
    return in_order(list({mark.level for view in (annotations.ap, annotations.lat) for mark in view.marks}))


def _renamed(mark: Mark, level: int) -> Mark:
    """A mark whose name is the user's: the network's doubt about the name is taken out, that about the place stays."""
    posterior = (mark.level_posterior or {}).get(level_name(mark.level), 0.0)
    confidence = min(1.0, mark.confidence / posterior) if posterior else mark.confidence
    # What is called as before keeps its probabilities: now there is one.
    kept = {level_name(level): 1.0} if level == mark.level and mark.level_posterior else None
    return replace(mark, level=level, confidence=confidence, level_posterior=kept)


def _meant_level(annotations: Annotations, anchor: Anchor) -> int:
    """The level that the vertebra of an anchor has among the marks."""
    levels = marked_levels(annotations)
    if not levels:
        raise UserError(f"anchor {anchor}: there are no marks")
    if anchor.pixel is None:
        return levels[-1]
    view = annotations.ap if anchor.view == "ap" else annotations.lat
    centroids = np.array([mark.centroid for mark in view.marks]).reshape(-1, 2)
    return view.marks[nearest_mark(anchor, centroids, NEAR_SHARE * pitch(centroids, view.shape[0]))].level


def pitch(centroids: np.ndarray, rows: int) -> float:
    """Median distance (pixels) of neighbouring marks (N, 2); of a single one, a tenth of the film's rows."""
    if len(centroids) < 2:
        return 0.1 * rows
    ordered = centroids[np.argsort(centroids[:, 0])]
    return float(np.median(np.linalg.norm(np.diff(ordered, axis=0), axis=1)))
