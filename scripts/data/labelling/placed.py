"""Library shapes in a patient: moved, turned and stretched by nine numbers each, all shapes of a level at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape, shapes_of_level
from scripts.geometry.rotation import rotation_matrix
from scripts.levels import in_order

FAR_MM = 15.0


@dataclass(frozen=True)
class Frame:
    """A vertebra's own axes in the patient.

    Args:
        origin_mm: (3,) world, its mark.
        axes: (3, 3) rows: down, back, left as world vectors.
    """

    origin_mm: np.ndarray
    axes: np.ndarray

    def to_own(self, points_mm: np.ndarray) -> np.ndarray:
        """World (..., 3) -> own mm."""
        return (points_mm - self.origin_mm) @ self.axes.T

    def to_world(self, own_mm: np.ndarray) -> np.ndarray:
        """Own mm (..., 3) -> world."""
        return own_mm @ self.axes + self.origin_mm


@dataclass(frozen=True)
class ShapeStack:
    """Some shapes of one level in boxes of one size.

    Args:
        shapes: (K) of the library.
        fields: (K, 1, I, P, L) signed distances in mm.
        origins: (K, 3) index of each body's centroid.
        volumes_mm3: (K,) of each shape.
    """

    shapes: tuple[VertebraShape, ...]
    fields: torch.Tensor
    origins: torch.Tensor
    volumes_mm3: torch.Tensor

    def subset(self, which: list[int]) -> ShapeStack:
        """Some of them."""
        return ShapeStack(
            tuple(self.shapes[k] for k in which), self.fields[which], self.origins[which], self.volumes_mm3[which]
        )

    def extent_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) around all of them, in their own frame."""
        low = [-np.array(s.origin) * SHAPE_SPACING_MM for s in self.shapes]
        high = [(np.array(s.signed_distance.shape) - s.origin) * SHAPE_SPACING_MM for s in self.shapes]
        return np.min(low, 0), np.max(high, 0)


def frames_along(centroids_mm: dict[int, np.ndarray]) -> dict[int, Frame]:
    """Own frames of marked vertebrae, as the library defines them: down along the line between the two neighbours.

    Args:
        centroids_mm: VerSe number -> world, two at least.
    """
    numbers = in_order(list(centroids_mm))
    places = np.stack([centroids_mm[n] for n in numbers])
    down = np.gradient(places, axis=0)
    down = down / np.linalg.norm(down, axis=1, keepdims=True)
    world_left = np.array([-1.0, 0.0, 0.0])
    left = world_left - (down @ world_left)[:, None] * down
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    back = np.cross(left, down)
    return {n: Frame(places[i], np.stack([down[i], back[i], left[i]])) for i, n in enumerate(numbers)}


@cache
def stacked_shapes(number: int, subjects: tuple[str, ...], most: int) -> ShapeStack | None:
    """The shapes of a level, ``most`` at most; None if the library has none."""
    shapes = shapes_of_level(number, subjects)[:most]
    if not shapes:
        return None
    size = np.max([s.signed_distance.shape for s in shapes], 0)
    fields = np.stack([_grown(s.signed_distance, size) for s in shapes])
    volumes = [float((s.signed_distance < 0).sum()) * SHAPE_SPACING_MM**3 for s in shapes]
    return ShapeStack(
        tuple(shapes),
        torch.from_numpy(fields)[:, None],
        torch.tensor([s.origin for s in shapes]),
        torch.tensor(volumes),
    )


def _grown(distance: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A signed distance in a larger box; beyond its own it goes on growing."""
    extra = [(0, int(n - m)) for n, m in zip(size, distance.shape, strict=True)]
    beyond = np.meshgrid(
        *[np.maximum(np.arange(n) - (m - 1), 0) for n, m in zip(size, distance.shape, strict=True)],
        indexing="ij",
        sparse=True,
    )
    away = np.sqrt(sum(b.astype(np.float32) ** 2 for b in beyond)) * SHAPE_SPACING_MM
    return np.pad(distance, extra, mode="edge") + away.astype(np.float32)


def shape_distances(stack: ShapeStack, own_mm: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Distances (K, N) in mm, negative inside, of own points (N, 3) to K placed shapes.

    Args:
        stack: the shapes.
        own_mm: points in the vertebra's own frame.
        numbers: (K, 9): move in mm, rotation vector in radians, logarithms of the stretches (down, back, left).
    """
    stretch = torch.exp(numbers[:, 6:])
    there = (own_mm[None] - numbers[:, None, :3]) @ rotation_matrix(numbers[:, 3:6]) / stretch[:, None]
    index = there / SHAPE_SPACING_MM + stack.origins[:, None]
    size = torch.tensor(stack.fields.shape[2:], dtype=torch.float32)
    sample = (2 * index + 1) / size - 1
    where = sample.flip(-1)[:, None, None]
    distance = F.grid_sample(stack.fields, where, align_corners=False, padding_mode="border")[:, 0, 0, 0]
    beyond = (sample.abs() - 1).clamp(min=0) * size / 2 * SHAPE_SPACING_MM
    grown = distance + beyond.sum(-1)
    return (grown * torch.exp(numbers[:, 6:].mean(1))[:, None]).clamp(-FAR_MM, FAR_MM)
