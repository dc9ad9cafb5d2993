"""Bodies whose line integrals are known in closed form, and their voxels.

Positions and rays are in world mm. A Gaussian has no edges, so a projector's picture of it shows the projector's own
error; ellipsoids and boxes have edges, where the voxels themselves limit every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scripts.geometry.biplanar import View
from scripts.geometry.frames import IPL_AXES, Grid


def gaussian_integral(origin: np.ndarray, direction: np.ndarray, sigma: float) -> np.ndarray:
    """Integral of exp(-|x|^2 / 2 sigma^2) along lines; origin and unit direction (..., 3), result (...) in mm."""
    along = (origin * direction).sum(-1, keepdims=True)
    miss = ((origin - along * direction) ** 2).sum(-1)
    return sigma * np.sqrt(2 * np.pi) * np.exp(-miss / (2 * sigma**2))


def ellipsoid_chord(origin: np.ndarray, direction: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Length of lines inside the ellipsoid with half axes ``radii`` about 0, along x, y, z."""
    o, d = origin / radii, direction / radii
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
    return 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a


def box_chord(origin: np.ndarray, direction: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Length of lines inside the box of half size ``half`` about 0, along x, y, z."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t0, t1 = (-half - origin) / direction, (half - origin) / direction
    near, far = np.nanmax(np.minimum(t0, t1), -1), np.nanmin(np.maximum(t0, t1), -1)
    parallel_outside = ((np.abs(direction) < 1e-12) & (np.abs(origin) > half)).any(-1)
    return np.where(parallel_outside, 0, np.maximum(far - near, 0))


# A body's coordinates on a grid, per world axis: three arrays that broadcast to the grid's shape.
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]


class Body(Protocol):
    """Something with a closed-form shadow."""

    @property
    def density(self) -> float:
        """Attenuation per mm."""

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where it lies, world mm."""

    def shadow(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Line integrals of unit density; the body lies about 0."""

    def voxels(self, xyz: Coordinates, spacing: float) -> np.ndarray:
        """Unit density on a grid, with partial volumes at edges; the body lies about 0."""


@dataclass(frozen=True)
class Gaussian:
    """exp(-r^2 / 2 sigma^2)."""

    density: float
    centre: tuple[float, float, float]
    sigma: float

    def shadow(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Line integrals of unit density along rays; the body lies about 0."""
        return gaussian_integral(origin, direction, self.sigma)

    def voxels(self, xyz: Coordinates, spacing: float) -> np.ndarray:
        """Unit density at the voxels' centres."""
        x, y, z = (np.exp(-(c**2) / (2 * self.sigma**2)) for c in xyz)
        return x * y * z


@dataclass(frozen=True)
class Ellipsoid:
    """1 inside."""

    density: float
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def shadow(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Line integrals of unit density along rays; the body lies about 0."""
        return ellipsoid_chord(origin, direction, np.array(self.radii))

    def voxels(self, xyz: Coordinates, spacing: float) -> np.ndarray:
        """Share of each voxel that is inside, at edges from its centre's distance to the surface, to first order."""
        radius = np.sqrt(sum((c / r) ** 2 for c, r in zip(xyz, self.radii, strict=True)))
        slope = np.sqrt(sum((c / r**2) ** 2 for c, r in zip(xyz, self.radii, strict=True)))
        distance = (radius - 1) * radius / np.maximum(slope, 1e-6)
        return np.clip(0.5 - distance / spacing, 0, 1)


@dataclass(frozen=True)
class Box:
    """1 inside."""

    density: float
    centre: tuple[float, float, float]
    half: tuple[float, float, float]

    def shadow(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Line integrals of unit density along rays; the body lies about 0."""
        return box_chord(origin, direction, np.array(self.half))

    def voxels(self, xyz: Coordinates, spacing: float) -> np.ndarray:
        """Share of each voxel that is inside, exact, as the box lies along the grid."""
        x, y, z = (np.clip((h - np.abs(c)) / spacing + 0.5, 0, 1) for c, h in zip(xyz, self.half, strict=True))
        return x * y * z


def line_integrals(bodies: Sequence[Body], view: View) -> np.ndarray:
    """The true radiograph (rows, columns) of bodies."""
    pixels = np.stack(np.meshgrid(*map(np.arange, view.shape), indexing="ij"), -1)
    origin, direction = view.rays(pixels)
    image = np.zeros(view.shape)
    for body in bodies:
        image += body.density * body.shadow(origin - np.array(body.centre), direction)
    return image


def voxelise(bodies: Sequence[Body], grid: Grid, slab: int = 16) -> np.ndarray:
    """Bodies on a canonical grid: (I, P, L) float32."""
    out: np.ndarray = np.zeros(grid.shape, np.float32)
    for first in range(0, grid.shape[0], slab):
        part = grid.crop((first, 0, 0), (min(slab, grid.shape[0] - first), *grid.shape[1:]))
        # World x, y, z run along array axes 2, 1, 0: each coordinate is a vector that broadcasts.
        along = [part.to_world(np.arange(n)[:, None] * np.eye(3)[axis]) for axis, n in enumerate(part.shape)]
        axes = np.abs(IPL_AXES).argmax(1)  # world axis of each array axis
        shapes = [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]
        world: dict[int, np.ndarray] = {
            int(w): along[a][:, w].reshape(shapes[a]).astype(np.float32) for a, w in enumerate(axes)
        }
        for body in bodies:
            xyz = tuple(world[w] - np.float32(body.centre[w]) for w in range(3))
            out[first : first + slab] += body.density * body.voxels((xyz[0], xyz[1], xyz[2]), grid.spacing_mm)
    return out


def smooth_phantom(size_mm: np.ndarray, seed: int = 0) -> list[Body]:
    """25 Gaussians that stay inside a box of ``size_mm`` (x, y, z) about 0; attenuation per mm."""
    rng = np.random.default_rng(seed)
    bodies: list[Body] = []
    for _ in range(25):
        sigma = float(rng.uniform(6, 14)) * float(min(size_mm)) / 256
        room: np.ndarray = np.maximum(np.asarray(size_mm) / 2 - 4.5 * sigma, 0)
        x, y, z = (float(v) for v in np.atleast_1d(rng.uniform(-room, room)))
        bodies.append(Gaussian(float(rng.uniform(0.01, 0.04)), (x, y, z), sigma))
    return bodies


def edge_phantom(size_mm: np.ndarray) -> list[Body]:
    """A trunk with a lung, seven vertebrae with spinous processes, and a metal bead; attenuation per mm."""
    x, y, z = (float(v) / 2 for v in size_mm)
    bodies: list[Body] = [
        Ellipsoid(0.02, (0.0, 0.0, 0.0), (0.85 * x, 0.65 * y, 0.9 * z)),
        Ellipsoid(-0.015, (-0.4 * x, 0.1 * y, 0.3 * z), (0.25 * x, 0.35 * y, 0.4 * z)),
    ]
    for k in range(7):
        height = (k - 3) * 0.2 * z
        bodies.append(Box(0.02, (3.3, -0.2 * y, height), (0.17 * x, 0.12 * y, 0.07 * z)))
        bodies.append(Box(0.03, (3.3, -0.45 * y, height - 0.02 * z), (0.03 * x, 0.12 * y, 0.04 * z)))
    bodies.append(Ellipsoid(0.4, (0.3 * x, 0.2 * y, -0.25 * z), (3.0, 3.0, 3.0)))
    return bodies
