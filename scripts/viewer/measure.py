"""Angles and sizes of the vertebrae that have been reconstructed, as the page shows them: the report's own values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.levels import level_name
from scripts.measure.morphometry import Angle, SpineMeasures
from scripts.measure.review import review
from scripts.render.report import vertebra_row
from scripts.viewer.case import reconstruction_of

NOTE = "± one standard deviation. Angles are measured on the reconstruction; see docs/measurements.md."


def measure(folder: Path, levels: list[str]) -> dict[str, Any]:
    """All measurements of some levels.

    Args:
        folder: of the case.
        levels: names of reconstructed vertebrae.

    Returns:
        ``curves`` of ``name`` and ``text``, ``vertebrae`` as rows of texts with ``confidence`` and ``flags``, and a
        ``note`` about them.
    """
    case, result = reconstruction_of(folder, levels)
    checked = review(case.films, result)
    rows = [_row(vertebra_row(part, checked)) for part in result.parts]
    contradiction = checked.measures.contradiction
    note = f"Careful: {contradiction}. {NOTE}" if contradiction else NOTE
    return {"curves": curves_of(checked.measures), "vertebrae": rows, "note": note}


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
    reasons = [row["not_measured"]] if "not_measured" in row else row["withheld"].values()
    return {
        "level": row["level"],
        "confidence": row["confidence"],
        "flags": row["flags"],
        "rotation": _text(measured.get("axial_rotation")),
        "wedge": _text(measured.get("wedge_sagittal")),
        "heights_mm": "/".join(f"{h:.0f}" for h in heights) if heights else "",
        "missing": "; ".join(dict.fromkeys(reasons)),
    }


def _text(angle: dict[str, float] | None) -> str:
    return "" if angle is None else f"{angle['degrees']:.1f}° ± {angle['sd']:.1f}"
