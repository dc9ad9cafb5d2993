"""Vertebrae back in the patient: from marks to cubes, and from cubes to one labelmap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.cropping import CUBE_SIZE, Cube, place_cube
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.io.annotations import Annotations
from scripts.levels import level_name


@dataclass(frozen=True)
class LocatedVertebra:
    """A vertebra whose marks in the two views have been brought together.

    Args:
        level: VerSe number.
        cube: where it lies.
        pixels: its centroid in AP and LAT, (row, column) each.
        residual_mm: distance of the two rays through the marks; 0 if the marks agree.
        confidence: the lower of the two marks' confidences.
    """

    level: int
    cube: Cube
    pixels: tuple[np.ndarray, np.ndarray]
    residual_mm: float
    confidence: float


def patient_lattice(geometry: BiplanarGeometry, spacing_mm: float = 1.0) -> Grid:
    """The canonical grid that both views share.

    Its first voxel lies under the first pixel of both films, so that with a parallel beam and 1 mm pixels it is the
    grid the films were projected from.

    Args:
        geometry: of the films.
        spacing_mm: of the grid.
    """
    first, last = [], []
    for view in (geometry.ap, geometry.lat):
        corners = np.array([[0.0, 0.0], [view.shape[0] - 1.0, view.shape[1] - 1.0]])
        size = view.pixel_size_mm(np.asarray(view.isocentre_mm))[0]
        in_plane = ((corners - view.principal_point) * size) @ view.axes[:2]
        ipl = (np.asarray(view.isocentre_mm) + in_plane) @ IPL_AXES.T
        first.append(ipl[0])
        last.append(ipl[1])
    low = np.array([first[0][0], first[1][1], first[0][2]])
    high = np.array([last[0][0], last[1][1], last[0][2]])
    origin = low @ IPL_AXES
    shape = np.rint((high - low) / spacing_mm).astype(int) + 1
    return Grid(
        (float(origin[0]), float(origin[1]), float(origin[2])),
        (int(shape[0]), int(shape[1]), int(shape[2])),
        spacing_mm,
    )


def locate_vertebrae(
    annotations: Annotations, geometry: BiplanarGeometry, lattice: Grid, levels: list[int] | None = None
) -> list[LocatedVertebra]:
    """Cubes of the vertebrae that are marked in both views, head to foot.

    Args:
        annotations: the marks.
        geometry: of the films.
        lattice: see `patient_lattice`.
        levels: VerSe numbers to keep; all if None.

    Raises:
        UserError: a wanted level is not marked in both views, or none is.
    """
    paired = annotations.paired_levels()
    missing = [level_name(number) for number in levels or [] if number not in paired]
    if missing:
        raise UserError(f"level {', '.join(missing)} is not marked in both views")
    wanted = [number for number in paired if levels is None or number in levels]
    if not wanted:
        raise UserError("no vertebra is marked in both views")
    ap, lat = annotations.ap.by_level(), annotations.lat.by_level()
    ap_pixels = np.array([ap[number].centroid for number in wanted])
    lat_pixels = np.array([lat[number].centroid for number in wanted])
    points, residuals = geometry.back_project(ap_pixels, lat_pixels)
    return [
        LocatedVertebra(
            level=number,
            cube=place_cube(points[i], lattice),
            pixels=(ap_pixels[i], lat_pixels[i]),
            residual_mm=float(residuals[i]),
            confidence=min(ap[number].confidence, lat[number].confidence),
        )
        for i, number in enumerate(wanted)
    ]


def assemble(parts: Iterable[tuple[LocatedVertebra, np.ndarray]]) -> tuple[np.ndarray, Grid]:
    """One labelmap from the vertebrae's probability cubes; no resampling, the cubes share a lattice.

    A voxel is of the vertebra with the highest probability there, if that is above one half.

    Args:
        parts: vertebrae and their probabilities (120, 120, 120), already limited to their largest component.

    Returns:
        (I, P, L) uint8 with VerSe numbers, and its grid.
    """
    found = list(parts)
    starts = np.array([vertebra.cube.start for vertebra, _ in found])
    low, high = starts.min(0), starts.max(0) + CUBE_SIZE
    labels = np.zeros(tuple(high - low), np.uint8)
    best = np.full(labels.shape, 0.5, np.float32)
    for vertebra, probability in found:
        box = tuple(slice(a, a + CUBE_SIZE) for a in np.array(vertebra.cube.start) - low)
        wins = probability > best[box]
        best[box][wins] = probability[wins]
        labels[box][wins] = vertebra.level
    anchor = found[0][0].cube
    grid = anchor.grid.crop(tuple(low - np.array(anchor.start)), labels.shape)  # type: ignore[arg-type]
    return labels, grid


def largest_component(probability: np.ndarray) -> np.ndarray:
    """The probability with everything but the largest connected part above one half pushed below it.

    Args:
        probability: (N, N, N).

    Returns:
        a copy; soft values around the kept part stay, so that meshes keep their sub-voxel surface.
    """
    components, count = ndimage.label(probability > 0.5)
    if count <= 1:
        return probability.copy()
    keep = np.bincount(components.ravel())[1:].argmax() + 1
    out = probability.copy()
    out[(components > 0) & (components != keep)] = 0.0
    return out
