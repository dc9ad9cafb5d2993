"""One picture a case to look for mistakes: both films with the vertebrae's outlines, and what was decided on each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.items import VertebraItem
from scripts.data.patient import PatientVolume
from scripts.data.silhouettes import outline, silhouettes
from scripts.drawing import BACKGROUND, FAINT, TEXT, Colour, film_grey, font, name_plate, spread, vivid_colour
from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.levels import level_number

FILE_NAME = "contact_sheet.png"
# Of an excluded vertebra; no level has this hue.
EXCLUDED: Colour = (255, 64, 255)

# Sizes in screen pixels. A name has its place beside the film if the film is too narrow.
_HEIGHT, _GAP, _GUTTER, _HEADER, _NAME, _LINE = 1100, 24, 56, 96, 15, 19
# The table's columns from its left edge: level, centroid, clipped, border, decision; its own width, one character's.
_COLUMNS, _TABLE, _CHARACTER = (0, 48, 142, 214, 306), 780, 6.6
_TITLES = ("level", "centroid", "clipped", "at border", "decision")


def write_contact_sheet(
    folder: Path,
    films: tuple[np.ndarray, np.ndarray],
    patient: PatientVolume,
    geometry: BiplanarGeometry,
    items: Sequence[VertebraItem],
    title: str,
) -> None:
    """Write `draw_contact_sheet`'s picture into a case's folder; the same case gives the same bytes."""
    sheet = draw_contact_sheet(films, patient, geometry, items, title)
    sheet.save(folder / FILE_NAME, format="PNG", compress_level=4)


def draw_contact_sheet(
    films: tuple[np.ndarray, np.ndarray],
    patient: PatientVolume,
    geometry: BiplanarGeometry,
    items: Sequence[VertebraItem],
    title: str,
) -> Image.Image:
    """Both films at one scale with outlines, body centroids and names; below them one line a vertebra.

    Outlines are whole for vertebrae without any fault, dashed where the border of the field of view or of the cube
    takes something away, and dashed in one colour of their own where the vertebra is excluded.

    Args:
        films: AP (rows I, columns L) and LAT (rows I, columns P), bones bright.
        patient: labelmap, grid, centroids, evidence of the orientation.
        geometry: of the films; one pixel a voxel in the plane of the grid's centre.
        items: one a vertebra, from head to foot.
        title: the case's key; names of patients have no place here.
    """
    scale = int(np.clip(_HEIGHT // max(films[0].shape[0], films[1].shape[0]), 1, 4))
    panels = [
        draw_view(film, view, patient, items, scale, side)
        for film, view, side in ((films[0], geometry.ap, 1), (films[1], geometry.lat, -1))
    ]
    table = _table(items, max(sum(p.width for p in panels) + _GAP, _TABLE))
    evidence = _evidence(patient, items)
    width = max(table.width, round(font(_NAME).getlength(evidence))) + 2 * _GAP
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (width, _HEADER + height + table.height + 2 * _GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 14), title, fill=TEXT, font=font(24))
    draw.text((_GAP, 46), evidence, fill=FAINT, font=font(_NAME))
    x = _GAP
    for panel, view, name in zip(panels, (geometry.ap, geometry.lat), ("AP", "LAT"), strict=True):
        sheet.paste(panel, (x, _HEADER))
        # The gutter lies right of the AP film and left of the LAT film.
        left, right = (x, x + panel.width - _GUTTER) if name == "AP" else (x + _GUTTER, x + panel.width)
        for place, anchor, text in zip(
            (left, (left + right) // 2, right), ("lb", "mb", "rb"), _sides(view), strict=True
        ):
            draw.text((place, _HEADER - 4), text or name, fill=TEXT, font=font(18), anchor=anchor)
        x += panel.width + _GAP
    sheet.paste(table, (_GAP, _HEADER + height + _GAP))
    return sheet


def draw_view(
    film: np.ndarray, view: View, patient: PatientVolume, items: Sequence[VertebraItem], scale: int, side: int
) -> Image.Image:
    """One film with outlines, crosses and names, and a gutter beside it for names.

    Args:
        film: (rows, columns), bones bright.
        view: its geometry.
        patient: labelmap and centroids.
        items: one a vertebra, from head to foot.
        scale: screen pixels a film pixel.
        side: 1: names and gutter on the right; -1: on the left.
    """
    rows, columns = (n * scale for n in film.shape)
    grey = film_grey(film).resize((columns, rows), Image.Resampling.BICUBIC)
    picture = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    shadows = silhouettes(patient, view)
    ends, heights, middles = [], [], []
    for item in items:
        shadow = shadows[level_number(item.level)]
        first, line = outline(shadow, scale, dashed=bool(item.excluded) or _touched(item))
        inside = picture[first[0] : first[0] + line.shape[0], first[1] : first[1] + line.shape[1]]
        inside[line] = _colour(item)
        pixel = view.project(patient.centroids[level_number(item.level)])[0]
        # A cone beam may throw a sliver at the border beside the film.
        filled = np.flatnonzero(shadow.any(0)) if shadow.any() else np.rint(pixel[1:]).astype(int)
        middles.append(tuple((pixel[::-1] + 0.5) * scale - 0.5))
        ends.append((filled[-1] + 1 if side > 0 else filled[0]) * scale)
        heights.append(float(middles[-1][1]))
    panel = Image.new("RGB", (columns + _GUTTER, rows), BACKGROUND)
    offset = 0 if side > 0 else _GUTTER
    panel.paste(Image.fromarray(picture), (offset, 0))
    draw = ImageDraw.Draw(panel)
    names = spread(heights, _LINE, _LINE / 2, rows - _LINE / 2)
    edge = max(ends, default=0) + 10 if side > 0 else min(ends, default=0) - 10
    column = min(edge, columns) if side > 0 else max(edge, 0) + offset
    for item, end, (x, y), height in zip(items, ends, middles, names, strict=True):
        draw.line([(end + side * 2 + offset, y), (column + side * 4, height)], fill=_colour(item))
        name_plate(draw, (column, height), item.level, _colour(item), side, _NAME)
        for reach, colour in ((6, BACKGROUND), (5, _colour(item))):
            thickness = 5 if colour == BACKGROUND else 2
            draw.line([(x + offset - reach, y), (x + offset + reach, y)], fill=colour, width=thickness)
            draw.line([(x + offset, y - reach), (x + offset, y + reach)], fill=colour, width=thickness)
    return panel


def _sides(view: View) -> tuple[str, str, str]:
    """Which side of the patient lies at the film's left edge and at its right one, from its geometry."""
    axis = int(np.abs(view.column_direction).argmax())
    letters = ("LR", "PA", "IS")[axis]
    right = int(view.column_direction[axis] > 0)
    return letters[1 - right], "", letters[right]


def _touched(item: VertebraItem) -> bool:
    return item.clipped_fraction > 0 or item.border_contact_mm2 > 0


def _colour(item: VertebraItem) -> Colour:
    return EXCLUDED if item.excluded else vivid_colour(level_number(item.level))


def _evidence(patient: PatientVolume, items: Sequence[VertebraItem]) -> str:
    found = patient.orientation
    excluded = sum(bool(item.excluded) for item in items)
    return (
        f"{len(items)} vertebrae, {excluded} excluded.  Orientation: centre of mass {found.behind_mm:.1f} mm behind "
        f"the body centroid (median), levels {'' if found.levels_descend else 'do not '}descend "
        f"({found.compared} of {len(items)} judged)"
    )


def _table(items: Sequence[VertebraItem], width: int) -> Image.Image:
    """One line a vertebra under column titles, in as many blocks beside each other as there is room for."""
    blocks = max(width // _TABLE, 1)
    block = width // blocks
    decisions = [f"excluded: {item.excluded}" if item.excluded else "used" for item in items]
    texts = [textwrap.wrap(d, int((block - _COLUMNS[-1] - _GAP) / _CHARACTER)) for d in decisions]
    share = -(-len(items) // blocks)
    lines = max(sum(map(len, texts[i : i + share])) for i in range(0, len(items), share))
    table = Image.new("RGB", (width, _LINE * (lines + 1)), BACKGROUND)
    draw = ImageDraw.Draw(table)
    for i, (item, decision) in enumerate(zip(items, texts, strict=True)):
        x = block * (i // share)
        if i % share == 0:
            _row(draw, x, 0, _TITLES, FAINT)
            y = _LINE
        cells = (item.level, item.centroid_source, f"{item.clipped_fraction:.1%}", f"{item.border_contact_mm2:.0f} mm2")
        _row(draw, x, y, (*cells, "\n".join(decision)), _colour(item) if item.excluded or _touched(item) else TEXT)
        y += _LINE * len(decision)
    return table


def _row(draw: ImageDraw.ImageDraw, x: int, y: int, cells: Sequence[str], colour: Colour) -> None:
    for column, cell in zip(_COLUMNS, cells, strict=True):
        for i, text in enumerate(cell.split("\n")):
            draw.text((x + column, y + i * _LINE), text, fill=colour, font=font(14))
