"""Pictures to mark bodies on: the spine straightened along its line, and plain mid-sagittal and mid-coronal slices."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from scripts.data.labelling.spine_line import SpineLine
from scripts.data.labelling.volume import CtVolume
from scripts.drawing import BACKGROUND, FAINT, TEXT, font, vivid_colour
from scripts.levels import level_name

WINDOW_HU = (-150.0, 800.0)
# Half the thickness in mm over which a slice is averaged.
_SLAB_MM = 4.0


def straightened(ct: CtVolume, line: SpineLine, half_mm: float = 60.0, plane: str = "sagittal") -> np.ndarray:
    """The spine made straight: (arc, across) float32 HU with 1 mm pixels; column ``half_mm`` lies on the line.

    Args:
        ct: the CT.
        line: through its bodies.
        half_mm: how far the picture reaches to either side.
        plane: ``sagittal`` (columns grow backwards) or ``coronal`` (columns grow to the left).
    """
    across = np.arange(-half_mm, half_mm + 1)
    through = np.arange(-_SLAB_MM, _SLAB_MM + 1, 2.0)
    one, other = (line.back, line.left) if plane == "sagittal" else (line.left, line.back)
    where = line.points_mm[:, None] + across[None, :, None] * one[:, None]
    layers = [_values(ct, where + t * other[:, None]) for t in through]
    return np.mean(layers, axis=0)


def draw_straightened(
    hu: np.ndarray, title: str, marks: dict[int, tuple[float, float]], scale: int = 4, grid_mm: int = 10
) -> Image.Image:
    """A straightened slice with a scale of arc lengths, and marks as level -> (arc, across) in mm."""
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1) ** 0.7 * 255
    height, width = hu.shape
    half = (width - 1) / 2
    picture = Image.fromarray(grey.astype(np.uint8)).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    margin = 34
    sheet = Image.new("RGB", (width * scale + margin, height * scale + 24), BACKGROUND)
    sheet.paste(picture.convert("RGB"), (margin, 24))
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), title, fill=TEXT, font=font(15))
    for step in range(0, height, grid_mm):
        y = 24 + (step + 0.5) * scale
        draw.text((2, y), str(step), fill=TEXT, font=font(12), anchor="lm")
        draw.line([(margin - 6, y), (margin + 14, y)], fill=FAINT)
        draw.line([(sheet.width - 14, y), (sheet.width, y)], fill=FAINT)
    for tick in range(-round(half) // grid_mm * grid_mm, round(half) + 1, grid_mm):
        x = margin + (tick + half + 0.5) * scale
        draw.line([(x, 24), (x, 30)], fill=TEXT if tick == 0 else FAINT)
    for number, (arc, across) in marks.items():
        x, y = margin + (across + half + 0.5) * scale, 24 + (arc + 0.5) * scale
        colour = vivid_colour(number)
        draw.line([(x - 6, y), (x + 6, y)], fill=colour, width=2)
        draw.line([(x, y - 6), (x, y + 6)], fill=colour, width=2)
        draw.text((margin + 30, y), level_name(number), fill=colour, font=font(14), anchor="lm")
    return sheet


def _values(ct: CtVolume, where_mm: np.ndarray) -> np.ndarray:
    index = np.moveaxis(ct.grid.to_index(where_mm), -1, 0)
    return ndimage.map_coordinates(ct.hu, index, order=1, mode="constant", cval=-1000.0)


def draw_spine(ct: CtVolume, line: SpineLine, centroids_mm: dict[int, np.ndarray], title: str) -> Image.Image:
    """Sagittal and coronal picture of the straightened spine beside each other, with marks."""
    placed = {number: line.place(point) for number, point in centroids_mm.items()}
    sagittal = draw_straightened(
        straightened(ct, line, 45.0), title, {n: (float(p[0]), float(p[1])) for n, p in placed.items()}
    )
    coronal = draw_straightened(
        straightened(ct, line, 45.0, "coronal"), "", {n: (float(p[0]), float(p[2])) for n, p in placed.items()}
    )
    sheet = Image.new("RGB", (sagittal.width + coronal.width, sagittal.height), BACKGROUND)
    sheet.paste(sagittal, (0, 0))
    sheet.paste(coronal, (sagittal.width, 0))
    return sheet
