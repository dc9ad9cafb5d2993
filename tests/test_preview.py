"""The picture shows the spine from the side it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.render.preview import compose, draw_panels, drawn_spine
from scripts.render.surfaces import ANGLES, View, render_surfaces
from tests.drawn_labelmaps import picture, spine_of, surfaces_of


def markers() -> np.ndarray:
    """A column with one marker up, one on the patient's left and one behind, each another level."""
    labels = np.zeros((80, 60, 60), np.uint8)
    labels[20:70, 25:35, 25:35] = 20
    labels[4:12, 26:34, 26:34] = 19
    labels[40:48, 26:34, 48:56] = 21
    labels[40:48, 48:56, 26:34] = 22
    return labels


def write_preview(
    path: Path,
    ap: np.ndarray,
    lat: np.ndarray,
    marks: dict,
    labels: np.ndarray,
    title: str,
    mm: tuple = (1.0, 1.0),
) -> None:
    """The picture that `reconstruct` writes, of a labelmap of 1 mm."""
    panels, levels, scale = draw_panels(ap, lat, marks, spine_of(labels), ((mm[0], mm[0]), (mm[1], mm[1])))
    path.parent.mkdir(parents=True, exist_ok=True)
    compose(panels, title, levels, scale, frozenset()).save(path)


def place(image: np.ndarray, number: int) -> np.ndarray | None:
    """Mean (row, column) of the pixels whose hue is a level's, as shares of the image's size."""
    colour = np.array(level_colour(number)) / np.linalg.norm(level_colour(number))
    pixels = image.astype(float)
    bright = np.linalg.norm(pixels, axis=-1)
    alike = (pixels @ colour / np.maximum(bright, 1) > 0.998) & (bright > 80)
    return np.argwhere(alike).mean(0) / image.shape[:2] if alike.sum() > 10 else None


@pytest.mark.parametrize(
    ("view", "number", "side"),
    [("front", 21, "right"), ("back", 21, "left"), ("left", 22, "right"), ("front", 19, "top"), ("left", 19, "top")],
)
def test_markers_appear_where_they_should(view: View, number: int, side: str) -> None:
    image = picture(markers(), view, 2.0)
    row, column = place(image, number)
    assert {"right": column > 0.6, "left": column < 0.4, "top": row < 0.25}[side]


def test_what_is_behind_is_hidden() -> None:
    assert place(picture(markers(), "front", 2.0), 22) is None
    assert place(picture(markers(), "back", 2.0), 22) is not None


def test_pixels_that_are_not_square_are_drawn_as_they_are() -> None:
    """The same films in pixels of 2 x 1 mm: half the rows, the same picture."""
    marks = {20: ((45.0, 30.0), (45.0, 30.0))}
    film = np.zeros((80, 60), np.float32)
    film[20:60, 20:40] = 1.0
    square, _, _ = draw_panels(film, film, marks, spine_of(markers()))
    flat_marks = {20: ((22.25, 30.0), (22.25, 30.0))}
    outlines = {20: ([np.array([[9.5, 19.5], [9.5, 39.5], [29.5, 39.5], [29.5, 19.5]])],) * 2}
    flat, _, _ = draw_panels(film[::2], film[::2], flat_marks, spine_of(markers()), ((2.0, 1.0), (2.0, 1.0)))
    lined, _, _ = draw_panels(film[::2], film[::2], flat_marks, spine_of(markers()), ((2.0, 1.0),) * 2, outlines)
    key = ("AP radiograph", "R", "L")
    one, other, drawn = (np.asarray(panels[key].convert("L"), float) for panels in (square, flat, lined))
    assert one.shape == other.shape and np.abs(one - other).mean() < 4
    # The outline runs along the bright field's border (looked at above the vertebra's name).
    pixels = (np.nonzero(np.abs(drawn - other)[:150] > 40), np.nonzero(other[:150] > 128))
    edges = [[(where[axis].min(), where[axis].max()) for axis in (0, 1)] for where in pixels]
    assert np.abs(np.subtract(*edges)).max() <= 8


def test_preview_is_one_png_with_all_panels(tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    films = [np.random.default_rng(0).random((80, 60)).astype(np.float32) for _ in range(2)]
    marks = {20: ((45.0, 30.0), (45.0, 30.0))}
    marked, _, _ = draw_panels(films[0], films[1], marks, spine_of(np.zeros((80, 60, 60), np.uint8)))
    whole, levels, _ = draw_panels(films[0], films[1], marks, spine_of(markers()))
    assert [caption for caption, _, _ in marked] == ["AP radiograph", "Lateral radiograph"]
    assert [caption for caption, _, _ in whole] == [*(c for c, _, _ in marked), "Side, 60°", "From above"]
    assert levels == [19, 20, 21, 22]
    write_preview(path, films[0], films[1], marks, markers(), "case")
    assert [file.name for file in tmp_path.iterdir()] == ["preview.png"]
    sheet = np.asarray(Image.open(path).convert("RGB"))
    lefts = [left_of(np.asarray(panel.convert("RGB")), sheet) for panel in whole.values()]
    assert lefts[0] >= 0 and lefts == sorted(set(lefts))


def left_of(panel: np.ndarray, sheet: np.ndarray) -> int:
    """The column of a sheet at which a picture in it begins; -1 if it is not there whole."""
    busiest = int(panel.std((1, 2)).argmax())
    for row in range(busiest, len(sheet)):
        left = sheet[row].tobytes().find(panel[busiest].tobytes()) // 3
        if left >= 0 and np.array_equal(sheet[row - busiest :, left:][: len(panel), : panel.shape[1]], panel):
            return left
    return -1


def ball(radius: float) -> np.ndarray:
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices((40, 50, 60)), (19.5, 24.5, 29.5), strict=True)))
    return np.where(distance < radius, 15, 0).astype(np.uint8)


def drawn(image: np.ndarray) -> np.ndarray:
    """Pixels that differ from the background, which the corner shows."""
    return np.abs(image.astype(int) - image[0, 0]).max(axis=-1) > 8


@pytest.mark.parametrize(("view", "width_mm"), [("front", 60), ("left", 50), ("back", 60), ("oblique", 110 / 2**0.5)])
@pytest.mark.parametrize(("scale", "voxel_mm"), [(2.0, 1.0), (3.3, 0.7)])
def test_scale_shape_and_gapless_surface(view: View, width_mm: float, scale: float, voxel_mm: float) -> None:
    image = picture(ball(14), view, scale, voxel_mm)
    assert image.dtype == np.uint8
    assert np.abs(np.array(image.shape) - [40 * voxel_mm * scale, width_mm * voxel_mm * scale, 3]).max() <= 0.5
    silhouette = drawn(image)
    assert silhouette.sum() == pytest.approx(np.pi * (14 * voxel_mm * scale) ** 2, rel=0.05)
    assert (binary_fill_holes(silhouette) == silhouette).all()
    assert np.allclose(np.argwhere(silhouette).mean(axis=0), (np.array(image.shape[:2]) - 1) / 2, atol=0.6)


def test_surfaces_are_drawn_where_the_labelmap_has_them() -> None:
    labels, voxel_mm = markers(), 0.7
    spine = drawn_spine(labels, voxel_mm, surfaces_of(labels, voxel_mm))
    used = np.argwhere(labels)
    crop = np.pad(labels[tuple(slice(low, high + 1) for low, high in zip(used.min(0), used.max(0), strict=True))], 3)
    # Each view as a stack of slices from the viewer's eye on, rows downwards, columns to the viewer's right.
    stacks: dict[View, np.ndarray] = {
        "front": crop.transpose(1, 0, 2),
        "left": crop.transpose(2, 0, 1)[::-1],
        "back": crop.transpose(1, 0, 2)[::-1, :, ::-1],
        "top": crop[:, ::-1],
    }
    for view, stack in stacks.items():
        first = (stack > 0).argmax(0)
        expected = np.take_along_axis(stack, first[None], 0)[0]
        _, found = render_surfaces(spine.surfaces, spine.size_mm, ANGLES[view], 1 / voxel_mm)
        assert found.shape == expected.shape, view
        either = (found > 0) | (expected > 0)
        assert (found == expected)[either].mean() > 0.8, view


def test_thin_parts_stay_and_light_comes_from_above() -> None:
    plate = np.zeros((40, 40, 40), np.uint8)
    plate[10:30, 5:35, 19] = 20
    assert drawn(picture(plate, "left", 2.0)).sum() == pytest.approx(40 * 60, rel=0.15)
    image = picture(ball(14), "front", 2.0).astype(float).sum(axis=-1)
    assert image[22:30, 55:65].mean() > 1.2 * image[50:58, 55:65].mean()


def test_oblique_looks_from_behind_on_the_left() -> None:
    image = picture(markers(), "oblique", 2.0)
    # Both the marker behind and the one on the left are in sight: the former on the right, the latter on the left.
    behind, left = place(image, 22), place(image, 21)
    assert behind is not None and left is not None
    assert left[1] < 0.5 < behind[1]


def test_nothing_to_see_is_plain_background() -> None:
    assert not drawn(picture(np.zeros((10, 10, 10), np.uint8), "front", 2.0)).any()


@pytest.mark.parametrize("pixel_mm", [(1.0, 1.0), (0.5, 0.8)])
def test_marks_lie_on_the_bone_they_mark_and_beside_its_surface(tmp_path: Path, pixel_mm: tuple[float, float]) -> None:
    # One bright square a film; the labelmap's vertebra stands at another height, as on a grid of its own.
    films = [np.zeros((round(200 / mm), round(160 / mm)), np.float32) for mm in pixel_mm]
    spots = [(round(height / mm), round(70 / mm)) for height, mm in zip((110, 90), pixel_mm, strict=True)]
    for film, (row, column), mm in zip(films, spots, pixel_mm, strict=True):
        reach = round(20 / mm)
        film[row - reach : row + reach + 1, column - reach : column + reach + 1] = 5.0
        film[0, 0] = np.nan
    labels = np.zeros((60, 40, 40), np.uint8)
    labels[15:35, 10:30, 10:30] = 9
    write_preview(tmp_path / "new" / "p.png", *films, {9: (spots[0], spots[1])}, labels, "case", pixel_mm)
    sheet = np.asarray(Image.open(tmp_path / "new" / "p.png").convert("RGB")).astype(int)
    white = (sheet == 255).all(axis=-1)
    blocks = [run for run in np.split(np.arange(sheet.shape[1]), np.flatnonzero(np.diff(white.any(0).astype(int))) + 1)]
    squares = [run for run in blocks if white[:, run].any() and run.size > 60]
    assert len(squares) == 2  # AP and LAT film
    tint = np.abs(sheet - level_colour(9)).max(axis=-1) < 6
    centres = []
    for run in squares:
        rows = np.flatnonzero(white[:, run].any(axis=1))
        middle = round(float(rows.mean())), round(float(run.mean()))
        assert tint[middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3].any()
        assert rows.size == pytest.approx(run.size, abs=4)
        centres.append(rows.mean())
    assert centres[0] == pytest.approx(centres[1], abs=3)
    spine = np.argwhere(drawn(sheet)[104:-62, squares[1][-1] + 400 :])
    assert spine[:, 0].mean() + 104 == pytest.approx(centres[0], abs=6)


def test_labels_that_are_no_vertebra_are_refused(tmp_path: Path) -> None:
    film = np.zeros((20, 20), np.float32)
    with pytest.raises(UserError, match="27"):
        write_preview(tmp_path / "p.png", film, film, {27: ((1, 1), (1, 1))}, markers(), "case")
    assert not (tmp_path / "p.png").exists()


def test_marks_outside_the_film_and_a_blank_film_still_give_a_picture(tmp_path: Path) -> None:
    film = np.full((30, 30), np.nan, np.float32)
    write_preview(tmp_path / "p.png", film, film, {20: ((500.0, -90.0), (-50.0, 700.0))}, markers(), "case")
    assert Image.open(tmp_path / "p.png").size[0] > 600
