"""``report.html``: one page to print, with everything in it."""

from __future__ import annotations

import base64
import io
from datetime import datetime
from html import escape
from typing import Any

from PIL import Image

from scripts.films.film import ScaleKind
from scripts.films.options import VIEWS
from scripts.measure.angles import whole_degrees
from scripts.measure.status import Use
from scripts.render.preview import Panels
from scripts.render.report_tables import asked_for

# Who set marks: which of them are named one by one.
NAMED = ("by hand", "interpolated")


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
        made=escape(_made(report)),
        who=escape(_who(report)),
        levels=escape(report["levels"][0].upper() + report["levels"][1:]),
        lengths=_lengths(report["lengths"]),
        summary=_summary(report["measurements"]),
        figures=figures,
        heads=heads,
        rows=rows,
        warnings=f"<h2>Check</h2><ul>{warnings}</ul>" if warnings else "",
        versions=versions,
    )


def _made(report: dict[str, Any]) -> str:
    """When and with what the report was made."""
    when = datetime.fromisoformat(report["made"])
    offset = when.strftime("%z")
    digest = report["weights_sha256"][:16] or "unknown"
    return (
        f"Made {when:%Y-%m-%d %H:%M} UTC{offset[:3]}:{offset[3:]} by version {report['versions']['bundle']}, "
        f"weights {report['weights']} (SHA-256 {digest})"
    )


def _who(report: dict[str, Any]) -> str:
    """Who set marks, levels and end vertebrae, and where the scale comes from."""
    marks: dict[str, list[str]] = {}
    for row in report["vertebrae"]:
        for view, by in row["marks_set_by"].items():
            marks.setdefault(by, []).append(f"{row['level']} {view.upper()}")
    # Those that a person set, or that nobody saw, are named.
    named = [f"{len(which)} {by}" + (f" ({', '.join(which)})" if by in NAMED else "") for by, which in marks.items()]
    spine = report["measurements"]
    ends = [angle for measure in ("cobb", "kyphosis", "lordosis") for angle in spine[measure]]
    own = [f"{a['upper_end']}-{a['lower_end']}" for a in ends if a["end_vertebrae_chosen_by"] == "user"]
    by = f"{', '.join(own)} chosen by the user, others by the program" if own else "chosen by the program"
    scale = [f"{view.upper()}: {film['scale_from']}" for view, film in report["films"].items()]
    return f"Marks: {', '.join(named)}. End vertebrae: {by}. Pixel size: {'; '.join(scale)}."


def _lengths(said: str) -> str:
    """How far lengths can be trusted, where there is more to say than that they can."""
    return "" if said == ScaleKind.CALIBRATED.value else f" <b>Lengths, every mm: {escape(said)}.</b>"


def _summary(spine: dict[str, Any]) -> str:
    parts = [
        _ends("Cobb", c) + (f", convex to the {c['convex_to']}, apex {c['apex']}" if c["apex"] else "")
        for c in spine["cobb"]
    ] or [spine["no_cobb"].replace("°", "&deg;")]
    if spine["midline_bend"] is not None:
        bend = spine["midline_bend"]
        parts.append(f"line through the bodies {_text(bend)} {bend['upper_end']}&ndash;{bend['lower_end']}")
    for name in ("kyphosis", "lordosis"):
        parts += [_ends(name, angle) for angle in asked_for(spine[name])]
    if spine["without"]:
        parts.append(f"<b>without {', '.join(spine['without'])}: do not use</b>")
    return "; ".join(parts)


def _ends(name: str, angle: dict[str, Any]) -> str:
    """An angle with its end vertebrae and who chose them."""
    size = _text(angle) or f"withheld ({escape(angle.get('withheld', 'it has no finite value'))})"
    by = ", end vertebrae by the user" if angle["end_vertebrae_chosen_by"] == "user" else ""
    return f"{name} {size} {angle['upper_end']}&ndash;{angle['lower_end']}{by}"


_HEADS = (
    "level", "confidence", "residual mm", "tilt frontal", "tilt sagittal", "rotation", "wedge", "heights mm a/m/p",
    "a/p", "m/p", "p/p&prime;", "width mm", "depth mm", "mm from marks AP/LAT", "use",
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
    cells.append("/".join(_number(films[name]["mark_mm"], 1) for name in VIEWS) if films else "")
    cells.append(row["use"])
    kind = {Use.GOOD: "", Use.CHECK: ' class="flag"', Use.NOT: ' class="not"'}[Use(row["use"])]
    return f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _text(angle: dict[str, float | None]) -> str:
    if angle["degrees"] is None or angle["sd"] is None:
        return ""
    # No angle is known to less than a degree on this page.
    return f"{whole_degrees(angle['degrees'])}&deg;&plusmn;{max(angle['sd'], 1):.0f}"


def _embedded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


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
<h1>{case}</h1><p>{made}. <b>{levels}.</b> {who}</p><p>{summary}.{lengths}</p>
<div class="films">{figures}</div>
<table><tr>{heads}</tr>{rows}</table>
{warnings}
<footer>Angles in degrees with one standard deviation, at least 1. Tilt: + to the patient's left, + forwards;
rotation: + front to the left; wedge: + front lower (in the tables, frontal wedge and disc: + lower, or open, on the
patient's left); a, m, p: heights in front, in the middle, behind; p&prime;: the neighbours'. {versions}.
Research software: not for diagnosis.</footer>
</body></html>
"""
