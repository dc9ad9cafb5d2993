"""Endplates and angles drawn on the pictures of films."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

from scripts.drawing import BACKGROUND, font
from scripts.measure.plate_lines import FilmLines

PLATE, ANGLE = (255, 255, 255), (255, 224, 138)


def draw_lines(
    draw: ImageDraw.ImageDraw, lines: FilmLines, place: Callable[[np.ndarray], np.ndarray], size: tuple[int, int]
) -> None:
    """Endplates as thin lines, angles as long ones with the angle written between the ends at which they converge.

    Args:
        draw: of the picture.
        lines: of this film.
        place: film pixels (..., 2) as (row, column) -> the picture's (x, y).
        size: width and height of the picture, in which all words stay.
    """

    def line(ends: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
        draw.line([(float(x), float(y)) for x, y in ends], fill=colour, width=width)

    for plates in lines.plates.values():
        for plate in place(plates):
            line(plate, PLATE, 1)
    for angle, both in lines.angles.items():
        ends = place(both)
        for end_line in ends:
            line(end_line, ANGLE, 2)
        line(ends[:, 1], ANGLE, 1)
        text = font(18)
        wide = draw.textlength(angle.drawn, font=text) / 2 + 4
        x, y = (float(value) for value in ends[:, 1].mean(axis=0))
        at = min(max(x, wide), size[0] - wide), min(max(y, 12.0), size[1] - 12.0)
        draw.text(at, angle.drawn, fill=ANGLE, font=text, anchor="mm", stroke_width=3, stroke_fill=BACKGROUND)
