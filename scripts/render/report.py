"""``report.json`` as plain values, and ``report.html``: one page to print, with everything in it."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import Any

from PIL import Image

from scripts.io.documents import not_finite, without
from scripts.levels import level_name
from scripts.measure.angles import Angle
from scripts.measure.morphometry import SpineMeasures, VertebraMeasures
from scripts.measure.reprojection import VIEWS, Agreement
from scripts.measure.review import Review
from scripts.measure.status import Use
from scripts.render.preview import Panels
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


def spine_row(measures: SpineMeasures) -> dict[str, Any]:
    """What ``report.json`` says about the whole spine."""
    return {
        "cobb": [
            {
                **_angle(curve.cobb),
                "upper_end": level_name(curve.upper),
                "lower_end": level_name(curve.lower),
                "apex": level_name(curve.apex),
                "convex_to": curve.convex_to,
            }
            for curve in measures.curves
        ],
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
                "frontal": _angle(angles[0]),
                "sagittal": _angle(angles[1]),
            }
            for upper, lower, angles in measures.discs
        ],
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


def report_page(report: dict[str, Any], panels: Panels) -> str:
    """The page; it loads nothing.

    Args:
        report: content of ``report.json``.
        panels: pictures, see `scripts.render.preview.draw_panels`.
    """
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="{_embedded(image)}"><figcaption>{escape(left)} '
        f"<b>{escape(caption)}</b> {escape(right)}</figcaption></figure>"
        for (caption, left, right), image in panels.items()
    )
    rows = "".join(_table_row(row) for row in report["vertebrae"])
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    reasons = [f"{row['level']}: {reason}" for row in report["vertebrae"] for reason in row["reasons"]]
    lines = dict.fromkeys([*report["warnings"], *reasons])
    warnings = "".join(f"<li>{escape(text)}</li>" for text in lines)
    versions = ", ".join(f"{escape(name)} {escape(str(value))}" for name, value in report["versions"].items())
    return _PAGE.format(
        case=escape(report["case"] or "Reconstruction"),
        levels=_levels(report),
        lengths=_lengths(report["films"]),
        summary=_summary(report["measurements"]),
        figures=figures,
        heads=heads,
        rows=rows,
        warnings=f"<h2>Check</h2><ul>{warnings}</ul>" if warnings else "",
        versions=versions,
        weights=escape(report["weights"]),
    )


def _levels(report: dict[str, Any]) -> str:
    """How far the levels can be trusted, in a sentence; nothing if neither a person nor the detector said."""
    if report["levels_uncertain"]:
        return "<b>Levels are uncertain by one.</b> "
    return "Levels confirmed by a person. " if report["levels_confirmed"] else ""


def _lengths(films: dict[str, Any]) -> str:
    """That lengths are estimates, for films without a scale of their own."""
    sd = max(film["scale_sd_percent"] for film in films.values())
    return f" <b>Films not calibrated: every mm is an estimate, &plusmn; {sd:.0f} %.</b>" if sd else ""


def _summary(spine: dict[str, Any]) -> str:
    parts = [
        f"Cobb {_text(c)} {c['upper_end']}&ndash;{c['lower_end']}, convex to the {c['convex_to']}, apex {c['apex']}"
        for c in spine["cobb"]
    ] or ["no curve of 5&deg; in the frontal plane"]
    if spine["midline_bend"] is not None:
        bend = spine["midline_bend"]
        parts.append(f"line through the bodies {_text(bend)} {bend['upper_end']}&ndash;{bend['lower_end']}")
    for name, key in (("kyphosis T4&ndash;T12", "kyphosis_T4_T12"), ("lordosis L1&ndash;L5", "lordosis_L1_L5")):
        if spine[key] is not None:
            parts.append(f"{name} {_text(spine[key])}")
    return "; ".join(parts)


_HEADS = (
    "level", "confidence", "residual mm", "tilt frontal", "tilt sagittal", "rotation", "wedge", "heights mm a/m/p",
    "a/p", "m/p", "p/p&prime;", "width mm", "depth mm", "film r AP/LAT", "use",
)  # fmt: skip


def _table_row(row: dict[str, Any]) -> str:
    cells = [row["level"], _number(row["confidence"], 2), _number(row["residual_mm"], 1)]
    measures = row.get("measurements")
    if measures is None:
        cells += [f"<i>{escape(row['not_measured'])}</i>", *[""] * 9]
    else:
        wedge, heights = measures["wedge_sagittal"], measures["heights_mm"]
        angles = (measures["tilt_frontal"], measures["tilt_sagittal"], measures["axial_rotation"], wedge)
        cells += [_text(angle) if angle else "" for angle in angles]
        cells.append("/".join(_number(h, 0) for h in heights) if heights else "")
        ratios = (measures[key] for key in ("anterior_ratio", "middle_ratio", "posterior_ratio"))
        cells += [_number(ratio, 2) for ratio in ratios]
        cells += [_number(size, 0) for size in (measures["width_mm"], measures["depth_mm"])]
    films = row.get("reprojection")
    cells.append("/".join(_number(films[name]["correlation"], 2) for name in VIEWS) if films else "")
    cells.append(row["use"])
    kind = {Use.GOOD: "", Use.CHECK: ' class="flag"', Use.NOT: ' class="not"'}[Use(row["use"])]
    return f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _text(angle: dict[str, float | None]) -> str:
    if angle["degrees"] is None or angle["sd"] is None:
        return ""
    # Adding zero makes a rounded -0 a plain 0; no angle is known to less than a degree on this page.
    return f"{round(angle['degrees']) + 0}&deg;&plusmn;{max(angle['sd'], 1):.0f}"


def _embedded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {
        "correlation": round(agreement.correlation, 3),
        "offset_mm": list(agreement.offset_mm),
        "gain": round(agreement.gain, 3),
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
    return {"degrees": round(angle.degrees, 2), "sd": round(angle.sd, 2)}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{case}</title><style>
@page {{ size: A4 landscape; margin: 8mm }}
body {{ font: 11px/1.25 system-ui, sans-serif; margin: 10px auto; max-width: 1080px; color: #111 }}
h1 {{ font-size: 16px; margin: 0 }} h2 {{ font-size: 11px; margin: 4px 0 0 }} p {{ margin: 2px 0 }}
.films {{ display: flex; gap: 4px; align-items: flex-end; justify-content: center; background: #0c0e12; padding: 4px }}
figure {{ margin: 0; text-align: center }} img {{ height: 265px; max-width: 100%; display: block }}
figcaption {{ color: #e8eaee; font-size: 9px }}
table {{ border-collapse: collapse; width: 100%; margin-top: 4px; font-size: 8.6px;
  font-variant-numeric: tabular-nums }}
th {{ text-align: right; font-weight: 600; border-bottom: 1px solid #444 }}
td {{ text-align: right; border-bottom: 1px solid #ddd; padding: 0 3px; line-height: 1.2; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left; font-weight: 600 }} .flag td {{ background: #fff1d0 }}
.not td {{ background: #ffd5cc }}
ul {{ margin: 0; padding-left: 16px; columns: 2 }} footer {{ color: #555; font-size: 8px; margin-top: 3px }}
* {{ print-color-adjust: exact; -webkit-print-color-adjust: exact }}
</style></head><body>
<h1>{case}</h1><p>{levels}{summary}.{lengths}</p>
<div class="films">{figures}</div>
<table><tr>{heads}</tr>{rows}</table>
{warnings}
<footer>Angles in degrees with one standard deviation, at least 1. Tilt: + to the patient's left, + forwards;
rotation: + front to the left; wedge: + front lower; a, m, p: heights in front, in the middle, behind; p&prime;: the
neighbours'. Weights {weights}; {versions}. Research software: not for diagnosis.</footer>
</body></html>
"""
