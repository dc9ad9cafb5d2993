"""Vertebrae back in the patient: from marks to cubes, and from cubes to one labelmap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import trimesh

from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.components import bounding_box, largest_part
from scripts.geometry.cropping import CUBE_SIZE, Cube, place_cube
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.leaning import UPRIGHT, Lean, spine_leans
from scripts.io.annotations import Annotations
from scripts.levels import level_name
from scripts.spine.mesh import vertebra_mesh

# A residual of this many mm costs a vertebra 40 % of its confidence.
RESIDUAL_SCALE_MM = 3.0
# From the origin of the films' frame; beyond this an index no longer fits an integer or the memory.
FARTHEST_MM = 1e5


@dataclass(frozen=True)
class LocatedVertebra:
    """A vertebra whose marks in the two views have been brought together.

    Args:
        level: VerSe number.
        cube: where it lies.
        pixels: its centroid in AP and LAT, (row, column) each.
        residual_mm: distance of the two rays through the marks; 0 if the marks agree.
        confidence: the lower of the two marks' confidences.
        lean: how it leans, as far as its neighbours' marks tell.
        automatic: whether the annotation network set one of its marks.
    """

    level: int
    cube: Cube
    pixels: tuple[np.ndarray, np.ndarray]
    residual_mm: float
    confidence: float
    lean: Lean = UPRIGHT
    automatic: bool = False


@dataclass(frozen=True, eq=False)
class ReconstructedVertebra:
    """One reconstructed vertebra, its overlap with the neighbours resolved.

    A session hands out the same object as long as nothing about it changed, so that what is derived from it (the
    surface here, the pose in `scripts.measure.pose`) is made once.

    Args:
        vertebra: where it is.
        probability: (120, 120, 120) float32 in its cube, one connected piece above one half, or nothing above it.
        contested: share of its own voxels that a neighbour claimed with a higher probability.
    """

    vertebra: LocatedVertebra
    probability: np.ndarray
    contested: float = 0.0

    @property
    def level(self) -> int:
        """VerSe number."""
        return self.vertebra.level

    @property
    def found(self) -> bool:
        """Whether there is a vertebra at all."""
        return self.box is not None

    @cached_property
    def mask(self) -> np.ndarray:
        """(120, 120, 120) bool."""
        return self.probability > 0.5

    @cached_property
    def box(self) -> tuple[slice, ...] | None:
        """The mask's bounding box in the cube."""
        return bounding_box(self.mask)

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """Closed surface in world RAS mm.

        Raises:
            UserError: there is no vertebra.
        """
        return vertebra_mesh(self.probability, self.vertebra.cube.grid.affine)

    @cached_property
    def shape_confidence(self) -> float:
        """The Dice that the probabilities themselves lead one to expect, 0 to 1.

        If every voxel were of the vertebra with the probability that the network says, the mask M would reach
        2 sum_M p / (|M| + sum p).
        """
        if self.box is None:
            return 0.0
        expected = float(self.probability.sum(dtype=np.float64))
        return 2 * float(self.probability[self.mask].sum(dtype=np.float64)) / (float(self.mask.sum()) + expected)

    @property
    def confidence(self) -> float:
        """One number from 0 to 1: the shape's times the marks' times what their residual leaves, less the contested."""
        agreement = float(np.exp(-0.5 * (self.vertebra.residual_mm / RESIDUAL_SCALE_MM) ** 2))
        return self.shape_confidence * self.vertebra.confidence * agreement * (1 - self.contested)


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
        size = view.pixel_mm
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
        lattice: the canonical grid that both views share.
        levels: VerSe numbers to keep; all if None.

    Raises:
        UserError: a wanted level is not marked in both views, or none is.
    """
    paired = annotations.paired_levels()
    missing = [level_name(number) for number in levels or [] if number not in paired]
    if missing:
        raise UserError(f"level {', '.join(missing)} is not marked in both views")
    if not paired:
        raise UserError("no vertebra is marked in both views")
    ap, lat = annotations.ap.by_level(), annotations.lat.by_level()
    pixels = [np.array([view[number].centroid for number in paired]) for view in (ap, lat)]
    cubes, residuals, leans = place_pairs(pixels[0], pixels[1], geometry, lattice)
    return [
        LocatedVertebra(
            level=number,
            cube=cubes[i],
            pixels=(pixels[0][i], pixels[1][i]),
            residual_mm=float(residuals[i]),
            confidence=min(ap[number].confidence, lat[number].confidence),
            lean=leans[i],
            automatic="model" in (ap[number].set_by, lat[number].set_by),
        )
        for i, number in enumerate(paired)
        if not levels or number in levels
    ]


def place_pairs(
    ap_pixels: np.ndarray, lat_pixels: np.ndarray, geometry: BiplanarGeometry, lattice: Grid
) -> tuple[list[Cube], np.ndarray, list[Lean]]:
    """Cubes of vertebrae along one spine, how far their rays miss each other (mm), and how they lean.

    Args:
        ap_pixels: (N, 2) centroids in AP, head to foot.
        lat_pixels: (N, 2) in LAT.
        geometry: of the films.
        lattice: the canonical grid that both views share.

    Raises:
        UserError: the rays meet nowhere.
    """
    points, residuals = geometry.back_project(ap_pixels, lat_pixels)
    if not (np.abs(points) < FARTHEST_MM).all() or not np.isfinite(residuals).all():
        raise UserError("the marks' rays meet at no place in the room: the films' geometry or spacing is impossible")
    return [place_cube(point, lattice) for point in points], residuals, spine_leans(points)


def resolve_overlaps(found: Sequence[tuple[LocatedVertebra, np.ndarray]]) -> list[ReconstructedVertebra]:
    """Vertebrae that no longer overlap, soft surfaces kept.

    Where a neighbour is present (its probability q is above one half), a vertebra's probability p becomes
    p - (q - 1/2): above one half exactly where p > q, and continuous, so that the two surfaces meet between voxels.

    Args:
        found: vertebrae and their probabilities (120, 120, 120) on a common lattice.
    """
    clean = [largest_component(np.asarray(probability, np.float32)) for _, probability in found]
    starts = np.array([vertebra.cube.start for vertebra, _ in found])
    masks = [probability > 0.5 for probability in clean]
    inside = [bounding_box(mask) for mask in masks]
    boxes = [None if box is None else np.array([[s.start, s.stop] for s in box]).T for box in inside]
    parts = []
    for i, (vertebra, _) in enumerate(found):
        resolved = clean[i]
        for j, box in enumerate(boxes):
            if j == i or box is None:
                continue
            shift = starts[j] - starts[i]
            low, high = np.maximum(box[0] + shift, 0), np.minimum(box[1] + shift, CUBE_SIZE)
            if np.any(high <= low):
                continue
            own = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            theirs = tuple(slice(a, b) for a, b in zip(low - shift, high - shift, strict=True))
            taken = np.maximum(clean[j][theirs] - 0.5, 0)
            if resolved is clean[i]:
                resolved = resolved.copy()
            resolved[own] = np.maximum(np.minimum(resolved[own], clean[i][own] - taken), 0)
        if resolved is not clean[i]:
            resolved = largest_component(resolved)
        before, after = (int(np.count_nonzero(mask)) for mask in (masks[i], resolved > 0.5))
        parts.append(ReconstructedVertebra(vertebra, resolved, 1 - after / before if before else 0.0))
    return parts


def assemble(parts: Iterable[tuple[LocatedVertebra, np.ndarray]]) -> tuple[np.ndarray, Grid]:
    """One labelmap from the vertebrae's probability cubes; no resampling, the cubes share a lattice.

    A voxel is of the vertebra with the highest probability there, if that is above one half.

    Args:
        parts: vertebrae and their probabilities (120, 120, 120), already limited to their largest component.

    Returns:
        (I, P, L) uint8 with VerSe numbers, and its grid.

    >>> lattice = Grid((0.0, 0.0, 0.0), (300, 200, 200))
    >>> ball = np.zeros((120, 120, 120), np.float32)
    >>> ball[50:70, 50:70, 50:70] = 0.9
    >>> pixels = (np.zeros(2), np.zeros(2))
    >>> places = {20: [100, 90, 90], 21: [130, 90, 90]}
    >>> cubes = {number: place_cube(lattice.to_world(place), lattice) for number, place in places.items()}
    >>> labels, grid = assemble((LocatedVertebra(n, cube, pixels, 0.0, 1.0), ball) for n, cube in cubes.items())
    >>> labels.shape, [int((labels == number).sum()) for number in cubes]
    ((150, 120, 120), [8000, 8000])
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
        the same if there is no other part, else a copy; soft values around the kept part stay, so that meshes keep
        their sub-voxel surface.
    """
    above = probability > 0.5
    stray = above & ~largest_part(above)
    if not stray.any():
        return probability
    kept = probability.copy()
    kept[stray] = 0.0
    return kept
