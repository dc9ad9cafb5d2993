"""The vertebra cube and the two patches that belong to it.

The cube is 120x120x120 voxels of 1 mm. The VerSe body centroid lies 9-14 mm in front of the mask's centre of mass and
spinous tips reach 60 mm behind it, so the cube's centre is the centroid moved 20 mm towards Posterior: 39 of 39
ground-truth vertebrae fit whole, against 72 % around the centroid itself. Both patches have the cube's centre; the
centroid mask marks the centroid.

Cubes lie on one lattice a patient, so that patches of a parallel radiograph are plain slices of it
(``patch == projection of the cube``) and reconstructed cubes go back into the patient without resampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR, Grid
from scripts.geometry.leaning import UPRIGHT, Lean, turn, turned_object

CUBE_SIZE = 120
CUBE_POSTERIOR_OFFSET_MM = 20.0
CENTROID_SIGMA_MM = 4.0
# Probabilities up to this are nothing.
FAINT = 0.01
_MIDDLE = (CUBE_SIZE - 1) / 2
# Index in the cube at which the body's centroid lies, but for the lattice's half voxel.
NOMINAL_CENTROID = np.array([_MIDDLE, _MIDDLE - CUBE_POSTERIOR_OFFSET_MM, _MIDDLE])


@dataclass(frozen=True)
class Cube:
    """Where a vertebra's cube lies.

    Args:
        grid: the cube's own 120x120x120 grid in the world.
        start: index of its first voxel in the patient's lattice; may be negative.
        body_centroid_mm: world position of the vertebral body's centroid.
    """

    grid: Grid
    start: tuple[int, int, int]
    body_centroid_mm: tuple[float, float, float]

    @property
    def centre_mm(self) -> np.ndarray:
        """World position of the middle of the cube, index 59.5."""
        return self.grid.to_world(np.full(3, (CUBE_SIZE - 1) / 2))


def place_cube(body_centroid_mm: np.ndarray, lattice: Grid) -> Cube:
    """The cube of a vertebra, on the patient's lattice (so up to half a voxel off the wish).

    Args:
        body_centroid_mm: (3,) world mm; the cube's centre lies `CUBE_POSTERIOR_OFFSET_MM` behind it.
        lattice: the patient's grid; the cube takes its spacing.
    """
    wish = lattice.to_index(np.asarray(body_centroid_mm) + CUBE_POSTERIOR_OFFSET_MM * POSTERIOR)
    first = np.rint(wish - (CUBE_SIZE - 1) / 2).astype(int)
    start = (int(first[0]), int(first[1]), int(first[2]))
    x, y, z = (float(v) for v in body_centroid_mm)
    return Cube(lattice.crop(start, (CUBE_SIZE,) * 3), start, (x, y, z))


def crop_cube(volume: np.ndarray, cube: Cube, fill: float = 0) -> np.ndarray:
    """The cube's part of a volume on the patient's lattice, padded where it reaches beyond.

    Args:
        volume: (I, P, L) on the lattice that the cube was placed on.
        cube: where to cut.
        fill: value outside the volume.

    Returns:
        (120, 120, 120), the volume's dtype.
    """
    out = np.full((CUBE_SIZE,) * 3, fill, volume.dtype)
    low = np.maximum(cube.start, 0)
    high = np.minimum(np.array(cube.start) + CUBE_SIZE, volume.shape)
    if np.all(high > low):
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, cube.start, strict=True))
        out[target] = volume[source]
    return out


def clipped_fraction(mask: np.ndarray, cube: Cube) -> float:
    """Share of a vertebra's voxels (mask (I, P, L) on the patient's lattice) that lie outside its cube."""
    total = int(mask.sum())
    return 1.0 - int(crop_cube(mask, cube).sum()) / total if total else 0.0


def patch_pixels(cube: Cube, view: View, lean: Lean = UPRIGHT) -> np.ndarray:
    """Film pixels (120, 120, 2) under a patch: the middle plane of the cube that faces the view, one point a mm.

    The plane through the cube's middle is where 1 mm in the patch is 1 mm in the patient. The patch of a leaning
    vertebra is turned in that plane about the body's centroid, its rows along the spine.
    """
    index = np.stack(np.meshgrid(np.arange(CUBE_SIZE), np.arange(CUBE_SIZE), indexing="ij"), axis=-1).astype(float)
    columns = column_axis(view)
    if lean != UPRIGHT:
        pivot, turning = patch_turn(columns, lean)
        index = pivot + (index - pivot) @ turning.T
    offset = (index - (CUBE_SIZE - 1) / 2) * cube.grid.spacing_mm
    points = cube.centre_mm + offset[..., :1] * INFERIOR + offset[..., 1:] * columns
    return view.project(points.reshape(-1, 3)).reshape(CUBE_SIZE, CUBE_SIZE, 2)


def patch_turn(columns: np.ndarray, lean: Lean) -> tuple[np.ndarray, np.ndarray]:
    """How a leaning vertebra's patch is turned in its plane.

    Args:
        columns: `column_axis` of the view.
        lean: how the vertebra leans.

    Returns:
        the patch index (2,) that stays where it is, and the rotation (2, 2) of (row, column) about it.
    """
    if columns is LEFT:
        return NOMINAL_CENTROID[[0, 2]], turn(lean.frontal_deg)
    return NOMINAL_CENTROID[[0, 1]], turn(lean.sagittal_deg)


def crop_patch(film: torch.Tensor, view: View, cube: Cube, lean: Lean = UPRIGHT) -> torch.Tensor:
    """The vertebra's patch of a radiograph, at 1 mm in the patient.

    Where the patch reaches beyond the film it is NaN, so that normalising leaves that out: see
    `scripts.data.normalisation`.

    Args:
        film: (rows, columns) float. Finer than 1 mm films should have been smoothed with `smooth_for_pitch`.
        view: its geometry.
        cube: the vertebra.
        lean: how it leans.

    Returns:
        (120, 120).
    """
    pixels = patch_pixels(cube, view, lean)
    size = np.array(film.shape)
    inside = torch.from_numpy(np.all((pixels > -0.5) & (pixels < size - 0.5), axis=-1))
    where = torch.from_numpy(((2 * pixels + 1) / size - 1)[..., ::-1].copy()).to(film.dtype)
    patch = F.grid_sample(film[None, None], where[None], align_corners=False, padding_mode="border")[0, 0]
    return patch.masked_fill(~inside, torch.nan)


def smooth_for_pitch(film: np.ndarray, pixel_mm: tuple[float, float], pitch_mm: float = 1.0) -> np.ndarray:
    """Low-pass a film that is finer than the patches' pitch, so that sampling it does not alias.

    Args:
        film: (rows, columns).
        pixel_mm: pixel size in the patient along (rows, columns).
        pitch_mm: of the patches.
    """
    from scipy.ndimage import gaussian_filter

    # A Gaussian that brings a pixel of width p to the width of the pitch (box widths add as squares / 12).
    sigma = [np.sqrt(max((pitch_mm / p) ** 2 - 1, 0.0) / 12) for p in pixel_mm]
    return gaussian_filter(film, sigma) if max(sigma) > 0.3 else film


def centroid_mask(
    centroid_pixel: np.ndarray,
    view: View,
    cube: Cube,
    sigma_mm: float = CENTROID_SIGMA_MM,
    lean: Lean = UPRIGHT,
) -> np.ndarray:
    """A Gaussian of height 1 at a centroid's sub-pixel position in the patch.

    Args:
        centroid_pixel: (2,) film pixel (row, column) of the body centroid.
        view: the film's geometry.
        cube: the vertebra.
        sigma_mm: its width; the paper leaves the mark's form open. 4 mm is wide enough to survive three halvings and
            a third of the smallest body, so that it never spans two.
        lean: how the vertebra leans.

    Returns:
        (120, 120) float32.
    """
    pixels = patch_pixels(cube, view, lean)
    # Patch -> film is affine to within the tilt of the view: invert it from the patch's corners.
    origin = pixels[0, 0]
    jacobian = np.stack([(pixels[-1, 0] - origin), (pixels[0, -1] - origin)], axis=1) / (CUBE_SIZE - 1)
    mark = np.linalg.solve(jacobian, np.asarray(centroid_pixel, float) - origin)
    return gaussian_mark(mark, sigma_mm / cube.grid.spacing_mm)


def gaussian_mark(position: np.ndarray, sigma_px: float = CENTROID_SIGMA_MM, size: int = CUBE_SIZE) -> np.ndarray:
    """The (size, size) float32 mask of a mark: a Gaussian of height 1 at a sub-pixel (row, column) of the patch."""
    index = np.arange(size)
    squared = (index[:, None] - position[0]) ** 2 + (index[None, :] - position[1]) ** 2
    return np.exp(-squared / (2 * sigma_px**2)).astype(np.float32)


def network_input(
    films: tuple[torch.Tensor, torch.Tensor],
    centroid_pixels: tuple[np.ndarray, np.ndarray],
    geometry: BiplanarGeometry,
    cube: Cube,
    lean: Lean = UPRIGHT,
) -> torch.Tensor:
    """One vertebra's four channels: AP patch, AP centroid mask, LAT patch, LAT centroid mask.

    Args:
        films: AP and LAT, each (rows, columns) float.
        centroid_pixels: the body centroid in each film, (2,) each.
        geometry: of the films.
        cube: of the vertebra.
        lean: how it leans; `turned_back` puts what a network makes of it on the cube's own grid.

    Returns:
        (4, 120, 120) float32, the patches in the films' own units and NaN beyond the films.

    >>> from scripts.geometry.biplanar import geometry_of_grid
    >>> grid = Grid((0.0, 0.0, 0.0), (200, 160, 140))
    >>> geometry = geometry_of_grid(grid)
    >>> centroid = grid.to_world([100, 70, 70])  # an index I, P, L; the films are (I, L) and (I, P)
    >>> ap, lat = geometry.project(centroid[None])
    >>> cube = place_cube(centroid, grid)
    >>> image = network_input((torch.ones(200, 140), torch.ones(200, 160)), (ap[0], lat[0]), geometry, cube)
    >>> tuple(image.shape), cube.start
    ((4, 120, 120), (40, 30, 10))
    """
    channels = []
    for film, pixel, view in zip(films, centroid_pixels, (geometry.ap, geometry.lat), strict=True):
        channels.append(crop_patch(film, view, cube, lean).float())
        channels.append(torch.from_numpy(centroid_mask(pixel, view, cube, lean=lean)))
    return torch.stack(channels)


def turned_back(probability: np.ndarray, lean: Lean) -> np.ndarray:
    """What a network makes of a leaning vertebra's patches, (120, 120, 120), on the cube's own grid."""
    if lean == UPRIGHT:
        return probability
    return turned_object(np.asarray(probability, np.float32), lean.rotation(), NOMINAL_CENTROID, FAINT)


def turned_upright(mask: np.ndarray, lean: Lean) -> np.ndarray:
    """A leaning vertebra's mask (120, 120, 120) as a network should answer to its patches: not leaning, uint8."""
    if lean == UPRIGHT:
        return mask.astype(np.uint8)
    upright = turned_object(mask.astype(np.float32), lean.rotation().T, NOMINAL_CENTROID, 0.0)
    return (upright > 0.5).astype(np.uint8)


def column_axis(view: View) -> np.ndarray:
    """The anatomical axis that the view's columns show: Left in a frontal view, Posterior in a lateral one."""
    column = np.asarray(view.column_direction)
    return LEFT if abs(column @ LEFT) > abs(column @ POSTERIOR) else POSTERIOR
