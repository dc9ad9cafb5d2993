"""Every vertebra of the shape library in its own frame, to look for mistakes: one picture a region.

    python -m scripts.simulation.library_sheet --output FOLDER [--levels C1,L3] [--subjects A,B]

Three shaded views of each at one scale: lateral (front to the left), frontal (seen from the front) and axial (seen
from below). The cross is the body's centroid, the green line the average vertebra of the level without this subject,
at this subject's size: a shape that is tilted, clipped or of another level stands out from it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from scripts.anatomy.average import average_signed_distance, sample_lattice
from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape, load_shape, shape_subjects, vertebrae_of
from scripts.anatomy.sizes import subject_size
from scripts.command import run_module
from scripts.drawing import BACKGROUND, FAINT, TEXT, font
from scripts.errors import UserError
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.levels import LEVEL_NAMES, LEVEL_ORDER, Level, region

# The part of a vertebra's cube that is shown: mm before and behind the body's centroid along I, P, L.
ROOM_MM = ((34, 44), (30, 74), (54, 54))
PIXEL_MM = 0.8
COLUMNS = 6
_LINE, _GAP, _NAME = 18, 6, 14
AVERAGE = (90, 220, 120)
AVERAGE_SPACING_MM = 2.0


def draw_region(name: str, levels: list[int], subjects: tuple[str, ...]) -> Image.Image | None:
    """All shapes of some levels, a band of rows for each level; None without shapes."""
    tiles = []
    for number in levels:
        shapes = [load_shape(subject, number) for subject in subjects if number in vertebrae_of(subject)]
        row = [draw_vertebra(shape) for shape in shapes]
        tiles += [row[start : start + COLUMNS] for start in range(0, len(row), COLUMNS)]
    if not tiles:
        return None
    wide, high = tiles[0][0].size
    columns = max(len(row) for row in tiles)
    sheet = Image.new("RGB", (columns * (wide + _GAP) + _GAP, len(tiles) * (high + _GAP) + 40), BACKGROUND)
    ImageDraw.Draw(sheet).text((_GAP, 8), f"{name}: lateral, frontal, axial", fill=TEXT, font=font(20))
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            sheet.paste(tile, (_GAP + j * (wide + _GAP), 40 + i * (high + _GAP)))
    return sheet


def draw_vertebra(shape: VertebraShape) -> Image.Image:
    """The three views of one vertebra side by side."""
    size = subject_size(shape.subject)
    axes = [np.arange(-before, after + 1e-6, PIXEL_MM) for before, after in ROOM_MM]
    distance, away = sample_lattice(
        shape.signed_distance, [a / SHAPE_SPACING_MM + o for a, o in zip(axes, shape.origin, strict=True)]
    )
    distance += away
    average = _average_around(shape, [a / size for a in axes])
    panels = [_panel(distance, average, axis) for axis in (2, 1, 0)]
    wide = sum(panel.width for panel in panels) + 2 * _GAP
    tile = Image.new("RGB", (wide, max(p.height for p in panels) + _LINE), BACKGROUND)
    x = 0
    for panel in panels:
        tile.paste(panel, (x, _LINE))
        x += panel.width + _GAP
    draw = ImageDraw.Draw(tile)
    draw.text((0, 0), f"{LEVEL_NAMES[shape.number]} {shape.subject}", fill=TEXT, font=font(_NAME))
    volume = float((distance < 0).sum()) * PIXEL_MM**3 / 1000
    draw.text((wide, 0), f"{volume:.0f} ml, size {size:.2f}", fill=FAINT, font=font(_NAME), anchor="ra")
    return tile


def _average_around(shape: VertebraShape, axes: list[np.ndarray]) -> np.ndarray | None:
    """The average without a shape's subject at places of its own frame; None if no other subject has the level."""
    try:
        average = average_signed_distance(shape.number, AVERAGE_SPACING_MM, (shape.subject,))
    except UserError:
        return None
    first = 0.5 * AVERAGE_SPACING_MM - 0.5 - NOMINAL_CENTROID
    return sample_lattice(average, [(a - f) / AVERAGE_SPACING_MM for a, f in zip(axes, first, strict=True)])[0]


def _panel(distance: np.ndarray, average: np.ndarray | None, axis: int) -> Image.Image:
    """A shaded view along an axis with the average's silhouette around it."""
    # The lateral view is seen from the left, the frontal one from the front, the axial one from below.
    order = np.moveaxis(np.flip(distance, axis) if axis in (0, 2) else distance, axis, 0)
    first = (order < 0).argmax(0)
    hit = (order < 0).any(0)
    # The surface lies between the first voxel inside and the one before it.
    inside = np.take_along_axis(order, first[None], 0)[0]
    before = np.take_along_axis(order, np.maximum(first - 1, 0)[None], 0)[0]
    depth = np.where(hit, first + inside / np.maximum(before - inside, 1e-3), np.nan)
    down, right = np.gradient(depth)
    down, right = (np.nan_to_num(slope, nan=2.0) for slope in (down, right))
    light = np.clip((0.8 + 0.35 * down + 0.25 * right) / np.sqrt(1 + down**2 + right**2), 0, 1)
    near = 1 - np.clip(np.nan_to_num(depth) * PIXEL_MM / 110, 0, 1)
    grey = np.where(hit, 40 + 215 * light * (0.4 + 0.6 * near), 0)
    image = Image.fromarray(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2))
    draw = ImageDraw.Draw(image)
    if average is not None:
        for line in find_contours(average.min(axis), 0.0):
            draw.line([(float(x), float(y)) for y, x in line], fill=AVERAGE)
    rows, columns = (a for a in range(3) if a != axis)
    x, y = (ROOM_MM[a][0] / PIXEL_MM for a in (columns, rows))
    for dx, dy in ((5, 0), (0, 5)):
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=(255, 90, 90))
    return image


def main(output: Path, levels: tuple[Level, ...] = (), subjects: tuple[str, ...] = ()) -> None:
    """Write ``library_cervical.jpg``, ``library_thoracic.jpg`` and ``library_lumbar.jpg``.

    Raises:
        UserError: an unknown level or subject.
    """
    numbers = levels or LEVEL_ORDER
    chosen = subjects or tuple(shape_subjects())
    for subject in chosen:
        vertebrae_of(subject)
    output.mkdir(parents=True, exist_ok=True)
    for part in dict.fromkeys(region(number) for number in numbers):
        sheet = draw_region(part, [n for n in numbers if region(n) == part], chosen)
        if sheet is not None:
            sheet.save(output / f"library_{part}.jpg", quality=72)
            print(output / f"library_{part}.jpg")


if __name__ == "__main__":
    run_module(main)
