"""Angles and sizes of the vertebrae that have been reconstructed, as the page shows them: the report's own values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.films.options import VIEWS
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.annotations import EndVertebrae
from scripts.levels import level_name
from scripts.measure.angles import Angle
from scripts.measure.plate_lines import angle_lines, film_lines, plate_lines
from scripts.measure.review import Review, review
from scripts.measure.spine_angles import NAMES
from scripts.measure.status import by_reason
from scripts.render.report import vertebra_row
from scripts.spine.reconstruction import Reconstruction
from scripts.viewer.case import reconstruction_of
from scripts.viewer.memory import OpenCase

MOST_REVIEWS = 4
NOTE = "± one standard deviation. Angles are measured on the reconstruction; see docs/measurements.md."


def measure(folder: Path, levels: list[str]) -> dict[str, Any]:
    """All measurements of some levels.

    Args:
        folder: of the case.
        levels: names of reconstructed vertebrae.

    Returns:
        ``curves`` (see `curves_of`); ``no_curve``, what to say without a Cobb angle; ``midline``, the bend of the
        line through the bodies as a text; ``plates``, the lines of each vertebra's endplates (see `_plates`);
        ``vertebrae`` as rows of texts with ``use``, ``reasons``, ``confidence`` and ``flags``; ``keys``, the
        fingerprints of what was measured; ``end_vertebrae`` that the user chose; and a ``note``.

    Raises:
        UserError: a level is outdated or was not reconstructed.
    """
    case, result, keys = reconstruction_of(folder, levels)
    checked = _reviewed(case, result, keys)
    chosen = case.marks.end_vertebrae
    rows = [_row(vertebra_row(part, checked)) for part in result.parts]
    contradiction = checked.measures.contradiction
    return {
        "curves": curves_of(checked, chosen, case.films.geometry),
        "no_curve": checked.measures.no_curve,
        "midline": _midline(checked),
        "plates": _plates(checked, case.films.geometry),
        "vertebrae": rows,
        "keys": keys,
        "end_vertebrae": [ends.to_json() for ends in chosen],
        "note": f"Careful: {contradiction}. {NOTE}" if contradiction else NOTE,
    }


def _reviewed(case: OpenCase, result: Reconstruction, keys: dict[str, str]) -> Review:
    """The review of these very vertebrae; the last ones are kept, so that other end vertebrae are measured at once."""
    signature = json.dumps(keys)
    if signature not in case.reviews:
        while len(case.reviews) >= MOST_REVIEWS:
            case.reviews.pop(next(iter(case.reviews)))
        case.reviews[signature] = review(case.films, result)
    return case.reviews[signature]


def curves_of(checked: Review, chosen: Sequence[EndVertebrae], geometry: BiplanarGeometry) -> list[dict[str, Any]]:
    """The angles of the whole spine.

    Args:
        checked: the spine.
        chosen: end vertebrae that the user chose.
        geometry: of the films.

    Returns:
        of each ``measure``, ``upper``, ``lower``, ``chosen_by``, ``name`` and ``text`` (empty with why in ``missing``),
        what is ``drawn`` at its lines, and ``lines``: ``view`` that shows them, in ``pixels`` of it and in ``mm``; null
        without an angle.
    """
    angles = checked.angles(chosen)
    films = film_lines(checked.usable, angles, geometry)
    rows = []
    for angle in angles:
        mm = angle_lines(angle, checked.usable)
        about = ""
        if angle.curve is not None:
            about = f", apex {level_name(angle.curve.apex)}, convex {angle.curve.convex_to}"
        lines = None
        if mm is not None:
            pixels = films[angle.plane].angles[angle].tolist()
            lines = {"view": VIEWS[angle.plane], "pixels": pixels, "mm": mm.tolist()}
        rows.append(
            {
                "measure": angle.measure,
                "upper": level_name(angle.upper),
                "lower": level_name(angle.lower),
                "chosen_by": angle.chosen_by.value,
                "name": f"{NAMES[angle.measure]} {angle.ends}{about}",
                "text": _text(angle.angle),
                "missing": angle.missing,
                "drawn": angle.drawn,
                "lines": lines,
            }
        )
    return rows


def _midline(checked: Review) -> str:
    if checked.measures.midline is None:
        return ""
    angle, upper, lower = checked.measures.midline
    return f"{level_name(upper)}-{level_name(lower)}: {_text(angle)}"


def _plates(checked: Review, geometry: BiplanarGeometry) -> dict[str, dict[str, Any]]:
    """The endplates' lines by level: in pixels of ``ap`` and ``lat``, and all of them in ``mm``."""
    films = film_lines(checked.usable, (), geometry)
    return {
        level_name(number): {
            **{view: film.plates[number].tolist() for view, film in zip(VIEWS, films, strict=True)},
            "mm": plate_lines(pose).reshape(-1, 2, 3).tolist(),
        }
        for number, pose in checked.usable.items()
    }


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
        "rotation": _text(_angle(measured, "axial_rotation")),
        "wedge": _text(_angle(measured, "wedge_sagittal")),
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


def _angle(measured: dict[str, Any], name: str) -> Angle | None:
    found = measured.get(name)
    return Angle(found["degrees"], found["sd"]) if found else None


def _text(angle: Angle | None) -> str:
    """An angle and its standard deviation, which is never less than what is written of it."""
    return f"{round(angle.degrees, 1) + 0:.1f}° ± {max(angle.sd, 0.1):.1f}" if angle else ""
