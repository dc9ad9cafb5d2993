"""The canonical volume frame ``IPL`` and grids in it.

World is NIfTI RAS+ in mm. In ``IPL`` array axis 0 grows towards Inferior, axis 1 towards Posterior and axis 2 towards
Left; I x P = L, so it is right-handed. An AP view is a sum along axis 1, a LAT view a sum along axis 2, both without
any flip. An index names a voxel's centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from nibabel.affines import apply_affine
from scipy.ndimage import find_objects

# Rows: the world direction of array axis 0, 1, 2.
INFERIOR = np.array([0.0, 0.0, -1.0])
POSTERIOR = np.array([0.0, -1.0, 0.0])
LEFT = np.array([-1.0, 0.0, 0.0])
IPL_AXES = np.stack([INFERIOR, POSTERIOR, LEFT])


@dataclass(frozen=True)
class Grid:
    """A lattice of voxels in the canonical frame.

    Args:
        origin_mm: world position of the centre of voxel (0, 0, 0).
        shape: voxels along I, P, L.
        spacing_mm: isotropic voxel size.
    """

    origin_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing_mm: float = 1.0

    @property
    def affine(self) -> np.ndarray:
        """4x4 matrix, index -> world mm."""
        affine = np.eye(4)
        affine[:3, :3] = IPL_AXES.T * self.spacing_mm
        affine[:3, 3] = self.origin_mm
        return affine

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """Indices (..., 3) along I, P, L -> world mm (..., 3) in RAS.

        >>> Grid((0.0, 0.0, 0.0), (10, 10, 10), 2.0).to_world([1, 2, 3]).tolist()
        [-6.0, -4.0, -2.0]
        """
        return np.asarray(index, float) @ IPL_AXES * self.spacing_mm + np.asarray(self.origin_mm)

    def to_index(self, points_mm: np.ndarray) -> np.ndarray:
        """World mm (..., 3) -> fractional indices (..., 3)."""
        return (np.asarray(points_mm, float) - np.asarray(self.origin_mm)) @ IPL_AXES.T / self.spacing_mm

    def crop(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The part of the same lattice that begins at index ``start`` (which may lie outside)."""
        origin = self.to_world(np.array(start))
        return Grid((float(origin[0]), float(origin[1]), float(origin[2])), shape, self.spacing_mm)


def bounding_grid(affine: np.ndarray, shape: tuple[int, int, int], spacing_mm: float = 1.0) -> Grid:
    """The smallest canonical grid that covers a volume, whatever its orientation or obliquity.

    Args:
        affine: 4x4 index -> RAS mm of the volume.
        shape: its voxels.
        spacing_mm: voxel size of the grid.
    """
    # Outer faces, not centres: a thick slice reaches half its thickness further.
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    ipl = apply_affine(affine, corners) @ IPL_AXES.T
    low, high = ipl.min(0), ipl.max(0)
    size = np.maximum(np.ceil((high - low) / spacing_mm - 1e-6).astype(int), 1)
    # Centre the whole voxels in the extent; a volume already on a canonical grid then keeps its own lattice.
    first = low + (high - low - (size - 1) * spacing_mm) / 2
    origin = first @ IPL_AXES
    return Grid(
        (float(origin[0]), float(origin[1]), float(origin[2])), (int(size[0]), int(size[1]), int(size[2])), spacing_mm
    )


def sampling_matrix(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """4x4 matrix from world mm to what ``grid_sample`` wants (``align_corners=False``).

    -1 and 1 are the outer faces, so that a one-slice axis is legal too, and the last axis comes first.

    Args:
        affine: 4x4 index -> RAS mm of a volume.
        shape: its voxels.
    """
    size = np.array(shape)
    normalise = np.eye(4)
    normalise[:3, :3] = np.diag(2 / size)[::-1]
    normalise[:3, 3] = (1 / size - 1)[::-1]
    return normalise @ np.linalg.inv(affine)


# Maps world points (..., 3) of the output to the world points of the input that they show.
Warp = Callable[[torch.Tensor], torch.Tensor]


def resample(
    volume: torch.Tensor,
    affine: np.ndarray,
    grid: Grid,
    mode: str = "bilinear",
    warp: Warp | None = None,
    slab: int = 32,
) -> torch.Tensor:
    """Values of a volume at a grid's voxel centres; 0 outside it.

    Args:
        volume: (X, Y, Z) float.
        affine: 4x4 index -> RAS mm of the volume.
        grid: where to sample.
        mode: ``bilinear`` (trilinear in 3D) or ``nearest``.
        warp: deformation between the grid's world and the volume's; the identity if None. It is asked at every fourth
            voxel and interpolated in between, which is exact enough for anything smooth and 60 times cheaper.
        slab: grid layers at a time, which bounds the memory; a multiple of four.

    Returns:
        (I, P, L), the volume's dtype and device.
    """
    device = volume.device
    to_sample = sampling_matrix(affine, volume.shape)
    matrix = torch.as_tensor(to_sample @ grid.affine, dtype=torch.float32, device=device)
    in_plane = [torch.arange(n, dtype=torch.float32, device=device) for n in grid.shape[1:]]
    warped = None if warp is None else _coarse_positions(warp, to_sample, grid, device)
    out = torch.empty(grid.shape, dtype=volume.dtype, device=device)
    for start in range(0, grid.shape[0], slab):
        rows = torch.arange(start, min(start + slab, grid.shape[0]), dtype=torch.float32, device=device)
        if warped is None:
            index = torch.stack(torch.meshgrid(rows, *in_plane, indexing="ij"), -1)
            where = index @ matrix[:3, :3].T + matrix[:3, 3]
        else:
            where = _refine(warped, start, len(rows), grid)
        out[start : start + len(rows)] = F.grid_sample(
            volume[None, None], where[None].to(volume.dtype), mode=mode, align_corners=False, padding_mode="zeros"
        )[0, 0]
    return out


WARP_STEP = 4


def _coarse_positions(warp: Warp, to_sample: np.ndarray, grid: Grid, device: torch.device) -> torch.Tensor:
    """What every fourth voxel of the grid shows, in `grid_sample`'s coordinates: (1, 3, i, p, l)."""
    coarse = [torch.arange(0, n + WARP_STEP - 1, WARP_STEP, dtype=torch.float32, device=device) for n in grid.shape]
    index = torch.stack(torch.meshgrid(*coarse, indexing="ij"), -1)
    to_world = torch.as_tensor(grid.affine, dtype=torch.float32, device=device)
    matrix = torch.as_tensor(to_sample, dtype=torch.float32, device=device)
    source = warp(index @ to_world[:3, :3].T + to_world[:3, 3])
    return (source @ matrix[:3, :3].T + matrix[:3, 3]).movedim(-1, 0)[None]


def _refine(coarse: torch.Tensor, start: int, rows: int, grid: Grid) -> torch.Tensor:
    """The layers ``start`` to ``start + rows`` of a coarse field at full resolution: (rows, P, L, 3)."""
    first = start // WARP_STEP
    block = coarse[:, :, first : first + -(-rows // WARP_STEP) + 1]
    fine = [(n - 1) * WARP_STEP + 1 for n in block.shape[2:]]
    field = F.interpolate(block, size=fine, mode="trilinear", align_corners=True)[0]
    return field[:, :rows, : grid.shape[1], : grid.shape[2]].movedim(0, -1)


def resample_labels(labels: np.ndarray, affine: np.ndarray, grid: Grid, warp: Warp | None = None) -> np.ndarray:
    """A labelmap on another grid, label by label: the trilinear share of each label, kept where above one half.

    Smoother than nearest neighbour on thick slices. Where two labels both reach one half the later number wins, which
    happens on the shared faces of touching labels only.

    Args:
        labels: (X, Y, Z) uint8.
        affine: 4x4 index -> RAS mm.
        grid: where to sample.
        warp: deformation between the grid's world and the labels'; the identity if None.

    Returns:
        (I, P, L) uint8.
    """
    out: np.ndarray = np.zeros(grid.shape, np.uint8)
    nearest = resample(torch.from_numpy(labels.astype(np.float32)), affine, grid, "nearest", warp).numpy()
    found_in_input = find_objects(labels)
    for number, box in enumerate(find_objects(nearest.astype(np.uint8)), start=1):
        if box is None:
            continue
        low = np.maximum([s.start - 2 for s in box], 0)
        high = np.minimum([s.stop + 2 for s in box], grid.shape)
        target = grid.crop(tuple(low), tuple(high - low))
        found = found_in_input[number - 1]
        first = np.maximum([s.start - 1 for s in found], 0)
        last = np.minimum([s.stop + 1 for s in found], labels.shape)
        part = labels[first[0] : last[0], first[1] : last[1], first[2] : last[2]] == number
        part_affine = affine.copy()
        part_affine[:3, 3] = apply_affine(affine, first)
        share = resample(torch.from_numpy(part.astype(np.float32)), part_affine, target, warp=warp).numpy()
        out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][share > 0.5] = number
    return out
