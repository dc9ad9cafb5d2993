"""Digitally reconstructed radiographs: line integrals through a CT.

The engine is a slice-wise Joseph projector (Joseph 1982, doi 10.1109/TMI.1982.4307572) in plain torch: march through
the volume along the axis nearest to the beam, interpolate each slice bilinearly where the rays cross it, add up, and
multiply by the length of ray per slice. It takes any affine, any of the three beams, several views and several volumes
at a time, runs on CPU and GPU, and is differentiable in the volume. Rays that run along the voxels of the volume need
no interpolation: there it is a plain sum. Film effects (scatter, noise, display, ...) are in `scripts.geometry.film`;
times and errors beside other engines in ``docs/drr.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from scripts.geometry.biplanar import BiplanarGeometry, View

# Attenuation of water at an effective 60 keV, per mm (NIST XCOM; .0227, .0193, .0184 at 50, 70, 80 keV), and how much
# faster than linear in HU bone attenuates at radiographic energies: CT numbers live near 70 keV, spine films near 50.
WATER_PER_MM = 0.0206
BONE_GAIN = 1.6
BONE_FROM_HU = 100.0
# CT numbers are clipped to it; padding outside a scanner's field is often -2000 or lower.
HU_RANGE = (-1000.0, 3000.0)

# On a CPU one slice with its rays stays in the cache; an accelerator wants fewer and larger steps.
SAMPLES_PER_STEP = 2**25
# Columns of a volume that are turned into slices at a time: 32 floats are two cache lines.
TURNED_TOGETHER = 32


def hu_to_attenuation(hu: torch.Tensor, bone_gain: float = BONE_GAIN) -> torch.Tensor:
    """CT numbers to linear attenuation per mm, on one fixed physical scale (a screw never darkens the bone).

    Two straight lines: 0 at air and `WATER_PER_MM` at 0 HU, and ``bone_gain`` times as steep from `BONE_FROM_HU`.

    Args:
        hu: any shape.
        bone_gain: slope above `BONE_FROM_HU` relative to water's; 1 is a film at the CT's own energy.
    """
    clipped = hu.clamp(*HU_RANGE)
    return WATER_PER_MM * (1 + (clipped + (bone_gain - 1) * (clipped - BONE_FROM_HU).clamp(min=0.0)) / 1000.0)


def bone_gain_at(kilovolts: torch.Tensor) -> torch.Tensor:
    """The bone gain of `hu_to_attenuation` for a tube voltage of 60 to 120 kV: 2.0 at 60, 1.6 at 78, 1.1 at 120.

    The beam's mean energy behind a trunk rises by about 0.35 keV a kV from 44 keV at 60 kV. At one energy E bone
    attenuates 2.37, 1.63, 1.22, 1.00, 0.84 times as much beyond water as CT numbers (70 keV) say at 40, 50, 60, 70,
    80 keV (cortical bone, 1.92 g/cm3, NIST XCOM); 0.334 + 1.296 (50 keV / E)^2 keeps to that within 0.02.

    Args:
        kilovolts: any shape.
    """
    energy = 44.0 + 0.35 * (kilovolts - 60.0)
    return 0.334 + 1.296 * (50.0 / energy) ** 2


def project_pair(
    volume: torch.Tensor, affine: np.ndarray, geometry: BiplanarGeometry
) -> tuple[torch.Tensor, torch.Tensor]:
    """AP and LAT radiographs of a volume.

    Args:
        volume: (..., X, Y, Z) attenuation per mm, or masks: then the result is their thickness in mm.
        affine: 4x4 index -> RAS mm; anisotropic and oblique ones are fine.
        geometry: of the two films.

    Returns:
        two images (..., rows, columns) of line integrals, float32 at least.

    Raises:
        ValueError: a view opens so wide that some of its rays run across the axis of the march.

    >>> from scripts.geometry.biplanar import geometry_of_grid
    >>> from scripts.geometry.frames import Grid
    >>> grid = Grid((0.0, 0.0, 0.0), (20, 20, 20))
    >>> volume = torch.zeros(20, 20, 20)
    >>> volume[5:15, 5:15, 5:15] = 0.02  # a cube of 10 mm that attenuates 0.02 a mm
    >>> ap, lat = project_pair(volume, grid.affine, geometry_of_grid(grid))
    >>> tuple(ap.shape), round(float(ap.max()), 3)
    ((20, 20), 0.2)
    """
    ap, lat = project_views(volume, affine, [geometry.ap, geometry.lat])
    return ap, lat


def project_views(
    volume: torch.Tensor, affine: np.ndarray, views: Sequence[View], chunk: int | None = None
) -> list[torch.Tensor]:
    """Radiographs of one or several volumes in several views.

    Views along the same axis of the volume share one march through it, and volumes share the rays.

    Args:
        volume: (..., X, Y, Z) attenuation per mm (or masks: then the result is their thickness in mm), of any type:
            it is converted slice by slice. Leading axes are volumes on the same grid.
        affine: 4x4 index -> RAS mm; anisotropic and oblique ones are fine.
        views: geometry and size of each image.
        chunk: slices at a time, which bounds the memory; None takes what suits the device.

    Returns:
        one image (..., rows, columns) of line integrals for each view, on the volume's device and of its dtype, but
        float32 at least.

    Raises:
        ValueError: a view opens so wide that some of its rays run across the axis of the march.
    """
    volumes = volume.reshape(-1, *volume.shape[-3:])
    rays = [_Rays.of(view, affine) for view in views]
    images: list[torch.Tensor | None] = [ray.sum_along_voxels(volumes) for ray in rays]
    for axis in range(3):
        here = [i for i, ray in enumerate(rays) if ray.axis == axis and images[i] is None]
        if here:
            for i, image in zip(here, _joseph(volumes, [rays[i] for i in here], axis, chunk), strict=True):
                images[i] = image
    return [image.reshape(*volume.shape[:-3], *image.shape[1:]) for image in images if image is not None]


class _Rays:
    """A view's rays in voxel coordinates, as linear functions of the pixel; see `View.ray_basis`."""

    def __init__(self, origins: np.ndarray, directions: np.ndarray, mm: np.ndarray, shape: tuple[int, int]) -> None:
        self.origins, self.directions, self.shape = origins, directions, shape
        self.mm = mm  # the same directions in world mm
        rows, columns = shape
        self.axis = int(np.abs(np.array([1, (rows - 1) / 2, (columns - 1) / 2]) @ directions).argmax())
        corners = np.array([[1, r, c] for r in (0, rows - 1) for c in (0, columns - 1)]) @ directions
        if np.abs(np.sign(corners[:, self.axis]).sum()) < 4:
            raise ValueError("a ray runs across the marching axis: the view's opening angle is too wide")

    @classmethod
    def of(cls, view: View, affine: np.ndarray) -> _Rays:
        to_voxel = np.linalg.inv(affine)
        origins, directions = view.ray_basis()
        start, step = origins @ to_voxel[:3, :3].T, directions @ to_voxel[:3, :3].T
        start[0] += to_voxel[:3, 3]
        return cls(start, step, directions, view.shape)

    @property
    def others(self) -> list[int]:
        """The two axes of a slice."""
        return [i for i in range(3) if i != self.axis]

    def sum_along_voxels(self, volumes: torch.Tensor) -> torch.Tensor | None:
        """The plain sum if every ray runs through voxel centres and every column of voxels has its ray."""
        step = self.directions[0]
        if np.abs(self.directions[1:]).max() > 0 or np.abs(step[self.others]).max() > 1e-9 * np.abs(step).max():
            return None
        at_corners = np.array([[1, 0, 0], [1, self.shape[0] - 1, 0], [1, 0, self.shape[1] - 1]])
        for transposed in (False, True):
            axes = self.others[::-1] if transposed else self.others
            pixels = at_corners @ self.origins[:, axes]
            voxels = tuple(volumes.shape[1 + i] for i in axes)
            if self.shape == voxels and np.abs(pixels - at_corners[:, 1:]).max() < 1e-4:
                total = volumes.sum(1 + self.axis, dtype=_result_type(volumes)) * float(
                    np.linalg.norm(self.mm[0]) / np.abs(step[self.axis])
                )
                return total.mT if transposed else total
        return None

    def crossings(self, volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the rays cross slice 0 and how far they move per slice, both (rays, 2) in `grid_sample`'s units.

        Third, the length of ray per slice (rays,) in mm. Made on the volume's device, in double precision first.
        """
        device = volumes.device

        def at_pixels(basis: np.ndarray) -> torch.Tensor:
            constant, per_row, per_column = torch.as_tensor(basis, dtype=torch.float64, device=device)
            rows = torch.arange(self.shape[0], dtype=torch.float64, device=device)[:, None, None]
            columns = torch.arange(self.shape[1], dtype=torch.float64, device=device)[None, :, None]
            return (constant + rows * per_row + columns * per_column).reshape(-1, 3)

        start, step = at_pixels(self.origins), at_pixels(self.directions)
        along = step[:, self.axis, None]
        slope = step[:, self.others] / along
        foot = start[:, self.others] - slope * start[:, self.axis, None]
        size = torch.tensor([volumes.shape[1 + i] for i in self.others], dtype=torch.float64, device=device)
        # -1 and 1 are the outer faces of the first and last voxel; grid_sample wants (column, row).
        foot, slope = ((2 * foot + 1) / size - 1).flip(-1), (2 * slope / size).flip(-1)
        mm_per_slice = at_pixels(self.mm).norm(dim=-1) / along[:, 0].abs()
        dtype = _result_type(volumes)
        return foot.to(dtype), slope.to(dtype), mm_per_slice.to(dtype)


def _joseph(volumes: torch.Tensor, rays: list[_Rays], axis: int, chunk: int | None) -> list[torch.Tensor]:
    """Images (volumes, rows, columns) of views that all march along ``axis``."""
    foot, slope, mm_per_slice = (torch.cat(parts) for parts in zip(*(r.crossings(volumes) for r in rays), strict=True))
    if chunk is None:
        chunk = 1 if volumes.device.type == "cpu" else max(1, SAMPLES_PER_STEP // (len(foot) * len(volumes)))
    total = foot.new_zeros(len(volumes), len(foot))
    first = 0
    for slices in _slices(volumes, axis, chunk):
        index = torch.arange(first, first + len(slices), dtype=foot.dtype, device=foot.device)
        where = torch.addcmul(foot, index[:, None, None], slope)[:, None]
        sampled = F.grid_sample(slices.to(where.dtype), where, align_corners=False, padding_mode="zeros")[:, :, 0]
        total += sampled[0] if chunk == 1 else sampled.sum(0)
        first += len(slices)
    parts = (total * mm_per_slice).split([r.shape[0] * r.shape[1] for r in rays], dim=1)
    return [part.reshape(len(volumes), *r.shape) for part, r in zip(parts, rays, strict=True)]


def _result_type(volumes: torch.Tensor) -> torch.dtype:
    return torch.promote_types(volumes.dtype, torch.float32)


def _slices(volumes: torch.Tensor, axis: int, chunk: int) -> Iterator[torch.Tensor]:
    """The slices (chunk, volumes, rows, columns) of volumes (volumes, X, Y, Z) along an axis, in order."""
    count = volumes.shape[1 + axis]
    slab = chunk if axis < 2 else -(-TURNED_TOGETHER // chunk) * chunk
    for first in range(0, count, slab):
        block = volumes.narrow(1 + axis, first, min(slab, count - first))
        if axis < 2:
            block = block.movedim(1 + axis, 0)
        else:
            # Slices across the fastest axis, as a plain matrix transpose: five times as fast as movedim + contiguous.
            slices = block.shape[-1]
            block = block.contiguous().view(-1, slices).t().contiguous().view(slices, *block.shape[:-1])
        yield from block.split(chunk)
