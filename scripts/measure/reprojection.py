"""The reconstruction seen on the films it was made from: outlines, and whether it lies where it was marked.

Every vertebra is projected back on both films, on a raster of about 1 mm in the patient. What is checked, and what
these checks find, is in ``docs/measurements.md``. A vertebra at a wrong mark is caught by
`scripts.measure.plausibility`, which asks its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.affines import apply_affine
from skimage.measure import find_contours

from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.spine.assembly import ReconstructedVertebra

RASTER_MM = 1.0
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
    """How one vertebra lies on one film.

    Args:
        mark_mm: distance of the body's middle from the mark, in the film, mm in the patient; None without a body.
        outside: share of the shadow that lies beyond the film.
    """

    mark_mm: float | None
    outside: float

    @property
    def drifted(self) -> bool:
        """Whether the body lies too far from its mark."""
        return self.mark_mm is not None and self.mark_mm > MAX_MARK_MM

    @property
    def complaints(self) -> list[str]:
        """What is wrong, in words; nothing if the film and the vertebra agree."""
        return [f"its body lies {self.mark_mm:.0f} mm from the mark"] if self.drifted else []


def raster_of(view: View, parts: Sequence[ReconstructedVertebra]) -> Raster:
    """The raster that holds all vertebrae in a view.

    Args:
        view: of the film.
        parts: found vertebrae.
    """
    corners = np.concatenate([_corners(part) for part in parts])
    step = RASTER_MM / view.pixel_size_mm(corners.mean(0))[0]
    pixels = view.project(corners) / step
    low, high = np.floor(pixels.min(0)), np.ceil(pixels.max(0))
    first = low * step
    coarse = replace(
        view,
        principal_point=_pair((np.asarray(view.principal_point) - first) / step),
        pixel_spacing_mm=_pair(np.asarray(view.pixel_spacing_mm) * step),
        shape=(int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1),
    )
    return Raster(coarse, first, step)


def cast_shadow(part: ReconstructedVertebra, raster: Raster) -> Shadow:
    """The projection of one vertebra's mask on a raster: each voxel is shared among the four pixels around it.

    Args:
        part: a found vertebra, one of those that the raster was made for.
        raster: of the film.
    """
    assert part.box is not None
    grid = part.vertebra.cube.grid
    voxels = np.argwhere(part.mask[part.box]) + [s.start for s in part.box]
    pixels = raster.view.project(grid.to_world(voxels))
    low = np.floor(pixels.min(0)).astype(int)
    area = float(np.prod(raster.view.pixel_size_mm(_corners(part).mean(0))[0]))
    thickness = _splat(pixels - low) * np.float32(grid.spacing_mm**3 / area)
    outlines = tuple(raster.to_film(line - 1 + low) for line in find_contours(np.pad(thickness, 1), OUTLINE_MM))
    return Shadow((int(low[0]), int(low[1])), thickness, outlines)


def compare(
    shape: tuple[int, int], raster: Raster, shadow: Shadow, mark: np.ndarray, body: np.ndarray | None
) -> Agreement:
    """How one vertebra lies on a film.

    Args:
        shape: the film's rows and columns.
        raster: of that film.
        shadow: of the vertebra.
        mark: film pixel (2,).
        body: world mm (3,) of the body's middle, or None.
    """
    covered = raster.to_film(np.argwhere(shadow.thickness > OUTLINE_MM) + shadow.corner)
    beyond = ((covered < -0.5) | (covered > np.array(shape) - 0.5)).any(1)
    away = None
    if body is not None:
        # In the patient's mm at the vertebra's own depth.
        film_pixels = raster.to_film(raster.view.project(body)[0]) - mark
        away = float(np.linalg.norm(film_pixels / raster.step * raster.view.pixel_size_mm(body)[0]))
    return Agreement(away, float(beyond.mean()) if len(beyond) else 0.0)


def reproject(
    geometry: BiplanarGeometry,
    films: tuple[np.ndarray, np.ndarray],
    parts: Sequence[ReconstructedVertebra],
    bodies: Sequence[np.ndarray | None],
) -> tuple[list[tuple[Shadow, Shadow]], list[tuple[Agreement, Agreement]]]:
    """Shadows on both films, and how they lie there, for each of the found vertebrae.

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
        rows, columns = film.shape
        agreements.append(
            [
                compare((rows, columns), raster, shadow, part.vertebra.pixels[which], body)
                for shadow, part, body in zip(cast, parts, bodies, strict=True)
            ]
        )
    return list(zip(*shadows, strict=True)), list(zip(*agreements, strict=True))


def _splat(pixels: np.ndarray) -> np.ndarray:
    """How many points (N, 2) fall on each pixel from (0, 0) on, float32, each shared among the four around it."""
    first = np.floor(pixels).astype(int)
    part = pixels - first
    rows, columns = first.max(0) + 2
    place = first[:, 0] * columns + first[:, 1]
    total = np.zeros(rows * columns)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - across - part[:, 1])
        total += np.bincount(place + down * columns + across, weight, rows * columns)
    return total.reshape(rows, columns).astype(np.float32)


def _corners(part: ReconstructedVertebra) -> np.ndarray:
    """World corners (8, 3) of the mask's box."""
    assert part.box is not None
    ends = [(s.start - 0.5, s.stop - 0.5) for s in part.box]
    index = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return apply_affine(part.vertebra.cube.grid.affine, index)


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
