"""Marks of a case: body centroids and levels, who set them, and what was decided on each fitted vertebra.

One JSON a case. It travels without the CT: positions are world mm (RAS, as the CT's header has them).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.io.atomic import write_text
from scripts.io.documents import read_small
from scripts.levels import LEVEL_NAMES, in_order, level_name, level_number

VERSION = 1
SET_BY = ("proposed", "by eye")
DECISIONS = ("", "accepted", "rejected")
# The reason for which the place of a mark is not certain either.
CUT = "cut by the field of view"


@dataclass(frozen=True)
class VertebraMark:
    """One vertebra.

    Args:
        level: VerSe number.
        centroid_mm: of its body (C1: of its ring), world mm.
        set_by: ``proposed`` by the program, or set or checked ``by eye`` on pictures.
        decision: on its fitted shape: ``accepted``, ``rejected``, or empty before its review.
        reason: of the decision.
    """

    level: int
    centroid_mm: tuple[float, float, float]
    set_by: str
    decision: str = ""
    reason: str = ""


@dataclass(frozen=True)
class CaseMarks:
    """All marks of a case.

    Args:
        case: its name.
        ct: file name of the CT.
        vertebrae: from head to foot.
        source: where the CT comes from, with its citation.
        licence: of the CT.
        levels_by: how the levels were identified and how certain they are, in words.
        use: ``training``, or ``looking`` for cases that are kept apart.
        s1_mm: middle of the body of S1, world mm; None where it is not in the CT, or not marked.
    """

    case: str
    ct: str
    vertebrae: tuple[VertebraMark, ...]
    source: str = ""
    licence: str = ""
    levels_by: str = ""
    use: str = "training"
    s1_mm: tuple[float, float, float] | None = None

    def centroids(self) -> dict[int, np.ndarray]:
        """VerSe number -> world mm (3,)."""
        return {mark.level: np.array(mark.centroid_mm) for mark in self.vertebrae}

    def accepted(self) -> list[int]:
        """Numbers whose fitted shape was looked at and found right."""
        return [mark.level for mark in self.vertebrae if mark.decision == "accepted"]

    def unlabelled(self, labelled: set[int]) -> dict[str, tuple[float, float, float]]:
        """Name -> world mm of what has a mark, but is not among ``labelled``; not what the field of view cuts."""
        missing = [mark for mark in self.vertebrae if mark.level not in labelled and mark.reason != CUT]
        found = {level_name(mark.level): mark.centroid_mm for mark in missing}
        return found if self.s1_mm is None else {**found, "S1": self.s1_mm}

    def decided(self, decisions: dict[int, tuple[str, str]]) -> CaseMarks:
        """The same with new decisions and reasons for some numbers.

        Raises:
            UserError: a vertebra has no mark, or a decision is unknown.
        """
        known = {mark.level for mark in self.vertebrae}
        for number, (decision, _) in decisions.items():
            if number not in known:
                raise UserError(f"{self.case}: {level_name(number)} has no mark")
            if decision not in DECISIONS:
                raise UserError(f"{self.case}: '{decision}' is no decision; use accepted or rejected")
        vertebrae = tuple(
            replace(mark, decision=decisions[mark.level][0], reason=decisions[mark.level][1])
            if mark.level in decisions
            else mark
            for mark in self.vertebrae
        )
        return replace(self, vertebrae=vertebrae)


def write_marks(path: Path, marks: CaseMarks) -> None:
    """Write a case's marks; a vertebra a line, so that a person can edit them."""
    head = {"version": VERSION, **{k: v for k, v in asdict(marks).items() if k not in ("vertebrae", "s1_mm")}}
    rows = []
    for mark in sorted(marks.vertebrae, key=lambda m: in_order(list(LEVEL_NAMES)).index(m.level)):
        row = {
            "level": level_name(mark.level),
            "centroid_mm": [round(v, 1) for v in mark.centroid_mm],
            "set_by": mark.set_by,
        }
        if mark.decision:
            row |= {"decision": mark.decision, **({"reason": mark.reason} if mark.reason else {})}
        rows.append("  " + json.dumps(row))
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    if marks.s1_mm is not None:
        text += f',\n "s1_mm": {json.dumps([round(v, 1) for v in marks.s1_mm])}'
    write_text(path, text + ',\n "vertebrae": [\n' + ",\n".join(rows) + "\n ]\n}\n")


def read_marks(path: Path) -> CaseMarks:
    """Read what `write_marks` wrote or a person edited.

    Raises:
        UserError: unreadable, of another version, or with an unknown level, decision, or a level twice.
    """
    try:
        stored = read_small(path, "file of marks")
        version = stored.pop("version")
        rows = stored.pop("vertebrae")
        vertebrae = tuple(_mark(row) for row in rows)
        s1 = stored.pop("s1_mm", None)
        marks = CaseMarks(vertebrae=vertebrae, s1_mm=None if s1 is None else _place(s1), **stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no readable marks ({type(error).__name__}: {error})") from error
    if version != VERSION:
        raise UserError(f"{path}: marks of version {version}, this program reads {VERSION}")
    levels = [mark.level for mark in vertebrae]
    if len(set(levels)) != len(levels):
        raise UserError(f"{path}: a level occurs twice")
    wrong = [m for m in vertebrae if m.set_by not in SET_BY or m.decision not in DECISIONS]
    if wrong:
        raise UserError(f"{path}: {level_name(wrong[0].level)}: set_by is one of {SET_BY}, decision of {DECISIONS}")
    return marks


def _mark(row: dict[str, object]) -> VertebraMark:
    values = dict(row)
    number = level_number(str(values.pop("level")))
    return VertebraMark(number, _place(values.pop("centroid_mm")), **values)  # type: ignore[arg-type]


def _place(row: object) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in row)  # type: ignore[attr-defined]
    if not np.isfinite([x, y, z]).all():
        raise ValueError("a centroid is not finite")
    return x, y, z
