"""The report as two tables: ``vertebrae.csv`` with a row for each vertebra, ``spine.csv`` with one for each angle.

Both are made from the content of ``report.json``, so that neither says anything else, and nothing is left out: whatever
the report says of a vertebra becomes a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.io.tables import write_csv
from scripts.measure.spine_angles import NOT_RECONSTRUCTED

VERTEBRAE_FILE, SPINE_FILE = "vertebrae.csv", "spine.csv"
_HEIGHTS = ("heights_front_mm", "heights_middle_mm", "heights_back_mm")
_ANGLES = ("tilt_frontal", "tilt_sagittal", "axial_rotation", "wedge_frontal", "wedge_sagittal")
# What the whole report says and every row repeats, so that a row can stand alone.
_WHOLE = ("levels", "levels_confirmed", "levels_uncertain", "made", "weights", "weights_sha256", "lengths")
SPINE_COLUMNS = (
    "measure", "upper_end", "lower_end", "degrees", "sd", "end_vertebrae_chosen_by", "apex", "convex_to",
    "withheld", "without", "levels", "made",
)  # fmt: skip


def write_tables(folder: Path, report: dict[str, Any]) -> None:
    """Write both tables.

    Args:
        folder: that they go to.
        report: content of ``report.json``.
    """
    rows = vertebra_rows(report)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(folder / VERTEBRAE_FILE, columns, ([row.get(key, "") for key in columns] for row in rows))
    spine = spine_rows(report)
    write_csv(folder / SPINE_FILE, SPINE_COLUMNS, ([row.get(key, "") for key in SPINE_COLUMNS] for row in spine))


def vertebra_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a vertebra, column -> cell.

    Args:
        report: content of ``report.json``.
    """
    whole = {key: report[key] for key in _WHOLE}
    return [dict(_flat("", row)) | whole for row in report["vertebrae"]]


def asked_for(angles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are measured, that the user chose or whose end vertebrae are withheld.

    What the program would measure, had it the vertebrae, is not asked for.
    """
    return [
        angle
        for angle in angles
        if angle["end_vertebrae_chosen_by"] == "user" or NOT_RECONSTRUCTED not in angle.get("withheld", "")
    ]


def spine_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row an angle of the spine, column -> cell; what the program cannot measure has no row.

    Args:
        report: content of ``report.json``.
    """
    spine = report["measurements"]
    rows = [{"measure": "Cobb", **angle} for angle in spine["cobb"]]
    for measure in ("kyphosis", "lordosis"):
        rows += [{"measure": measure, **angle} for angle in asked_for(spine[measure])]
    if spine["midline_bend"] is not None:
        rows.append(
            {"measure": "line through the bodies", "end_vertebrae_chosen_by": "program", **spine["midline_bend"]}
        )
    for disc in spine["discs"]:
        upper, lower = disc["between"].split("-")
        for plane in ("frontal", "sagittal"):
            rows.append({"measure": f"disc, {plane}", "upper_end": upper, "lower_end": lower, **disc[plane]})
    whole = {"without": "; ".join(spine["without"]), "levels": report["levels"], "made": report["made"]}
    return [{key: "" if value is None else value for key, value in row.items()} | whole for row in rows]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Columns and cells of a value of the report: what is nested is named by its path, without ``measurements``."""
    if name == "heights_mm":
        yield from zip(_HEIGHTS, value or ("", "", ""), strict=True)
    elif name in _ANGLES:
        for key, column in (("degrees", f"{name}_deg"), ("sd", f"{name}_sd_deg")):
            yield column, value[key] if value else ""
    elif isinstance(value, dict) and name == "withheld":
        yield name, "; ".join(f"{what}: {why}" for what, why in value.items())
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat("_".join(part for part in (name, key) if part and part != "measurements"), inner)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield name, "; ".join(value)
    elif isinstance(value, list):
        for place, item in zip("xyz", value, strict=True):
            yield f"{name}_{place}", item
    else:
        yield name, "" if value is None else value
