"""The first picture of a reconstruction: both films with the marks, and the spine in 3D from four sides.

The surfaces are drawn by a z-buffer in numpy, so that a machine without display, GPU or OpenGL can make it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import find_objects, gaussian_filter

from scripts.levels import in_order, level_name
from scripts.spine.mesh import level_colour, vertebra_mesh

View = Literal["front", "left", "back", "oblique"]
Marks = dict[int, tuple[tuple[float, float], tuple[float, float]]]

# Degrees the viewer has walked around the patient, from in front towards the patient's left.
AZIMUTH: dict[str, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "oblique": 135.0}
BACKGROUND = (12, 14, 18)

PREVIEW_HEIGHT = 900
_SUPERSAMPLING = 2
# Towards the light in the viewer's frame (right, down, away): a key light from the upper left, a weak one against it.
_LIGHTS = (((-0.50, -0.62, -0.61), 0.72), ((0.80, 0.10, -0.59), 0.22))
_DISPLAY_BLUR_MM = 1.0
_AMBIENT, _HIGHLIGHT, _DEPTH_CUE = 0.20, 0.16, 0.22
# Hollows are darkened where the surroundings stand nearer to the viewer: radius in mm, strength per mm.
_HOLLOWS = ((1.5, 0.10), (5.0, 0.045))


class _Surface(NamedTuple):
    """One vertebra: VerSe number, corners and their normals, both (F, 3 corners, 3) in (I, P, L) mm."""

    number: int
    corners: np.ndarray
    normals: np.ndarray


class _Buffers(NamedTuple):
    """What each pixel sees: depth in mm (inf = nothing), normal in (right, down, away), VerSe number (0 = nothing)."""

    depth: np.ndarray
    normal: np.ndarray
    number: np.ndarray


def render_labelmap(labelmap: np.ndarray, view: View, pixels_per_mm: float, voxel_mm: float = 1.0) -> np.ndarray:
    """Shaded orthographic picture of the whole labelmap; superior is up.

    ``front`` looks from anterior (patient's right at the image's left), ``left`` from the patient's left (the patient
    faces left, like the lateral film), ``back`` from posterior, ``oblique`` from behind on the patient's left.

    Args:
        labelmap: (I, P, L) uint8 of VerSe numbers; the axes grow to Inferior, Posterior and Left.
        view: side to look from.
        pixels_per_mm: scale of the picture.
        voxel_mm: edge of a cubic voxel in mm.

    Returns:
        (H, W, 3) uint8 sRGB, H = I mm times the scale, W = the labelmap's width from that side times the scale.

    Raises:
        UserError: a label is no vertebra.
        ValueError: the labelmap is not 3-D or the view is unknown.
    """
    if labelmap.ndim != 3 or view not in AZIMUTH:
        raise ValueError(f"expected a 3-D labelmap and one of {list(AZIMUTH)}, got {labelmap.shape} and '{view}'")
    size_mm = np.array(labelmap.shape) * voxel_mm
    return _picture(_surfaces(labelmap, voxel_mm), size_mm, view, pixels_per_mm)[0]


def _surfaces(labelmap: np.ndarray, voxel_mm: float) -> list[_Surface]:
    """Surface of every vertebra, smoothed for display at equal volume; corners in mm from the labelmap's corner."""
    surfaces = []
    pad = int(np.ceil(3 * _DISPLAY_BLUR_MM / voxel_mm))
    for number, box in enumerate(find_objects(labelmap), start=1):
        if box is None:
            continue
        level_colour(number)
        mask = np.pad(labelmap[box] == number, pad)
        blurred = gaussian_filter(mask.astype(np.float32), _DISPLAY_BLUR_MM / voxel_mm)
        # The level that as many voxels lie above as the mask has: a blur at 0.5 would eat thin processes.
        kept = int(mask.sum())
        level = float(np.partition(blurred.ravel(), -kept - 1)[-kept - 1])
        affine = np.diag([voxel_mm] * 3 + [1.0])
        affine[:3, 3] = [(s.start - pad + 0.5) * voxel_mm for s in box]
        mesh = vertebra_mesh(blurred, affine, level)
        surfaces.append(_Surface(number, mesh.triangles.view(np.ndarray), mesh.vertex_normals[mesh.faces]))
    return surfaces


def _picture(
    surfaces: list[_Surface], size_mm: np.ndarray, view: View, pixels_per_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 picture and (H, W) VerSe numbers of what is seen from one side."""
    fine = pixels_per_mm * _SUPERSAMPLING
    buffers = _rasterise(surfaces, size_mm, AZIMUTH[view], fine)
    rgb = _shade(buffers, fine)
    blocks = rgb.reshape(rgb.shape[0] // _SUPERSAMPLING, _SUPERSAMPLING, -1, _SUPERSAMPLING, 3)
    image = (blocks.mean(axis=(1, 3)) * 255).round().astype(np.uint8)
    return image, buffers.number[::_SUPERSAMPLING, ::_SUPERSAMPLING]


def _rasterise(surfaces: list[_Surface], size_mm: np.ndarray, azimuth: float, scale: float) -> _Buffers:
    """Nearest surface at every pixel centre, seen along the horizontal from an azimuth in degrees."""
    sine, cosine = np.sin(np.deg2rad(azimuth)), np.cos(np.deg2rad(azimuth))
    # Rows: image right, image down, away from the viewer; columns: I, P, L.
    axes = np.array([[0.0, sine, cosine], [1.0, 0.0, 0.0], [0.0, cosine, -sine]])
    width_mm = abs(sine) * size_mm[1] + abs(cosine) * size_mm[2]
    step = _SUPERSAMPLING
    height, width = (step * max(1, round(float(mm) * scale / step)) for mm in (size_mm[0], width_mm))
    depth = np.full(height * width, np.inf)
    normal = np.zeros((height * width, 3))
    number = np.zeros(height * width, np.uint8)
    for surface in surfaces:
        corners = (surface.corners - size_mm / 2) @ axes.T
        corners[..., :2] = corners[..., :2] * scale + [width / 2 - 0.5, height / 2 - 0.5]
        normals = surface.normals @ axes.T
        triangle, pixel, weights = _cover(corners[..., :2], height, width)
        z = (weights * corners[triangle, :, 2]).sum(axis=1)
        np.minimum.at(depth, pixel, z)
        seen = z == depth[pixel]
        triangle, pixel, weights = triangle[seen], pixel[seen], weights[seen]
        normal[pixel] = np.einsum("nk,nkc->nc", weights, normals[triangle])
        number[pixel] = surface.number
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return _Buffers(depth.reshape(height, width), normal.reshape(height, width, 3), number.reshape(height, width))


def _cover(corners: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels whose centre lies in a triangle that faces the viewer.

    Args:
        corners: (F, 3, 2) column and row in pixels.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        For each hit the triangle's index (N,), the flat pixel index (N,) and the three corners' weights (N, 3).
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.maximum(np.ceil(corners.min(axis=1)), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=1)), [width - 1, height - 1]).astype(int)
    extent = np.maximum(high - low + 1, 0)
    count = np.where(area < 0, extent.prod(axis=1), 0)
    triangle = np.repeat(np.arange(len(corners)), count)
    rank = np.arange(triangle.size) - np.repeat(np.cumsum(count) - count, count)
    column = low[triangle, 0] + rank % extent[triangle, 0]
    row = low[triangle, 1] + rank // extent[triangle, 0]
    point = np.stack([column, row], axis=1)
    weights = np.empty((triangle.size, 3))
    for k, (p, q) in enumerate(((b, c), (c, a))):
        side, towards = (q - p)[triangle], point - p[triangle]
        weights[:, k] = (side[:, 0] * towards[:, 1] - side[:, 1] * towards[:, 0]) / area[triangle]
    weights[:, 2] = 1 - weights[:, 0] - weights[:, 1]
    hit = (weights >= -1e-9).all(axis=1)
    return triangle[hit], (row * width + column)[hit], weights[hit]


def _shade(buffers: _Buffers, scale: float) -> np.ndarray:
    """(H, W, 3) picture in 0-1: two lights, a highlight, darker hollows and farther parts, on the background."""
    seen = buffers.number > 0
    picture = np.broadcast_to(np.array(BACKGROUND) / 255, (*seen.shape, 3)).copy()
    if not seen.any():
        return picture
    depth = np.where(seen, buffers.depth, 0.0)
    hollow = np.zeros(seen.shape)
    for radius, strength in _HOLLOWS:
        share = gaussian_filter(seen.astype(float), radius * scale)
        around = gaussian_filter(depth, radius * scale) / np.maximum(share, 1e-6)
        hollow += strength * np.clip(depth - around, 0, None)
    normal = buffers.normal[seen]
    light = np.full(len(normal), _AMBIENT)
    for direction, strength in _LIGHTS:
        light += strength * np.clip(normal @ np.array(direction), 0, None)
    half = np.array(_LIGHTS[0][0]) + [0, 0, -1]
    shine = _HIGHLIGHT * np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 24
    nearest, farthest = depth[seen].min(), depth[seen].max()
    light *= np.exp(-hollow[seen]) * (1 - _DEPTH_CUE * (depth[seen] - nearest) / max(farthest - nearest, 1e-6))
    palette = np.zeros((256, 3))
    for number in np.unique(buffers.number[seen]):
        palette[number] = np.array(level_colour(int(number))) / 255
    picture[seen] = np.clip(palette[buffers.number[seen]] * light[:, None] + shine[:, None], 0, 1)
    return picture


def write_preview(
    path: Path,
    ap_film: np.ndarray,
    lat_film: np.ndarray,
    marks: Marks,
    labelmap: np.ndarray,
    title: str = "",
    mm_per_pixel: tuple[float, float] = (1.0, 1.0),
) -> None:
    """One PNG: the two films with their marks, then the spine from four sides, all at one scale.

    Args:
        path: file to write.
        ap_film: (rows, columns), rows grow to Inferior and columns to Left, bones bright.
        lat_film: (rows, columns), rows to Inferior, columns to Posterior.
        marks: VerSe number -> (row, column) of the centroid in AP and in LAT.
        labelmap: (I, P, L) uint8, 1 mm voxels.
        title: written at the top.
        mm_per_pixel: of the AP and of the LAT film.
    """
    height_mm = max(ap_film.shape[0] * mm_per_pixel[0], lat_film.shape[0] * mm_per_pixel[1], labelmap.shape[0])
    scale = PREVIEW_HEIGHT / height_mm
    panels = [
        _film_panel(film, [(number, pair[i]) for number, pair in marks.items()], mm_per_pixel[i] * scale)
        for i, film in enumerate((ap_film, lat_film))
    ]
    occupied = find_objects((labelmap > 0).astype(np.uint8))
    if occupied and occupied[0] is not None:
        box = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in occupied[0])
        surfaces = _surfaces(labelmap[box], 1.0)
        for view in AZIMUTH:
            picture, numbers = _picture(surfaces, np.array(labelmap[box].shape, float), view, scale)  # type: ignore[arg-type]
            panels.append(_spine_panel(picture, numbers if view == "front" else None))
    names = ["AP", "LAT", *AZIMUTH][: len(panels)]
    gap, head = 16, 44
    width = sum(panel.width for panel in panels) + gap * (len(panels) + 1)
    height = max(panel.height for panel in panels) + 2 * gap + head
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    left = gap
    for name, panel in zip(names, panels, strict=True):
        page.paste(panel, (left, gap + head + (height - 2 * gap - head - panel.height) // 2))
        draw.text((left + 2, gap + head - 22), name, fill=(150, 160, 175), font=_font(15))
        left += panel.width + gap
    draw.text((gap, 10), f"{title}   not for diagnosis".strip(), fill=(225, 230, 236), font=_font(18))
    page.save(path)


def _film_panel(film: np.ndarray, marks: list[tuple[int, tuple[float, float]]], scale: float) -> Image.Image:
    """A film, windowed to its 1st and 99.7th percentile, with a ring and the level's name at each mark."""
    low, high = np.percentile(film, [1.0, 99.7])
    grey = np.clip((film - low) / max(float(high - low), 1e-6), 0, 1)
    image = Image.fromarray((grey * 255).astype(np.uint8)).convert("RGB")
    image = image.resize((round(film.shape[1] * scale), round(film.shape[0] * scale)), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for number, (row, column) in marks:
        x, y = (column + 0.5) * scale, (row + 0.5) * scale
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], outline=(0, 0, 0), width=2)
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], outline=level_colour(number), width=2)
        draw.text(
            (x + 9, y), level_name(number), fill=level_colour(number), font=_font(14), anchor="lm",
            stroke_width=2, stroke_fill=(0, 0, 0),
        )
    return image


def _spine_panel(picture: np.ndarray, numbers: np.ndarray | None) -> Image.Image:
    """A rendering, with the levels' names on the left if their places are given."""
    image = Image.fromarray(picture)
    if numbers is None:
        return image
    margin = 44
    page = Image.new("RGB", (image.width + margin, image.height), BACKGROUND)
    page.paste(image, (margin, 0))
    draw = ImageDraw.Draw(page)
    for number in in_order([int(n) for n in np.unique(numbers) if n]):
        row = float(np.median(np.nonzero(numbers == number)[0]))
        draw.text((margin - 8, row), level_name(number), fill=level_colour(number), font=_font(14), anchor="rm")
    return page


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along: the same on every machine."""
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
