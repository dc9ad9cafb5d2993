"""What ``report.json`` says, as plain values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from scripts.films.options import VIEWS
from scripts.io.documents import not_finite, without
from scripts.levels import level_name
from scripts.measure.angles import REPORTED_DIGITS, Angle
from scripts.measure.reprojection import Agreement
from scripts.measure.review import Review
from scripts.measure.spine_angles import SpineAngle
from scripts.measure.vertebrae import VertebraMeasures
from scripts.spine.assembly import ReconstructedVertebra


def vertebra_row(part: ReconstructedVertebra, review: Review) -> dict[str, Any]:
    """What ``report.json`` says about one vertebra."""
    vertebra, status = part.vertebra, review.statuses[part.level]
    measures = {m.level: m for m in review.measures.vertebrae}.get(part.level)
    row: dict[str, Any] = {
        "level": level_name(part.level),
        "centroid_mm": [round(v, 2) for v in vertebra.cube.body_centroid_mm],
        "residual_mm": round(vertebra.residual_mm, 2),
        "use": status.use.value,
        "reasons": list(status.reasons),
        "confidence": round(part.confidence, 4),
        "mark_confidence": vertebra.confidence,
        "shape_confidence": round(part.shape_confidence, 4),
        "contested": round(part.contested, 4),
        "flags": review.flags.get(part.level, []),
    }
    if part.level in review.agreements:
        both = zip(VIEWS, review.agreements[part.level], strict=True)
        row["reprojection"] = {name: _agreement(agreement) for name, agreement in both}
    if measures is None:
        row["not_measured"] = review.unmeasured[part.level]
    else:
        pose = review.poses[part.level]
        row["origin_mm"] = [round(float(v), 2) for v in pose.origin_mm]
        row["axes"] = {name: [round(float(v), 5) for v in axis] for name, axis in zip("xyz", pose.axes, strict=True)}
        row["measurements"] = _measures(measures)
        row["withheld"] = dict(measures.withheld)
    return row


def spine_row(checked: Review, angles: Sequence[SpineAngle]) -> dict[str, Any]:
    """What ``report.json`` says about the whole spine.

    Args:
        checked: the spine.
        angles: between the end vertebrae that the program or the user chose.
    """
    measures = checked.measures
    sagittal = {
        measure: [_spine_angle(angle) for angle in angles if angle.measure == measure]
        for measure in ("kyphosis", "lordosis")
    }
    return {
        "cobb": [
            {
                **_spine_angle(angle),
                "apex": level_name(angle.curve.apex) if angle.curve else None,
                "convex_to": angle.curve.convex_to if angle.curve else None,
            }
            for angle in angles
            if angle.measure == "cobb"
        ],
        "no_cobb": measures.no_curve or None,
        "without": [level_name(number) for number in checked.doubted],
        **sagittal,
        "midline_bend": None
        if measures.midline is None
        else {
            **_angle(measures.midline[0]),
            "upper_end": level_name(measures.midline[1]),
            "lower_end": level_name(measures.midline[2]),
        },
        "kyphosis_T4_T12": None if measures.kyphosis is None else _angle(measures.kyphosis),
        "lordosis_L1_L5": None if measures.lordosis is None else _angle(measures.lordosis),
        "discs": [
            {
                "between": f"{level_name(upper)}-{level_name(lower)}",
                "frontal": _angle(both[0]),
                "sagittal": _angle(both[1]),
            }
            for upper, lower, both in measures.discs
        ],
    }


def _spine_angle(angle: SpineAngle) -> dict[str, Any]:
    """An angle, its end vertebrae and who chose them; without an angle, why."""
    measured = {"degrees": None, "sd": None, "withheld": angle.missing} if angle.angle is None else _angle(angle.angle)
    return {
        **measured,
        "upper_end": level_name(angle.upper),
        "lower_end": level_name(angle.lower),
        "end_vertebrae_chosen_by": angle.chosen_by.value,
    }


def withheld(report: dict[str, Any]) -> dict[str, Any]:
    """The report without numbers that are not finite: null stands for them, and a warning says which."""
    fields = not_finite(report)
    if not fields:
        return report
    lines = []
    for field in fields:
        place, name = re.match(r"\$\.(?:vertebrae\[(\d+)\]\.)?(.*)", field).groups()  # type: ignore[union-attr]
        where = f"{report['vertebrae'][int(place)]['level']}: " if place else ""
        lines.append(f"{where}{name} withheld: it has no finite value")
    report = without(report, fields)
    return {**report, "warnings": [*report["warnings"], *lines]}


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {
        "mark_mm": None if agreement.mark_mm is None else round(agreement.mark_mm, 2),
        "outside_film": round(agreement.outside, 3),
    }


def _measures(m: VertebraMeasures) -> dict[str, Any]:
    return {
        "tilt_frontal": _angle(m.tilt[0]) if m.tilt else None,
        "tilt_sagittal": _angle(m.tilt[1]) if m.tilt else None,
        "axial_rotation": _angle(m.axial_rotation) if m.axial_rotation else None,
        "wedge_frontal": _angle(m.wedge[0]) if m.wedge else None,
        "wedge_sagittal": _angle(m.wedge[1]) if m.wedge else None,
        "heights_mm": [round(h, 2) for h in m.heights_mm] if m.heights_mm else None,
        "width_mm": _rounded(m.width_mm, 2),
        "depth_mm": _rounded(m.depth_mm, 2),
        "anterior_ratio": _rounded(m.anterior_ratio),
        "middle_ratio": _rounded(m.middle_ratio),
        "posterior_ratio": _rounded(m.posterior_ratio),
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _angle(angle: Angle) -> dict[str, float]:
    return {"degrees": round(angle.degrees, REPORTED_DIGITS), "sd": round(angle.sd, REPORTED_DIGITS)}
