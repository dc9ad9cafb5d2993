"""The first picture of a reconstruction: both films with marks and outlines, and the spine in 3D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects

from scripts.drawing import (
    BACKGROUND,
    FAINT,
    TEXT,
    Point,
    film_grey,
    font,
    level_colour,
    name_plate,
    spread,
    vivid_colour,
)
from scripts.levels import in_order, level_name
from scripts.measure.plate_lines import FilmLines
from scripts.render.angle_lines import draw_lines
from scripts.render.surfaces import ANGLES, Surfaces, View, render_surfaces
from scripts.threads import map_in_threads

# Caption and the side of the patient that lies at the picture's left and right edge.
_CAPTIONS: dict[View, tuple[str, str, str]] = {
    "front": ("Front", "R", "L"),
    "left": ("Left", "A", "P"),
    "back": ("Back", "L", "R"),
    "right": ("Right", "P", "A"),
    "oblique": ("From behind, left", "", ""),
    "side": ("Side, 60\N{DEGREE SIGN}", "", ""),
    "top": ("From above", "R", "L"),
}
# As the paper's figure 9 shows them.
PREVIEW_VIEWS: tuple[View, ...] = ("side", "top")
# Outlines of one vertebra on one film: (N, 2) film pixels (row, column) each.
Outlines = Sequence[np.ndarray]
Panels = dict[tuple[str, str, str], Image.Image]

# Film shown around the marks in mm: above and below, towards the left and right edge in AP and in LAT.
_ROW_MARGIN, _AP_MARGIN, _LAT_MARGIN = 35.0, (70.0, 70.0), (60.0, 90.0)
_NAME_OFFSET_MM = 30.0
# Sizes in pixels; the gutter holds a name beside a picture, the line is the least distance of two names.
_GAP, _HEADER, _FOOTER, _GUTTER, _LINE = 30, 104, 62, 54, 23.0


def draw_panels(
    ap_film: np.ndarray,
    lat_film: np.ndarray,
    marks: dict[int, tuple[Point, Point]],
    spine: DrawnSpine,
    pixel_mm: tuple[Point, Point] = ((1.0, 1.0), (1.0, 1.0)),
    outlines: Mapping[int, tuple[Outlines, Outlines]] | None = None,
    flagged: frozenset[int] = frozenset(),
    views: tuple[View, ...] = PREVIEW_VIEWS,
    height_px: int = 1000,
    lines: tuple[FilmLines, FilmLines] | None = None,
) -> tuple[Panels, list[int], float]:
    """Both films and the spine from some sides, all at one scale.

    Heights are brought together by the marks, so that a vertebra lies on one line in all of them as far as the films'
    magnification allows.

    Args:
        ap_film: (rows I, columns L) float, bones bright.
        lat_film: (rows I, columns P) float, bones bright.
        marks: VerSe number -> (row, column) of the centroid in the AP and in the LAT film, in pixels.
        spine: surfaces of the vertebrae, as `drawn_spine` makes them.
        pixel_mm: (row, column) size of a pixel in the AP and in the LAT film; need not be square.
        outlines: VerSe number -> outlines of the reconstruction on the AP and on the LAT film.
        flagged: vertebrae to warn of; their names get an exclamation mark.
        views: sides to show the spine from.
        height_px: of the pictures, about; short spines are drawn smaller.
        lines: endplates and angles on the AP and on the LAT film.

    Returns:
        pictures by (caption, left end, right end), the levels shown from head to foot, and pixels a mm.

    Raises:
        UserError: a label or a mark is not a vertebra.
    """
    surfaces, bodies, size_mm = spine.surfaces, spine.bodies, spine.size_mm
    sizes = np.array(pixel_mm)
    ap = {n: (np.array(marks[n][0]) + 0.5) * sizes[0] for n in _checked(marks)}
    lat = {n: (np.array(marks[n][1]) + 0.5) * sizes[1] for n in ap}
    # The picture's heights are those of the AP film in mm; LAT film and labelmap are moved to meet them.
    lat_shift = float(np.median([ap[n][0] - lat[n][0] for n in ap])) if ap else 0.0
    shared = [n for n in ap if n in bodies]
    spine_shift = float(np.median([ap[n][0] - bodies[n][0] for n in shared])) if shared else 0.0
    heights = [float(row) + margin for row, _ in ap.values() for margin in (-_ROW_MARGIN, _ROW_MARGIN)]
    film_mm = [ap_film.shape[0] * float(sizes[0, 0]), lat_film.shape[0] * float(sizes[1, 0])]
    heights = [min(max(mm, 0.0), max(film_mm)) for mm in heights] or [0.0, *film_mm]
    heights += [spine_shift - 4, spine_shift + float(size_mm[0]) + 4] if bodies else []
    window = (min(heights), max(heights))
    scale = float(np.clip(height_px / (window[1] - window[0]), 0.0015 * height_px, 4.0))

    panels: Panels = {}
    for which, (caption, film, points, shift, margins, side) in enumerate(
        (
            (("AP radiograph", "R", "L"), ap_film, ap, 0.0, _AP_MARGIN, 1),
            (("Lateral radiograph", "A", "P"), lat_film, lat, lat_shift, _LAT_MARGIN, -1),
        )
    ):
        mm = sizes[which]
        shown = {n: [(line + 0.5) * mm for line in both[which]] for n, both in (outlines or {}).items()}
        drawn = lines[which] if lines else None
        panels[caption] = _film_panel(film, mm, points, shift, window, scale, margins, side, shown, flagged, drawn)
    shown_views = views if bodies else ()
    images = map_in_threads(lambda view: render_surfaces(surfaces, size_mm, ANGLES[view], scale), shown_views)
    for view, (image, number) in zip(shown_views, images, strict=True):
        panels[_CAPTIONS[view]] = _spine_panel(image, number, bodies, spine_shift, window, scale, view, flagged)
    return panels, in_order(list({*ap, *bodies})), scale


def _checked(marks: dict[int, tuple[Point, Point]]) -> list[int]:
    """Levels of the marks from head to foot; raises where one is not a vertebra."""
    return in_order([n for n in marks if level_name(n)])


@dataclass(frozen=True)
class DrawnSpine:
    """What is drawn of a labelmap, lengths in mm from the corner of its labelled box.

    Args:
        surfaces: of every vertebra.
        bodies: VerSe number -> (I, P, L) of the vertebral body.
        size_mm: (3,) of the box.
    """

    surfaces: Surfaces
    bodies: dict[int, np.ndarray]
    size_mm: np.ndarray


def drawn_spine(labelmap: np.ndarray, voxel_mm: float, surfaces: Surfaces) -> DrawnSpine:
    """What is drawn of a labelmap: made once, drawn from many sides.

    Args:
        labelmap: (I, P, L) uint8 of VerSe numbers, on any grid of cubic voxels.
        voxel_mm: edge of a voxel in mm.
        surfaces: of its vertebrae, in mm from its outer corner.
    """
    boxes = find_objects((labelmap > 0).view(np.uint8))
    if not boxes:
        return DrawnSpine({}, {}, np.zeros(3))
    margin = 3
    crop = np.pad(labelmap[boxes[0]], margin)
    bodies = {}
    for number, box in enumerate(find_objects(crop), start=1):
        if box is not None:
            voxels = np.argwhere(crop[box] == number)
            front = voxels[voxels[:, 1] < voxels[:, 1].min() + 20 / voxel_mm]
            bodies[number] = (front.mean(axis=0) + [s.start + 0.5 for s in box]) * voxel_mm
    corner_mm = np.array([s.start - margin for s in boxes[0]]) * voxel_mm
    surfaces = {n: (vertices - corner_mm, normals, faces) for n, (vertices, normals, faces) in surfaces.items()}
    return DrawnSpine(surfaces, {n: bodies[n] for n in in_order(list(bodies))}, np.array(crop.shape) * voxel_mm)


def _film_panel(
    film: np.ndarray,
    pixel_mm: np.ndarray,
    marks: dict[int, np.ndarray],
    shift: float,
    window: tuple[float, float],
    scale: float,
    margins: Point,
    side: int,
    outlines: Mapping[int, Outlines],
    flagged: frozenset[int],
    drawn: FilmLines | None,
) -> Image.Image:
    """Part of a film around the marks ((row, column) in mm), bones bright, with outlines, rings, leaders and names."""
    rows_mm, columns_mm = (float(size) for size in film.shape * pixel_mm)
    columns = [float(p[1]) for p in marks.values()]
    left = min(max(min(columns) - margins[0], 0), columns_mm - pixel_mm[1]) if columns else 0.0
    right = max(min(max(columns) + margins[1], columns_mm), left + pixel_mm[1]) if columns else columns_mm
    top, bottom = max(window[0] - shift, 0.0), min(window[1] - shift, rows_mm)
    panel = Image.new("RGB", (round((right - left) * scale), round((window[1] - window[0]) * scale)), BACKGROUND)
    if bottom - top > pixel_mm[0]:
        box = np.array([left, top, right, bottom]) / np.tile(pixel_mm[::-1], 2)
        first, last = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        part = film[first[1] : last[1], first[0] : last[0]]
        size = (panel.width, max(1, round((bottom - top) * scale)))
        inner = np.clip(box - np.tile(first, 2), 0, np.tile(part.shape[::-1], 2)).tolist()
        shown = film_grey(part).resize(size, Image.Resampling.BICUBIC, box=tuple(inner))
        panel.paste(shown, (0, round((top + shift - window[0]) * scale)))
    origin = np.array([window[0] - shift, left])
    _draw_outlines(panel, {n: [(line - origin) * scale for line in lines] for n, lines in outlines.items()})
    draw = ImageDraw.Draw(panel)
    if drawn:
        draw_lines(draw, drawn, lambda pixels: ((pixels + 0.5) * pixel_mm - origin)[..., ::-1] * scale, panel.size)
    beside = spread([float(p[0] + shift - window[0]) * scale for p in marks.values()], _LINE)
    for (number, (row, column)), name_y in zip(marks.items(), beside, strict=True):
        x, y = (column - left) * scale, (row + shift - window[0]) * scale
        end = min(max(x + side * _NAME_OFFSET_MM * scale, _GUTTER), panel.width - _GUTTER)
        for colour, thickness in ((BACKGROUND, 4), (level_colour(number), 2)):
            draw.line([(x, y), (end, name_y)], fill=colour, width=thickness)
        name_plate(draw, (end, name_y), _name(number, flagged), level_colour(number), side)
        ring = _ring(level_colour(number))
        panel.paste(ring, (round(x) - ring.width // 2, round(y) - ring.height // 2), ring)
    return panel


def _draw_outlines(panel: Image.Image, outlines: Mapping[int, Outlines]) -> None:
    """Closed lines (row, column) in pixels, one colour a level; drawn large and shrunk, for smooth edges."""
    fine = 2
    layer = Image.new("RGBA", (panel.width * fine, panel.height * fine), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for number, lines in outlines.items():
        for line in lines:
            points = [(float(x) * fine, float(y) * fine) for y, x in line]
            draw.line([*points, points[0]], fill=(*vivid_colour(number), 230), width=3, joint="curve")
    small = layer.resize(panel.size, Image.Resampling.BOX)
    panel.paste(small, (0, 0), small)


def _name(number: int, flagged: frozenset[int]) -> str:
    return level_name(number) + (" !" if number in flagged else "")


def _spine_panel(
    image: np.ndarray,
    number: np.ndarray,
    bodies: dict[int, np.ndarray],
    shift: float,
    window: tuple[float, float],
    scale: float,
    view: View,
    flagged: frozenset[int],
) -> Image.Image:
    """A 3D picture at its height, each name beside its vertebral body just outside the silhouette."""
    if view == "top":
        high = max(round((window[1] - window[0]) * scale), image.shape[0])
        panel = Image.new("RGB", (image.shape[1], high), BACKGROUND)
        panel.paste(Image.fromarray(image), (0, round((shift - window[0]) * scale)))
        return panel
    side = 1 if view in ("front", "back", "right", "side") else -1
    panel = Image.new("RGB", (image.shape[1] + _GUTTER, round((window[1] - window[0]) * scale)), BACKGROUND)
    left, top = (0 if side > 0 else _GUTTER), round((shift - window[0]) * scale)
    panel.paste(Image.fromarray(image), (left, top))
    draw = ImageDraw.Draw(panel)
    for level, height in zip(bodies, spread([float(body[0]) * scale for body in bodies.values()], _LINE), strict=True):
        row = round(height)
        filled = np.flatnonzero((number[max(row - 9, 0) : row + 10] > 0).any(axis=0))
        edge = filled[-1 if side > 0 else 0] if filled.size else image.shape[1] // 2
        name_plate(draw, (left + float(edge) + side * 4, top + row), _name(level, flagged), level_colour(level), side)
    return panel


def compose(panels: Panels, title: str, levels: list[int], scale: float, flagged: frozenset[int]) -> Image.Image:
    """All panels in a row under a headline, captions above, a scale bar below.

    Args:
        panels: pictures by (caption, left end, right end).
        title: headline.
        levels: shown, head to foot.
        scale: pixels a mm.
        flagged: vertebrae to warn of.
    """
    height = max(panel.height for panel in panels.values())
    width = sum(p.width for p in panels.values()) + _GAP * (len(panels) + 1)
    sheet = Image.new("RGB", (max(width, 640), _HEADER + height + _FOOTER), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 20), title, fill=TEXT, font=font(28))
    summary = " to ".join(level_name(n) for n in sorted({*levels[:1], *levels[-1:]}, key=levels.index))
    summary += f", {len(levels)} vertebrae" if len(levels) > 1 else ""
    draw.text((sheet.width - _GAP, 28), summary, fill=FAINT, font=font(18), anchor="ra")
    x = _GAP
    for (caption, left, right), panel in panels.items():
        sheet.paste(panel, (x, _HEADER))
        middle = _HEADER - 22
        draw.text((x + panel.width / 2, middle), caption, fill=TEXT, font=font(18), anchor="mm")
        draw.text((x, middle), left, fill=FAINT, font=font(18), anchor="lm")
        draw.text((x + panel.width, middle), right, fill=FAINT, font=font(18), anchor="rm")
        x += panel.width + _GAP
    y = sheet.height - _FOOTER // 2
    draw.line([(_GAP, y), (_GAP + 50 * scale, y)], fill=TEXT, width=3)
    for end in (_GAP, _GAP + 50 * scale):
        draw.line([(end, y - 6), (end, y + 6)], fill=TEXT, width=2)
    note = "50 mm, one scale for all pictures. Not for diagnosis."
    if flagged:
        note += f" ! Check {', '.join(level_name(n) for n in in_order(list(flagged)))}: see the report."
    draw.text((_GAP + 50 * scale + 14, y), note, fill=FAINT, font=font(18), anchor="lm")
    return sheet


@cache
def _ring(colour: tuple[int, int, int]) -> Image.Image:
    """Small ring with a point in it, drawn large and shrunk because PIL's circles have jagged edges."""
    ring = Image.new("RGBA", (136, 136), (*BACKGROUND, 0))
    draw = ImageDraw.Draw(ring)
    draw.ellipse((6, 6, 129, 129), outline=(*BACKGROUND, 255), width=36)
    draw.ellipse((16, 16, 119, 119), outline=(*colour, 255), width=16)
    draw.ellipse((54, 54, 81, 81), fill=(*colour, 255))
    return ring.resize((17, 17), Image.Resampling.LANCZOS)
