"""The reconstruction seen on the films it was made from: outlines, and whether both agree.

Every vertebra is projected back on both films, on a raster of about 1 mm in the patient. There three things are asked:

* **correlation** of the projected spine's thickness with the film, in and just around the vertebra's shadow, after a
  band-pass took from both what varies slowly (soft tissue, exposure);
* **offset**: by how much the shadow would have to be moved on the film to correlate best;
* **mark**: how far the middle of the reconstructed body lies from the mark that it was made from.

What these find, and what they miss, is measured in ``docs/measurements.md``. A vertebra at a wrong mark is caught
more surely by `scripts.measure.plausibility`, which asks its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, maximum_filter
from skimage.measure import find_contours

from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.geometry.cropping import smooth_for_pitch
from scripts.geometry.frames import apply_affine
from scripts.spine.assembly import ReconstructedVertebra

VIEWS = ("ap", "lat")
RASTER_MM = 1.0
# The band of sizes that is compared; the ring around a shadow that is looked at as well; the farthest move tried.
FAST_MM, SLOW_MM, RING_MM, SEARCH_MM, SEARCH_STEP_MM = 0.5, 4.0, 4.0, 12, 2
# A film disagrees if it correlates less than this here, and by so much more at a place that far away.
MIN_CORRELATION, MIN_GAIN, MAX_OFFSET_MM = 0.15, 0.25, 5.0
MAX_MARK_MM = 8.0
# A chord through less bone than this is no outline.
OUTLINE_MM = 1.0


@dataclass(frozen=True)
class Raster:
    """A coarser, cut-out view of a film.

    Args:
        view: its geometry.
        first: film pixel (row, column) of its first pixel.
        step: film pixels from one of its pixels to the next.
    """

    view: View
    first: np.ndarray
    step: np.ndarray

    def to_film(self, pixels: np.ndarray) -> np.ndarray:
        """Raster pixels (..., 2) -> film pixels."""
        return pixels * self.step + self.first


@dataclass(frozen=True)
class Shadow:
    """One vertebra on one film.

    Args:
        corner: first (row, column) of its window in the raster.
        thickness: (rows, columns) mm of bone along the ray.
        outlines: (N, 2) each, film pixels (row, column), closed.
    """

    corner: tuple[int, int]
    thickness: np.ndarray
    outlines: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Agreement:
    """How well one vertebra fits one film.

    Args:
        correlation: -1 to 1.
        offset_mm: (down, along the columns) by which the film shows it elsewhere; (0, 0) if no other place is better.
        gain: what the correlation would gain there.
        mark_mm: distance of the body's middle from the mark, in the film, mm in the patient; None without a body.
        outside: share of the shadow that lies beyond the film.
    """

    correlation: float
    offset_mm: tuple[float, float]
    gain: float
    mark_mm: float | None
    outside: float

    @property
    def drifted(self) -> bool:
        """Whether the body lies too far from its mark."""
        return self.mark_mm is not None and self.mark_mm > MAX_MARK_MM

    @property
    def complaints(self) -> list[str]:
        """What is wrong, in words; nothing if the film and the vertebra agree."""
        found = []
        distance = float(np.hypot(*self.offset_mm))
        if self.correlation < MIN_CORRELATION and self.gain > MIN_GAIN and distance > MAX_OFFSET_MM:
            found.append(f"the film shows it {distance:.0f} mm away")
        if self.drifted:
            found.append(f"its body lies {self.mark_mm:.0f} mm from the mark")
        return found


def raster_of(view: View, parts: Sequence[ReconstructedVertebra]) -> Raster:
    """The raster that holds all vertebrae in a view, with a margin to search in.

    Args:
        view: of the film.
        parts: found vertebrae.
    """
    corners = np.concatenate([_corners(part) for part in parts])
    step = RASTER_MM / view.pixel_size_mm(corners.mean(0))[0]
    pixels = view.project(corners) / step
    low, high = np.floor(pixels.min(0)) - SEARCH_MM - 8, np.ceil(pixels.max(0)) + SEARCH_MM + 8
    first = low * step
    coarse = replace(
        view,
        principal_point=_pair((np.asarray(view.principal_point) - first) / step),
        pixel_spacing_mm=_pair(np.asarray(view.pixel_spacing_mm) * step),
        shape=(int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1),
    )
    return Raster(coarse, first, step)


def cast_shadow(part: ReconstructedVertebra, raster: Raster) -> Shadow:
    """The projection of one vertebra's mask on a raster: each voxel is shared among the four pixels around it."""
    assert part.box is not None
    grid = part.vertebra.cube.grid
    voxels = np.argwhere(part.mask[part.box]) + [s.start for s in part.box]
    pixels = raster.view.project(grid.to_world(voxels))
    size = np.array(raster.view.shape)
    pixels = pixels[((pixels > -1) & (pixels < size)).all(1)]
    if not len(pixels):
        return Shadow((0, 0), np.zeros((1, 1), np.float32), ())
    low = np.maximum(np.floor(pixels.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.floor(pixels.max(0)).astype(int) + 3, size - 1)
    area = float(np.prod(raster.view.pixel_size_mm(_corners(part).mean(0))[0]))
    thickness = _splat(pixels - low, (high - low + 1)) * np.float32(grid.spacing_mm**3 / area)
    outlines = tuple(raster.to_film(line - 1 + low) for line in find_contours(np.pad(thickness, 1), OUTLINE_MM))
    return Shadow((int(low[0]), int(low[1])), thickness, outlines)


def compare(
    film: np.ndarray,
    raster: Raster,
    shadows: Sequence[Shadow],
    marks: Sequence[np.ndarray],
    bodies: Sequence[np.ndarray | None],
) -> list[Agreement]:
    """How well each vertebra fits a film.

    Args:
        film: (rows, columns), bones bright.
        raster: of that film.
        shadows: of the vertebrae.
        marks: theirs, film pixel (2,) each.
        bodies: world mm (3,) of the body's middle, or None.
    """
    shape = raster.view.shape
    rows, columns = (np.arange(n) for n in shape)
    where = raster.to_film(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1))
    pixel_mm = RASTER_MM / raster.step
    smooth = smooth_for_pitch(np.nan_to_num(film), (float(pixel_mm[0]), float(pixel_mm[1])), RASTER_MM)
    inside = np.all((where > -0.5) & (where < np.array(film.shape) - 0.5), axis=-1)
    picture = map_coordinates(smooth, np.moveaxis(where, -1, 0), order=1, mode="nearest")
    total: np.ndarray = np.zeros(shape, np.float32)
    for shadow in shadows:
        total[_window(shadow)] += shadow.thickness
    picture, total = _band(picture.astype(np.float32)), _band(total)
    out = []
    for shadow, mark, body in zip(shadows, marks, bodies, strict=True):
        covered: np.ndarray = np.zeros(shape, bool)
        covered[_window(shadow)] = shadow.thickness > OUTLINE_MM
        outside = float((covered & ~inside).sum() / max(covered.sum(), 1))
        ring = _dilated(covered, shadow) & inside
        correlation, offset, gain = _best_place(picture, total, ring)
        away = None
        if body is not None:
            # In the patient's mm at the vertebra's own depth.
            film_pixels = raster.to_film(raster.view.project(body)[0]) - mark
            away = float(np.linalg.norm(film_pixels / raster.step * raster.view.pixel_size_mm(body)[0]))
        out.append(Agreement(correlation, offset, gain, away, outside))
    return out


def reproject(
    geometry: BiplanarGeometry,
    films: tuple[np.ndarray, np.ndarray],
    parts: Sequence[ReconstructedVertebra],
    bodies: Sequence[np.ndarray | None],
) -> tuple[list[tuple[Shadow, Shadow]], list[tuple[Agreement, Agreement]]]:
    """Shadows on both films, and how well they fit, for each of the found vertebrae.

    Args:
        geometry: of the films.
        films: AP and LAT.
        parts: found vertebrae, at least one.
        bodies: world mm (3,) of each body's middle, or None.
    """
    shadows, agreements = [], []
    for which, (view, film) in enumerate(zip((geometry.ap, geometry.lat), films, strict=True)):
        raster = raster_of(view, parts)
        cast = [cast_shadow(part, raster) for part in parts]
        shadows.append(cast)
        marks = [part.vertebra.pixels[which] for part in parts]
        agreements.append(compare(film, raster, cast, marks, bodies))
    return list(zip(*shadows, strict=True)), list(zip(*agreements, strict=True))


def _best_place(picture: np.ndarray, total: np.ndarray, ring: np.ndarray) -> tuple[float, tuple[float, float], float]:
    """Correlation at home, the move (rows, columns) to where it is best, and what it gains."""
    rows, columns = np.nonzero(ring)
    if len(rows) < 50:
        return 0.0, (0.0, 0.0), 0.0
    template = total[rows, columns]
    template = template - template.mean()
    norm = float(np.linalg.norm(template))
    moves = np.arange(-SEARCH_MM, SEARCH_MM + 1, SEARCH_STEP_MM)
    middle = len(moves) // 2
    scores = np.full((len(moves), len(moves)), -1.0)
    limit = np.array(picture.shape) - 1
    there_columns = np.clip(columns + moves[:, None], 0, limit[1])
    for i, down in enumerate(moves):
        there = picture[np.clip(rows + down, 0, limit[0]), there_columns]
        there = there - there.mean(axis=1, keepdims=True)
        scores[i] = there @ template / np.maximum(norm * np.linalg.norm(there, axis=1), 1e-9)
    home = scores[middle, middle]
    # A best place at the border of what was tried is none: the correlation may rise further.
    peak = scores == maximum_filter(scores, 3)
    peak[[0, -1], :] = peak[:, [0, -1]] = False
    peak[middle, middle] = True
    scores = np.where(peak, scores, -1.0)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    move = (float(moves[row]) * RASTER_MM, float(moves[column]) * RASTER_MM)
    return float(home), move, float(scores[row, column] - home)


def _splat(pixels: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """How many points (N, 2) fall on each pixel, (rows, columns) float32, each shared among the four around it."""
    # Points beyond the first or the last pixel fall into the rim.
    rows, columns = shape + 2
    first = np.floor(pixels).astype(int)
    part = pixels - first
    place = (first[:, 0] + 1) * columns + first[:, 1] + 1
    total = np.zeros(rows * columns)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - across - part[:, 1])
        total += np.bincount(place + down * columns + across, weight, rows * columns)
    return total.reshape(rows, columns)[1:-1, 1:-1].astype(np.float32)


def _band(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, FAST_MM / RASTER_MM) - gaussian_filter(image, SLOW_MM / RASTER_MM)


def _window(shadow: Shadow) -> tuple[slice, slice]:
    return tuple(slice(c, c + n) for c, n in zip(shadow.corner, shadow.thickness.shape, strict=True))  # type: ignore


def _dilated(covered: np.ndarray, shadow: Shadow) -> np.ndarray:
    margin = round(RING_MM / RASTER_MM)
    window = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in _window(shadow))
    out = np.zeros_like(covered)
    out[window] = binary_dilation(covered[window], iterations=margin)
    return out


def _corners(part: ReconstructedVertebra) -> np.ndarray:
    """World corners (8, 3) of the mask's box."""
    assert part.box is not None
    ends = [(s.start - 0.5, s.stop - 0.5) for s in part.box]
    index = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return apply_affine(part.vertebra.cube.grid.affine, index)


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
