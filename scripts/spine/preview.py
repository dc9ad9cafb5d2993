"""The first picture of a reconstruction: both films with the marks, and the spine in 3D from four sides.

The surfaces are drawn by a z-buffer in numpy: it needs no display, GPU or OpenGL.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import find_objects, gaussian_filter

from scripts.levels import in_order, level_name
from scripts.spine.mesh import display_mesh, level_colour

View = Literal["front", "left", "back", "oblique"]
Point = tuple[float, float]
# VerSe number -> corners (F, 3, 3) and their normals (F, 3, 3), both in (I, P, L) mm.
_Surfaces = dict[int, tuple[np.ndarray, np.ndarray]]

# Degrees the viewer has walked around the patient, from in front towards the patient's left.
AZIMUTH: dict[View, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "oblique": 135.0}
# Caption and the side of the patient that lies at the picture's left and right edge.
_CAPTIONS: dict[View, tuple[str, str, str]] = {
    "front": ("Front", "R", "L"),
    "left": ("Left", "A", "P"),
    "back": ("Back", "L", "R"),
    "oblique": ("From behind, left", "", ""),
}
_BACKGROUND, _TEXT, _FAINT = (12, 14, 18), (232, 234, 238), (138, 145, 156)

_FINE = 2  # supersampling in each direction
# Towards the light in the viewer's frame (right, down, away): a key light from the upper left, a weak one against it.
_LIGHTS = (((-0.50, -0.62, -0.61), 0.80), ((0.80, 0.10, -0.59), 0.25))
_AMBIENT, _HIGHLIGHT, _DEPTH_CUE = 0.24, 0.16, 0.22
# Hollows are darkened where the surroundings stand nearer to the viewer: radius in mm, strength per mm.
_HOLLOWS = ((1.5, 0.10), (5.0, 0.045))

# Film shown around the marks in mm: above and below, towards the left and right edge in AP and in LAT.
_ROW_MARGIN, _AP_MARGIN, _LAT_MARGIN = 35.0, (70.0, 70.0), (60.0, 90.0)
_NAME_OFFSET_MM = 30.0
# Sizes in pixels; the gutter holds a name beside a picture, the line is the least distance of two names.
_GAP, _HEADER, _FOOTER, _GUTTER, _LINE = 30, 104, 62, 54, 23.0


def render_labelmap(labelmap: np.ndarray, view: View, pixels_per_mm: float, voxel_mm: float = 1.0) -> np.ndarray:
    """Shaded orthographic picture of the whole labelmap; superior is up, vertebrae have their level's colour.

    ``front`` looks from anterior (patient's right at the image's left), ``left`` from the patient's left (the patient
    faces left, like the lateral film), ``back`` from posterior, ``oblique`` from behind on the patient's left.

    Args:
        labelmap: (I, P, L) uint8 of VerSe numbers; the axes grow to Inferior, Posterior and Left.
        view: side to look from.
        pixels_per_mm: scale of the picture.
        voxel_mm: edge of a cubic voxel in mm.

    Returns:
        (H, W, 3) uint8 sRGB: the labelmap's height and its width from that side, in mm, times the scale.

    Raises:
        UserError: a label is no vertebra.
        ValueError: the labelmap is not 3-D or the view is unknown.
    """
    if labelmap.ndim != 3 or view not in AZIMUTH:
        raise ValueError(f"expected a 3-D labelmap and one of {list(AZIMUTH)}, got {labelmap.shape} and '{view}'")
    return _render(_surfaces(labelmap, voxel_mm), np.array(labelmap.shape) * voxel_mm, view, pixels_per_mm)[0]


def write_preview(
    path: str | Path,
    ap_film: np.ndarray,
    lat_film: np.ndarray,
    marks: dict[int, tuple[Point, Point]],
    labelmap: np.ndarray,
    title: str,
    mm_per_pixel: Point = (1.0, 1.0),
    voxel_mm: float = 1.0,
) -> None:
    """Write one PNG: AP and LAT film with names and centroids, then the 3D spine from four sides.

    All parts share one scale in mm, and heights are brought together by the marks, so that a vertebra lies on one
    line in all of them as far as the films' magnification allows.

    Args:
        path: PNG to write; missing folders are made.
        ap_film: (rows I, columns L) float, bones bright.
        lat_film: (rows I, columns P) float, bones bright.
        marks: VerSe number -> (row, column) of the centroid in the AP and in the LAT film, in pixels.
        labelmap: (I, P, L) uint8 of VerSe numbers, on any grid of cubic voxels.
        title: headline; the caller keeps names of patients out of it.
        mm_per_pixel: size of a pixel in the AP and in the LAT film.
        voxel_mm: edge of a voxel in mm.

    Raises:
        UserError: a label or a mark is no vertebra.
    """
    surfaces, bodies, size_mm = _cropped(labelmap, voxel_mm)
    ap = {n: (np.array(marks[n][0]) + 0.5) * mm_per_pixel[0] for n in _checked(marks)}
    lat = {n: (np.array(marks[n][1]) + 0.5) * mm_per_pixel[1] for n in ap}
    # The picture's heights are those of the AP film in mm; LAT film and labelmap are moved to meet them.
    lat_shift = float(np.median([ap[n][0] - lat[n][0] for n in ap])) if ap else 0.0
    shared = [n for n in ap if n in bodies]
    spine_shift = float(np.median([ap[n][0] - bodies[n][0] for n in shared])) if shared else 0.0
    heights = [float(row) + margin for row, _ in ap.values() for margin in (-_ROW_MARGIN, _ROW_MARGIN)]
    film_mm = [ap_film.shape[0] * mm_per_pixel[0], lat_film.shape[0] * mm_per_pixel[1]]
    heights = [min(max(mm, 0.0), max(film_mm)) for mm in heights] or [0.0, *film_mm]
    heights += [spine_shift - 4, spine_shift + float(size_mm[0]) + 4] if bodies else []
    window = (min(heights), max(heights))
    scale = float(np.clip(1000 / (window[1] - window[0]), 1.5, 4.0))

    panels = {
        ("AP radiograph", "R", "L"): _film_panel(ap_film, mm_per_pixel[0], ap, 0.0, window, scale, _AP_MARGIN, 1),
        ("Lateral radiograph", "A", "P"): _film_panel(
            lat_film, mm_per_pixel[1], lat, lat_shift, window, scale, _LAT_MARGIN, -1
        ),
    }
    for view in AZIMUTH if bodies else ():
        image, number = _render(surfaces, size_mm, view, scale)
        panels[_CAPTIONS[view]] = _spine_panel(image, number, bodies, spine_shift, window, scale, view)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _compose(panels, title, in_order(list({*ap, *bodies})), scale).save(target, format="PNG")


def _surfaces(labelmap: np.ndarray, voxel_mm: float) -> _Surfaces:
    """Display surface of every vertebra, in mm from the labelmap's outer corner."""
    surfaces = {}
    for number, box in enumerate(find_objects(labelmap), start=1):
        if box is not None:
            level_name(number)
            affine = np.diag([voxel_mm] * 3 + [1.0])
            affine[:3, 3] = [(s.start + 0.5) * voxel_mm for s in box]
            mesh = display_mesh(labelmap[box] == number, affine)
            surfaces[number] = (mesh.triangles.view(np.ndarray), mesh.vertex_normals[mesh.faces])
    return surfaces


def _render(surfaces: _Surfaces, size_mm: np.ndarray, view: View, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 picture from one side and (H, W) VerSe numbers of what it shows (0 = background)."""
    sine, cosine = np.sin(np.deg2rad(AZIMUTH[view])), np.cos(np.deg2rad(AZIMUTH[view]))
    # Rows: image right, image down, away from the viewer; columns: I, P, L.
    axes = np.array([[0.0, sine, cosine], [1.0, 0.0, 0.0], [0.0, cosine, -sine]])
    width_mm = abs(sine) * size_mm[1] + abs(cosine) * size_mm[2]
    height, width = (_FINE * max(1, round(float(mm) * scale)) for mm in (size_mm[0], width_mm))
    depth = np.full(height * width, np.inf)
    normal = np.zeros((height * width, 3))
    number: np.ndarray = np.zeros(height * width, np.uint8)
    for level, (corners, normals) in surfaces.items():
        seen_from = (corners - size_mm / 2) @ axes.T
        image_points = seen_from[..., :2] * scale * _FINE + [width / 2 - 0.5, height / 2 - 0.5]
        triangle, pixel, weights = _cover(image_points, height, width)
        away = (weights * seen_from[triangle, :, 2]).sum(axis=1)
        np.minimum.at(depth, pixel, away)
        nearest = away == depth[pixel]
        triangle, pixel, weights = triangle[nearest], pixel[nearest], weights[nearest]
        normal[pixel] = np.einsum("nk,nkc->nc", weights, normals[triangle]) @ axes.T
        number[pixel] = level
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    shape = (height, width)
    fine = _shade(depth.reshape(shape), normal.reshape(*shape, 3), number.reshape(shape), scale)
    image = fine.reshape(height // _FINE, _FINE, width // _FINE, _FINE, 3).mean(axis=(1, 3))
    return (image * 255).round().astype(np.uint8), number.reshape(shape)[::_FINE, ::_FINE]


def _cover(corners: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel centres inside the triangles that face the viewer.

    Args:
        corners: (F, 3, 2) column and row in pixels.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        For each of N hits the triangle's index (N,), the flat pixel index (N,) and the corners' weights (N, 3).
    """
    first, to_second, to_third = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = to_second[:, 0] * to_third[:, 1] - to_second[:, 1] * to_third[:, 0]
    low = np.maximum(np.ceil(corners.min(axis=1)), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=1)), [width - 1, height - 1]).astype(int)
    extent = np.maximum(high - low + 1, 0)
    # Rows grow downwards, so that a surface turned to the viewer has negative area.
    count = np.where(area < 0, extent.prod(axis=1), 0)
    triangle = np.repeat(np.arange(len(corners)), count)
    rank = np.arange(triangle.size) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(rank, extent[triangle, 0])
    row, column = row + low[triangle, 1], column + low[triangle, 0]
    right, down = column - first[triangle, 0], row - first[triangle, 1]
    second = (right * to_third[triangle, 1] - down * to_third[triangle, 0]) / area[triangle]
    third = (down * to_second[triangle, 0] - right * to_second[triangle, 1]) / area[triangle]
    hit = (second >= -1e-9) & (third >= -1e-9) & (second + third <= 1 + 1e-9)
    second, third = second[hit], third[hit]
    return triangle[hit], (row * width + column)[hit], np.stack([1 - second - third, second, third], axis=1)


def _shade(depth: np.ndarray, normal: np.ndarray, number: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) picture in 0-1: two lights, a highlight, darker hollows and farther parts, on the background."""
    seen = number > 0
    picture = np.broadcast_to(np.array(_BACKGROUND) / 255, normal.shape).copy()
    if not seen.any():
        return picture
    coarse = seen[::_FINE, ::_FINE].astype(np.float32)
    coarse_depth = np.where(coarse > 0, depth[::_FINE, ::_FINE], 0).astype(np.float32)
    hollow = np.zeros(int(seen.sum()))
    for radius, strength in _HOLLOWS:
        share = gaussian_filter(coarse, radius * scale, truncate=3)
        around = gaussian_filter(coarse_depth, radius * scale, truncate=3) / np.maximum(share, 1e-6)
        # Beside a fine pixel that the coarse picture missed nothing may be near, and there is nothing to be hollow in.
        around[share < 0.02] = np.inf
        gap = depth[seen] - around.repeat(_FINE, axis=0).repeat(_FINE, axis=1)[seen]
        hollow += strength * np.clip(gap, 0, None)
    turned = normal[seen]
    light = np.full(len(turned), _AMBIENT)
    for direction, strength in _LIGHTS:
        light += strength * np.clip(turned @ np.array(direction), 0, None)
    half_way = np.array(_LIGHTS[0][0]) + np.array((0, 0, -1))
    shine = _HIGHLIGHT * np.clip(turned @ (half_way / np.linalg.norm(half_way)), 0, None) ** 24
    away = depth[seen] - depth[seen].min()
    light *= np.exp(-hollow) * (1 - _DEPTH_CUE * away / max(float(away.max()), 1e-6))
    palette = np.zeros((256, 3))
    for level in np.unique(number[seen]):
        palette[level] = np.array(level_colour(int(level))) / 255
    picture[seen] = np.clip(palette[number[seen]] * light[:, None] + shine[:, None], 0, 1)
    return picture


def _checked(marks: dict[int, tuple[Point, Point]]) -> list[int]:
    """Levels of the marks from head to foot; raises where one is no vertebra."""
    return in_order([n for n in marks if level_name(n)])


def _cropped(labelmap: np.ndarray, voxel_mm: float) -> tuple[_Surfaces, dict[int, np.ndarray], np.ndarray]:
    """Surfaces and (I, P, L) mm of each vertebral body, from the corner of the labelled box, and that box's size."""
    boxes = find_objects((labelmap > 0).view(np.uint8))
    if not boxes:
        return {}, {}, np.zeros(3)
    margin = 3
    crop = np.pad(labelmap[boxes[0]], margin)
    bodies = {}
    for number in np.unique(crop[crop > 0]).tolist():
        voxels = np.argwhere(crop == number)
        front = voxels[voxels[:, 1] < voxels[:, 1].min() + 20 / voxel_mm]
        bodies[number] = (front.mean(axis=0) + 0.5) * voxel_mm
    surfaces = _surfaces(crop, voxel_mm)
    return surfaces, {n: bodies[n] for n in in_order(list(bodies))}, np.array(crop.shape) * voxel_mm


def _film_panel(
    film: np.ndarray,
    pixel_mm: float,
    marks: dict[int, np.ndarray],
    shift: float,
    window: tuple[float, float],
    scale: float,
    margins: Point,
    side: int,
) -> Image.Image:
    """Part of a film around the marks ((row, column) in mm), bones bright, with rings, leaders and names."""
    rows_mm, columns_mm = (n * pixel_mm for n in film.shape)
    columns = [float(p[1]) for p in marks.values()]
    left = min(max(min(columns) - margins[0], 0), columns_mm - pixel_mm) if columns else 0.0
    right = max(min(max(columns) + margins[1], columns_mm), left + pixel_mm) if columns else columns_mm
    top, bottom = max(window[0] - shift, 0.0), min(window[1] - shift, rows_mm)
    panel = Image.new("RGB", (round((right - left) * scale), round((window[1] - window[0]) * scale)), _BACKGROUND)
    if bottom - top > pixel_mm:
        box = np.array([left, top, right, bottom]) / pixel_mm
        first, last = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        part = film[first[1] : last[1], first[0] : last[0]]
        finite = part[np.isfinite(part)]
        dark = float(np.percentile(finite, 1.0)) if finite.size else 0.0
        bright = float(np.percentile(finite, 99.7)) if finite.size else 1.0
        grey = np.clip((np.nan_to_num(part, nan=dark) - dark) / max(bright - dark, 1e-9), 0, 1) * 255
        size = (panel.width, max(1, round((bottom - top) * scale)))
        inner = np.clip(box - np.tile(first, 2), 0, np.tile(part.shape[::-1], 2)).tolist()
        shown = Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC, box=tuple(inner))
        panel.paste(shown, (0, round((top + shift - window[0]) * scale)))
    draw = ImageDraw.Draw(panel)
    beside = _spread([float(p[0] + shift - window[0]) * scale for p in marks.values()])
    for (number, (row, column)), name_y in zip(marks.items(), beside, strict=True):
        x, y = (column - left) * scale, (row + shift - window[0]) * scale
        end = min(max(x + side * _NAME_OFFSET_MM * scale, _GUTTER), panel.width - _GUTTER)
        for colour, thickness in ((_BACKGROUND, 4), (level_colour(number), 2)):
            draw.line([(x, y), (end, name_y)], fill=colour, width=thickness)
        _name(draw, (end, name_y), number, side)
        ring = _ring(level_colour(number))
        panel.paste(ring, (round(x) - ring.width // 2, round(y) - ring.height // 2), ring)
    return panel


def _spine_panel(
    image: np.ndarray,
    number: np.ndarray,
    bodies: dict[int, np.ndarray],
    shift: float,
    window: tuple[float, float],
    scale: float,
    view: View,
) -> Image.Image:
    """A 3D picture at its height, each name beside its vertebral body just outside the silhouette."""
    side = 1 if view in ("front", "back") else -1
    panel = Image.new("RGB", (image.shape[1] + _GUTTER, round((window[1] - window[0]) * scale)), _BACKGROUND)
    left, top = (0 if side > 0 else _GUTTER), round((shift - window[0]) * scale)
    panel.paste(Image.fromarray(image), (left, top))
    draw = ImageDraw.Draw(panel)
    for level, height in zip(bodies, _spread([float(body[0]) * scale for body in bodies.values()]), strict=True):
        row = round(height)
        filled = np.flatnonzero((number[max(row - 9, 0) : row + 10] > 0).any(axis=0))
        edge = filled[-1 if side > 0 else 0] if filled.size else image.shape[1] // 2
        _name(draw, (left + float(edge) + side * 4, top + row), level, side)
    return panel


def _compose(
    panels: dict[tuple[str, str, str], Image.Image], title: str, levels: list[int], scale: float
) -> Image.Image:
    """All panels in a row under a headline, captions above, a scale bar below."""
    height = next(iter(panels.values())).height
    width = sum(p.width for p in panels.values()) + _GAP * (len(panels) + 1)
    sheet = Image.new("RGB", (max(width, 640), _HEADER + height + _FOOTER), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 20), title, fill=_TEXT, font=_font(28))
    summary = " to ".join(level_name(n) for n in sorted({*levels[:1], *levels[-1:]}, key=levels.index))
    summary += f", {len(levels)} vertebrae" if len(levels) > 1 else ""
    draw.text((sheet.width - _GAP, 28), summary, fill=_FAINT, font=_font(18), anchor="ra")
    x = _GAP
    for (caption, left, right), panel in panels.items():
        sheet.paste(panel, (x, _HEADER))
        middle = _HEADER - 22
        draw.text((x + panel.width / 2, middle), caption, fill=_TEXT, font=_font(18), anchor="mm")
        draw.text((x, middle), left, fill=_FAINT, font=_font(18), anchor="lm")
        draw.text((x + panel.width, middle), right, fill=_FAINT, font=_font(18), anchor="rm")
        x += panel.width + _GAP
    y = sheet.height - _FOOTER // 2
    draw.line([(_GAP, y), (_GAP + 50 * scale, y)], fill=_TEXT, width=3)
    for end in (_GAP, _GAP + 50 * scale):
        draw.line([(end, y - 6), (end, y + 6)], fill=_TEXT, width=2)
    note = "50 mm, one scale for all pictures"
    draw.text((_GAP + 50 * scale + 14, y), note, fill=_FAINT, font=_font(18), anchor="lm")
    return sheet


def _spread(heights: list[float]) -> list[float]:
    """Heights of names from top to bottom, moved down where two would touch."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _LINE) if placed else height)
    return placed


def _name(draw: ImageDraw.ImageDraw, place: Point, number: int, side: int) -> None:
    """Level name in its colour on a dark plate; it grows to the right (side 1) or to the left (-1) of its place."""
    text, font, (x, y) = level_name(number), _font(20), place
    width = font.getlength(text)
    x = x + 7 if side > 0 else x - 7 - width
    draw.rounded_rectangle((x - 6, y - 12, x + width + 5, y + 12), radius=5, fill=_BACKGROUND)
    draw.text((x, y), text, font=font, anchor="lm", fill=level_colour(number))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@cache
def _ring(colour: tuple[int, int, int]) -> Image.Image:
    """Small ring with a point in it, drawn large and shrunk because PIL's circles have jagged edges."""
    ring = Image.new("RGBA", (136, 136), (*_BACKGROUND, 0))
    draw = ImageDraw.Draw(ring)
    draw.ellipse((6, 6, 129, 129), outline=(*_BACKGROUND, 255), width=36)
    draw.ellipse((16, 16, 119, 119), outline=(*colour, 255), width=16)
    draw.ellipse((54, 54, 81, 81), fill=(*colour, 255))
    return ring.resize((17, 17), Image.Resampling.LANCZOS)
