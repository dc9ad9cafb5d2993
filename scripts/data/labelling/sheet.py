"""A picture of a fitted case: every vertebra's outline on sagittal, coronal and axial slices, to accept or reject."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from scripts.data.labelling.fit import FittedVertebra
from scripts.data.labelling.slices import WINDOW_HU
from scripts.data.labelling.volume import CtVolume
from scripts.drawing import BACKGROUND, FAINT, TEXT, font, vivid_colour
from scripts.levels import level_name

_SCALE = 3
_AXIAL_MM, _AXIAL_COLUMNS = 84.0, 4
# Behind the bodies: where a coronal slice shows arches and processes.
_ARCH_MM = (14.0, 30.0)


def draw_sheet(
    ct: CtVolume,
    labels: np.ndarray,
    fitted: list[FittedVertebra],
    title: str,
    remarks: dict[int, str] | None = None,
) -> Image.Image:
    """Mid-sagittal, two coronal slices that follow the spine (bodies, arches), and an axial slice of each vertebra.

    Args:
        ct: on its grid.
        labels: (I, P, L) VerSe numbers on the same grid.
        fitted: from head to foot.
        title: the case.
        remarks: VerSe number -> a few words under its axial slice.
    """
    places = np.stack([ct.grid.to_index(v.centroid_mm) for v in fitted])
    rows = np.arange(max(int(places[:, 0].min() - 14), 0), min(int(places[:, 0].max() + 22), ct.hu.shape[0]))
    panels = [_following(ct, labels, places, rows, 2, 0.0)]
    panels += [_following(ct, labels, places, rows, 1, off / ct.grid.spacing_mm) for off in (0.0, *_ARCH_MM)]
    tiles = [_axial(ct, labels, vertebra, (remarks or {}).get(vertebra.level, "")) for vertebra in fitted]
    side = tiles[0].width + 4
    columns = _AXIAL_COLUMNS
    lines = -(-len(tiles) // columns)
    height = max(max(p.height for p in panels), lines * (tiles[0].height + 4)) + 30
    sheet = Image.new("RGB", (sum(p.width + 6 for p in panels) + columns * side, height), BACKGROUND)
    ImageDraw.Draw(sheet).text((6, 5), title, fill=TEXT, font=font(17))
    x = 0
    for panel in panels:
        sheet.paste(panel, (x, 28))
        x += panel.width + 6
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (x + (i % columns) * side, 28 + (i // columns) * (tile.height + 4)))
    return sheet


def _following(
    ct: CtVolume, labels: np.ndarray, places: np.ndarray, rows: np.ndarray, axis: int, off: float
) -> Image.Image:
    """A slice that follows the bodies in ``axis`` (2: sagittal, 1: coronal), moved back by ``off`` voxels."""
    order = np.argsort(places[:, 0])
    at = np.interp(rows, places[order, 0], places[order, axis]) + off
    at = np.clip(np.rint(at).astype(int), 0, ct.hu.shape[axis] - 1)
    other = 1 if axis == 2 else 2
    reach = (24, 42) if axis == 2 else (34, 34)
    low = max(int(places[:, other].min() - reach[0]), 0)
    high = min(int(places[:, other].max() + reach[1]), ct.hu.shape[other])
    if axis == 2:
        hu, drawn = ct.hu[rows, low:high, at], labels[rows, low:high, at]
    else:
        hu, drawn = ct.hu[rows, at, low:high], labels[rows, at, low:high]
    return _outlined(hu, drawn)


def _axial(ct: CtVolume, labels: np.ndarray, vertebra: FittedVertebra, remark: str) -> Image.Image:
    """Across the vertebra's own axis, from its centroid 4 mm down where the arch is closed."""
    steps = np.arange(-_AXIAL_MM / 2, _AXIAL_MM / 2, ct.grid.spacing_mm)
    own = np.zeros((len(steps), len(steps), 3))
    own[..., 0], own[..., 1], own[..., 2] = 4.0, steps[:, None] + 16, steps[None]
    axes = vertebra.frame.axes
    index = np.moveaxis(ct.grid.to_index(vertebra.centroid_mm + own @ axes), -1, 0)
    hu = ndimage.map_coordinates(ct.hu, index, order=1, mode="constant", cval=-1000.0)
    drawn = ndimage.map_coordinates(labels, index, order=0, mode="constant")
    picture = _outlined(hu, drawn)
    draw = ImageDraw.Draw(picture)
    colour = vivid_colour(vertebra.level)
    draw.text((3, 2), level_name(vertebra.level), fill=colour, font=font(14))
    draw.text((3, picture.height - 14), f"{vertebra.agreement:.2f} {remark}", fill=FAINT, font=font(11))
    return picture


def _outlined(hu: np.ndarray, labels: np.ndarray) -> Image.Image:
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1) ** 0.7 * 255
    size = (hu.shape[1] * _SCALE, hu.shape[0] * _SCALE)
    picture = np.array(Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    large = np.kron(labels, np.ones((_SCALE, _SCALE), labels.dtype))
    for number in np.unique(labels):
        if number:
            inside = large == number
            picture[inside & ~ndimage.binary_erosion(inside)] = vivid_colour(int(number))
    return Image.fromarray(picture)
