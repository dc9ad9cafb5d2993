"""What all pictures share: colours of the levels, type, name plates, and a film as grey values."""

from __future__ import annotations

import colorsys
import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scripts.levels import LEVEL_ORDER, level_name

Point = tuple[float, float]
Colour = tuple[int, int, int]

BACKGROUND: Colour = (12, 14, 18)
TEXT: Colour = (232, 234, 238)
FAINT: Colour = (138, 145, 156)

# Ivory, blue, rose, sage, lilac around the tone of bone; each turn of the five drifts a little in hue, so that all
# 26 colours differ and neighbours differ most.
_PALETTE = bytes.fromhex(
    "ffe4c6 8fc6d3 f3b7b0 c9dcba b3b5d6 fee2c2 8ec2d3 efb5a9 c2daba b5b1d2 f8e1be 8dbfd2 eab3a3 "
    "bcd8ba b6adce f1dfbb 8dbbd1 e5b19d b5d6ba b8a9c9 ebdeb8 8db8d1 e0b097 aed3ba b9a6c4 e4dcb6"
)
_COLOURS = {number: tuple(_PALETTE[3 * i : 3 * i + 3]) for i, number in enumerate(LEVEL_ORDER)}


def level_colour(number: int) -> Colour:
    """Fixed sRGB colour (0-255) of a level, the same in every picture and file.

    Args:
        number: VerSe number.

    Raises:
        UserError: the number is not a vertebra.
    """
    level_name(number)
    red, green, blue = _COLOURS[number]
    return red, green, blue


def vivid_colour(number: int) -> Colour:
    """The same hue for thin lines over bright bone, where the tones of `level_colour` would be lost."""
    hue = colorsys.rgb_to_hsv(*(value / 255 for value in level_colour(number)))[0]
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.72, 1.0))
    return red, green, blue


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one typeface, in pixels."""
    return ImageFont.load_default(size)


def spread(heights: list[float], line: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Heights of names from top to bottom, moved apart where two would touch and kept between ``low`` and ``high``."""
    placed: list[float] = []
    for height in heights:
        low = max(height, low)
        placed.append(low)
        low += line
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], high)
        high = placed[i] - line
    return placed


def name_plate(draw: ImageDraw.ImageDraw, place: Point, text: str, colour: Colour, side: int, size: int = 20) -> None:
    """A name on a dark plate; it grows to the right (side 1) or to the left (-1) of its place."""
    type_, (x, y) = font(size), place
    width, half = type_.getlength(text), size * 0.6
    x = x + 7 if side > 0 else x - 7 - width
    draw.rounded_rectangle((x - 6, y - half, x + width + 5, y + half), radius=5, fill=BACKGROUND)
    draw.text((x, y), text, font=type_, anchor="lm", fill=colour)


def film_grey(part: np.ndarray, ends: tuple[float, float] = (1.0, 99.7)) -> Image.Image:
    """A film or a part of it in 8 bits, between its own dark and bright ends.

    Args:
        part: (rows, columns) float, bones bright; NaN is dark.
        ends: percentiles of its values that become black and white.
    """
    finite = part[np.isfinite(part)]
    dark, bright = (float(np.percentile(finite, end)) for end in ends) if finite.size else (0.0, 1.0)
    grey = np.clip((np.nan_to_num(part, nan=dark) - dark) / max(bright - dark, 1e-9), 0, 1) * 255
    return Image.fromarray(grey.astype(np.uint8))
