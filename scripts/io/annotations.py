"""``annotations.json``: which vertebra lies where in each view. Its form is ``annotations.schema.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.io.documents import check_schema, read_small, write_json
from scripts.levels import LEVEL_ORDER, level_name, level_number

SCHEMA_FILE = Path(__file__).with_name("annotations.schema.json")
SCHEMA_VERSION = "1.0"
Pixel = tuple[float, float]
# How far outside its film a mark may lie, as a share of the film's longer side; the corners of its body twice as far.
BEYOND_FILM = 0.25


@dataclass(frozen=True)
class Mark:
    """One vertebra in one view.

    Args:
        level: VerSe number.
        centroid: (row, column) of the body centroid.
        corners: four of the body, or None.
        confidence: 0 to 1.
        set_by: ``model``, ``edited`` or ``reference``.
        seen_in: ``both``, ``ap`` or ``lat``: which views showed the model this vertebra; None from others.
        interpolated: set between two others of its view, which does not show it.
        level_posterior: the model's probability of each level that is not negligible, by name.
    """

    level: int
    centroid: Pixel
    corners: tuple[Pixel, ...] | None = None
    confidence: float = 1.0
    set_by: str = "reference"
    seen_in: str | None = None
    interpolated: bool = False
    level_posterior: dict[str, float] | None = None

    @property
    def set_by_in_words(self) -> str:
        """Who set it, in words: a mark that a person moved is by hand, wherever it was before."""
        if self.set_by == "model":
            return "interpolated" if self.interpolated else "automatic"
        return {"edited": "by hand", "reference": "reference"}[self.set_by]


@dataclass(frozen=True)
class ViewMarks:
    """All marks of one view.

    Args:
        shape: (rows, columns) of the film.
        marks: from head to foot.
        film: fingerprint of the film that they were set on (`scripts.films.film.Radiograph.fingerprint`); empty if it
            is not known.
    """

    shape: tuple[int, int]
    marks: tuple[Mark, ...]
    film: str = ""

    def by_level(self) -> dict[int, Mark]:
        """VerSe number -> mark."""
        return {mark.level: mark for mark in self.marks}


@dataclass(frozen=True)
class EndVertebrae:
    """The end vertebrae that a person chose for an angle of the spine.

    Args:
        measure: ``cobb``, ``kyphosis`` or ``lordosis``.
        upper: VerSe number.
        lower: of a vertebra below it.
    """

    measure: str
    upper: int
    lower: int

    def to_json(self) -> dict[str, str]:
        """As ``annotations.json`` and the page have them, with the vertebrae's names."""
        return {"measure": self.measure, "upper": level_name(self.upper), "lower": level_name(self.lower)}


@dataclass(frozen=True)
class Annotations:
    """The marks of both views of a case.

    Args:
        ap: of the frontal film.
        lat: of the lateral film.
        case: its name.
        shift_margin: by how much, in nats, the model prefers its levels to those one off; None from others.
        warnings: the model's own.
        anchors: what the user said of levels, as `scripts.localization.anchors` writes it.
        levels_uncertain: all levels may be one too high or too low.
        levels_confirmed: a person looked at the levels and said that they are right.
        end_vertebrae: that a person chose; the program chooses the others, see `scripts.measure.spine_angles`.
    """

    ap: ViewMarks
    lat: ViewMarks
    case: str = ""
    shift_margin: float | None = None
    warnings: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()
    levels_uncertain: bool = False
    levels_confirmed: bool = False
    end_vertebrae: tuple[EndVertebrae, ...] = ()

    @property
    def levels_in_words(self) -> str:
        """How far the levels can be trusted, in words that outputs share."""
        if self.levels_uncertain:
            return "levels uncertain by one"
        return "levels confirmed by user" if self.levels_confirmed else "levels not confirmed"

    def paired_levels(self) -> list[int]:
        """Levels that are marked in both views, head to foot."""
        both = self.ap.by_level().keys() & self.lat.by_level().keys()
        return [number for number in LEVEL_ORDER if number in both]


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write the file in one step; the same annotations give the same bytes."""
    views = {"ap": _view_to_json(annotations.ap), "lat": _view_to_json(annotations.lat)}
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "case": annotations.case, "views": views}
    if annotations.shift_margin is not None:
        document["shift_margin"] = round(annotations.shift_margin, 3)
    if annotations.warnings:
        document["warnings"] = list(annotations.warnings)
    if annotations.anchors:
        document["anchors"] = list(annotations.anchors)
    if annotations.levels_uncertain:
        document["levels_uncertain"] = True
    if annotations.levels_confirmed:
        document["levels_confirmed"] = True
    if annotations.end_vertebrae:
        document["end_vertebrae"] = [ends.to_json() for ends in annotations.end_vertebrae]
    write_json(path, document)


def read_annotations(path: Path) -> Annotations:
    """Read and check the file.

    Raises:
        UserError: missing, not JSON, a number that is not finite, against the schema, an unknown level, one level twice
            in a view, or a mark beyond its film.

    >>> from scripts.paths import BUNDLE_ROOT
    >>> marks = read_annotations(BUNDLE_ROOT / "docs" / "sample" / "annotations.json")
    >>> [level_name(number) for number in marks.paired_levels()][-2:]
    ['T12', 'L1']
    """
    return parse_annotations(read_small(path, "JSON file"), str(path))


def parse_annotations(document: Any, where: str) -> Annotations:
    """The marks that a document holds.

    Args:
        document: content of ``annotations.json``, with finite numbers.
        where: it came from, for errors.

    Raises:
        UserError: against the schema, an unknown level, one level twice in a view, a mark beyond its film, or end
            vertebrae of which the lower one is not below the upper one.
    """
    check_schema(document, SCHEMA_FILE, where)
    try:
        views = document["views"]
        return Annotations(
            _view_from_json(views["ap"], "ap"),
            _view_from_json(views["lat"], "lat"),
            document.get("case", ""),
            document.get("shift_margin"),
            tuple(document.get("warnings", ())),
            tuple(document.get("anchors", ())),
            document.get("levels_uncertain", False),
            document.get("levels_confirmed", False),
            _chosen_ends(document.get("end_vertebrae", ())),
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _chosen_ends(entries: Sequence[dict[str, str]]) -> tuple[EndVertebrae, ...]:
    chosen = tuple(_ends_from_json(ends) for ends in entries)
    for ends in chosen:
        if chosen.count(ends) > 1:
            raise UserError(f"end vertebrae {level_name(ends.upper)}-{level_name(ends.lower)} are given twice")
    return chosen


def _ends_from_json(ends: dict[str, str]) -> EndVertebrae:
    upper, lower = level_number(ends["upper"]), level_number(ends["lower"])
    if LEVEL_ORDER.index(lower) <= LEVEL_ORDER.index(upper):
        raise UserError(f"end vertebrae {ends['upper']} and {ends['lower']}: the lower one is not below the upper one")
    return EndVertebrae(ends["measure"], upper, lower)


def _view_to_json(view: ViewMarks) -> dict[str, Any]:
    vertebrae = [
        {
            "level": level_name(mark.level),
            "centroid": [round(v, 3) for v in mark.centroid],
            "corners": None if mark.corners is None else [[round(v, 3) for v in c] for c in mark.corners],
            "confidence": mark.confidence,
            "set_by": mark.set_by,
            **({"seen_in": mark.seen_in} if mark.seen_in else {}),
            **({"interpolated": True} if mark.interpolated else {}),
            **({"level_posterior": mark.level_posterior} if mark.level_posterior else {}),
        }
        for mark in sorted(view.marks, key=lambda m: LEVEL_ORDER.index(m.level))
    ]
    return {"shape": list(view.shape), **({"film": view.film} if view.film else {}), "vertebrae": vertebrae}


def _view_from_json(view: dict[str, Any], name: str) -> ViewMarks:
    marks = []
    for entry in view["vertebrae"]:
        corners = entry.get("corners")
        marks.append(
            Mark(
                level=level_number(entry["level"]),
                centroid=(float(entry["centroid"][0]), float(entry["centroid"][1])),
                corners=None if corners is None else tuple((float(r), float(c)) for r, c in corners),
                confidence=float(entry["confidence"]),
                set_by=entry["set_by"],
                seen_in=entry.get("seen_in"),
                interpolated=entry.get("interpolated", False),
                level_posterior=entry.get("level_posterior"),
            )
        )
    levels = [mark.level for mark in marks]
    for level in levels:
        if levels.count(level) > 1:
            raise UserError(f"level {level_name(level)} is marked twice in one view")
    rows, columns = (int(size) for size in view["shape"])
    for number, mark in enumerate(marks):
        where = f"$.views.{name}.vertebrae[{number}]"
        points = [(f"{where}.centroid", mark.centroid, BEYOND_FILM)]
        points += [(f"{where}.corners[{i}]", corner, 2 * BEYOND_FILM) for i, corner in enumerate(mark.corners or ())]
        for field, (row, column), share in points:
            margin = share * max(rows, columns)
            if not (-margin <= row <= rows + margin and -margin <= column <= columns + margin):
                raise UserError(
                    f"at {field}: the {name.upper()} mark of {level_name(mark.level)} at row {row:g}, column "
                    f"{column:g} lies beyond its film of {rows} rows and {columns} columns; positions are "
                    "[row, column] in pixels"
                )
    in_order = tuple(sorted(marks, key=lambda m: LEVEL_ORDER.index(m.level)))
    return ViewMarks((rows, columns), in_order, view.get("film", ""))
