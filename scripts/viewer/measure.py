"""Angles and sizes of the vertebrae that have been reconstructed, as the page shows them: the report's own values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.levels import level_name
from scripts.measure.angles import Angle
from scripts.measure.morphometry import SpineMeasures
from scripts.measure.review import review
from scripts.measure.status import by_reason
from scripts.render.report import vertebra_row
from scripts.viewer.case import reconstruction_of

NOTE = "± one standard deviation. Angles are measured on the reconstruction; see docs/measurements.md."


def measure(folder: Path, levels: list[str]) -> dict[str, Any]:
    """All measurements of some levels.

    Args:
        folder: of the case.
        levels: names of reconstructed vertebrae.

    Returns:
        ``curves`` of ``name`` and ``text``; ``vertebrae`` as rows of texts with ``use``, ``reasons``, ``confidence``
        and ``flags``; ``keys``, the fingerprints of what was measured; and a ``note``.

    Raises:
        UserError: a level is outdated or was not reconstructed.
    """
    case, result, keys = reconstruction_of(folder, levels)
    checked = review(case.films, result)
    rows = [_row(vertebra_row(part, checked)) for part in result.parts]
    contradiction = checked.measures.contradiction
    note = f"Careful: {contradiction}. {NOTE}" if contradiction else NOTE
    return {"curves": curves_of(checked.measures), "vertebrae": rows, "keys": keys, "note": note}


def curves_of(measures: SpineMeasures) -> list[dict[str, str]]:
    """The angles of the whole spine, ``name`` and ``text`` each."""
    rows = []

    def add(name: str, angle: Angle | None) -> None:
        if angle is not None:
            rows.append({"name": name, "text": _text({"degrees": angle.degrees, "sd": angle.sd})})

    for curve in measures.curves:
        ends = f"{level_name(curve.upper)}-{level_name(curve.lower)}"
        add(f"Cobb {ends}, apex {level_name(curve.apex)}, convex {curve.convex_to}", curve.cobb)
    if measures.midline is not None:
        angle, upper, lower = measures.midline
        add(f"Line of bodies {level_name(upper)}-{level_name(lower)}", angle)
    add("Kyphosis T4-T12", measures.kyphosis)
    add("Lordosis L1-L5", measures.lordosis)
    return rows


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the report as texts; what could not be measured is empty, and ``missing`` says why."""
    measured = row.get("measurements", {})
    heights = measured.get("heights_mm")
    return {
        "level": row["level"],
        "use": row["use"],
        "reasons": row["reasons"],
        "confidence": row["confidence"],
        "flags": row["flags"],
        "rotation": _text(measured.get("axial_rotation")),
        "wedge": _text(measured.get("wedge_sagittal")),
        "heights_mm": "/".join(f"{h:.0f}" for h in heights) if heights else "",
        "missing": _missing(row),
    }


def _missing(row: dict[str, Any]) -> str:
    """Why some of the values shown are not there."""
    if "not_measured" in row:
        return f"not measured: {row['not_measured']}"
    names = {"axial_rotation": "rotation", "wedge": "wedge", "heights": "heights"}
    shown = {name: row["withheld"][key] for key, name in names.items() if key in row["withheld"]}
    lines = [f"{what} withheld: {why}" for what, why in by_reason(shown)]
    if not lines and row["measurements"]["heights_mm"] is None:
        lines.append("wedge and heights not measured: it has one endplate")
    return "; ".join(lines)


def _text(angle: dict[str, float] | None) -> str:
    """An angle and its standard deviation, which is never less than what is written of it."""
    if angle is None:
        return ""
    return f"{round(angle['degrees'], 1) + 0:.1f}° ± {max(angle['sd'], 0.1):.1f}"
