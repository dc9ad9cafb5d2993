"""``annotations.png``: both films with what was found in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scripts.drawing import BACKGROUND, FAINT, TEXT, film_grey, font, name_plate, spread, vivid_colour
from scripts.io.annotations import Annotations, ViewMarks
from scripts.io.atomic import atomic_path
from scripts.levels import level_name

# Sizes in screen pixels.
_HEIGHT, _GAP, _GUTTER, _HEADER, _NAME, _LINE = 1000, 24, 120, 84, 16, 20
FAINT_BELOW = 0.5


def draw_annotations(
    films: tuple[np.ndarray | None, np.ndarray | None],
    annotations: Annotations,
    pixel_mm: tuple[tuple[float, float], tuple[float, float]],
    title: str = "",
) -> Image.Image:
    """Bodies as quadrilaterals, centroids as crosses, names with confidence beside the film.

    A vertebra that one view alone shows has a star; an interpolated one a question mark; one whose confidence is below
    one half has a thin outline.

    Args:
        films: AP and LAT, (rows, columns), bones bright.
        annotations: what to draw.
        pixel_mm: size of each film's pixels, (row, column).
        title: headline.
    """
    heights = [f.shape[0] * s[0] for f, s in zip(films, pixel_mm, strict=True) if f is not None]
    scale = _HEIGHT / max(heights)
    panels = [
        (name, _panel(film, view, size, scale))
        for name, film, view, size in zip(
            ("AP", "LAT"), films, (annotations.ap, annotations.lat), pixel_mm, strict=True
        )
        if film is not None
    ]
    lines = list(annotations.warnings)
    if annotations.shift_margin is not None:
        lines.insert(0, f"margin to a reading one level off: {annotations.shift_margin:.1f} nats")
    width = max(sum(p.width for _, p in panels) + _GAP * (len(panels) + 1), 640)
    wide = [_fit(line, width - 2 * _GAP) for line in lines]
    sheet = Image.new("RGB", (width, _HEADER + _HEIGHT + _GAP + _LINE * len(wide) + _GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 14), title, fill=TEXT, font=font(24))
    x = _GAP
    for name, panel in panels:
        sheet.paste(panel, (x, _HEADER))
        draw.text((x, _HEADER - 6), name, fill=TEXT, font=font(18), anchor="lb")
        x += panel.width + _GAP
    for i, line in enumerate(wide):
        draw.text((_GAP, _HEADER + _HEIGHT + _GAP + i * _LINE), line, fill=FAINT, font=font(15))
    return sheet


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG in one step."""
    with atomic_path(path) as work:
        picture.save(work, format="PNG")


def _panel(film: np.ndarray, view: ViewMarks, size_mm: tuple[float, float], scale: float) -> Image.Image:
    zoom = np.array(size_mm) * scale
    rows, columns = (max(round(n * z), 1) for n, z in zip(film.shape, zoom, strict=True))
    panel = Image.new("RGB", (columns + _GUTTER, _HEIGHT), BACKGROUND)
    panel.paste(film_grey(film).resize((columns, rows), Image.Resampling.BICUBIC), (0, 0))
    draw = ImageDraw.Draw(panel)

    def place(pixel: tuple[float, float]) -> tuple[float, float]:
        row, column = (np.array(pixel) + 0.5) * zoom
        return float(column), float(row)

    centres = [place(mark.centroid) for mark in view.marks]
    names = spread([y for _, y in centres], _LINE, _LINE / 2, _HEIGHT - _LINE / 2)
    for mark, (x, y), height in zip(view.marks, centres, names, strict=True):
        colour = vivid_colour(mark.level)
        thickness = 1 if mark.confidence < FAINT_BELOW else 2
        right = x
        if mark.corners is not None:
            quad = [place(corner) for corner in mark.corners]
            right = max(px for px, _ in quad)
            draw.line([*quad, quad[0]], fill=colour, width=thickness)
        draw.line([(x - 4, y), (x + 4, y)], fill=colour, width=2)
        draw.line([(x, y - 4), (x, y + 4)], fill=colour, width=2)
        draw.line([(right + 3, y), (columns + 4, height)], fill=colour, width=1)
        flag = "?" if mark.interpolated else "" if mark.seen_in in ("both", None) else "*"
        name_plate(
            draw, (columns + 2, height), f"{level_name(mark.level)}{flag} {mark.confidence:.2f}", colour, 1, _NAME
        )
    return panel


def _fit(line: str, width: int) -> str:
    """As much of a line as fits into a width in pixels."""
    while font(15).getlength(line) > width and len(line) > 20:
        line = line[:-2].rstrip() + "…"
    return line
