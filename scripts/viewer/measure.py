"""Angles and sizes of the vertebrae that have been reconstructed, as the page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.levels import level_name
from scripts.spine.assembly import Part
from scripts.spine.body import NoBodyError
from scripts.spine.morphometry import Angle, SpineMeasures, measure_spine
from scripts.spine.pose import VertebraPose, estimate_pose
from scripts.viewer.case import reconstruction_of

NOTE = "± one standard deviation. Angles are measured on the reconstruction; see docs/measurements.md."
# A vertebra that did not change keeps its `Part`, and so its pose.
_POSES: dict[int, tuple[Part, VertebraPose | None]] = {}


def measure(folder: Path, levels: list[str]) -> dict[str, Any]:
    """All measurements of some levels.

    Returns:
        ``curves`` of ``name`` and ``text``, ``vertebrae`` as a table, and a ``note`` about them.
    """
    _, result = reconstruction_of(folder, levels)
    poses = [pose for part in result.parts if part.found and (pose := _pose(part)) is not None]
    measures = measure_spine(poses)
    note = f"Careful: {measures.contradiction}. {NOTE}" if measures.contradiction else NOTE
    return {"curves": curves_of(measures), "vertebrae": vertebrae_of(measures), "note": note}


def curves_of(measures: SpineMeasures) -> list[dict[str, str]]:
    """The angles of the whole spine, ``name`` and ``text`` each."""
    rows = []

    def add(name: str, text: str) -> None:
        rows.append({"name": name, "text": text})

    for curve in measures.curves:
        ends = f"{level_name(curve.upper)}-{level_name(curve.lower)}"
        add(f"Cobb {ends}, apex {level_name(curve.apex)}, convex {curve.convex_to}", _angle(curve.cobb))
    if measures.midline is not None:
        angle, upper, lower = measures.midline
        add(f"Line of bodies {level_name(upper)}-{level_name(lower)}", _angle(angle))
    if measures.kyphosis is not None:
        add("Kyphosis T4-T12", _angle(measures.kyphosis))
    if measures.lordosis is not None:
        add("Lordosis L1-L5", _angle(measures.lordosis))
    return rows


def vertebrae_of(measures: SpineMeasures) -> list[dict[str, str]]:
    """A row a vertebra; what could not be measured is empty."""
    return [
        {
            "level": level_name(vertebra.level),
            "rotation": _angle(vertebra.axial_rotation),
            "wedge": "" if vertebra.wedge is None else _angle(vertebra.wedge[1]),
            "heights_mm": "" if vertebra.heights_mm is None else "/".join(f"{h:.0f}" for h in vertebra.heights_mm),
        }
        for vertebra in measures.vertebrae
    ]


def _angle(angle: Angle) -> str:
    return f"{angle.degrees:.1f}° ± {angle.sd:.1f}"


def _pose(part: Part) -> VertebraPose | None:
    known = _POSES.get(part.level)
    if known is None or known[0] is not part:
        grid = part.vertebra.cube.grid
        centroid = np.asarray(part.vertebra.cube.body_centroid_mm)
        try:
            pose = estimate_pose(part.level, part.probability, grid.affine, centroid)
        except NoBodyError:
            pose = None
        known = _POSES[part.level] = (part, pose)
    return known[1]
