"""Vertebrae that lean: patches and cubes turned so that the spine runs down through them as through a straight one.

Spines that a network learns from are mostly straight, and it reconstructs what leans too upright. So the line of the
marks says how a vertebra leans, its patches are cut along that line, and the network's cube is turned back. What that
is worth: ``docs/measurements.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scripts.geometry.components import bounding_box
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR

# Marks this near say how a vertebra leans: the next on each side below the neck, two of them in it.
REACH_MM = 45.0
# An only neighbour may be as far away as this.
FARTHEST_MM = 80.0
# Of the sagittal lean, as much as this is taken away: thoracic and lumbar vertebrae always lean their way, and the
# networks know that; of 0, 1/2 and 1 this measured best.
SAGITTAL_SHARE = 0.5
LIMIT_DEG = 60.0


@dataclass(frozen=True)
class Lean:
    """How a vertebra leans.

    Args:
        frontal_deg: in the frontal plane, the spine's downward direction towards the Left.
        sagittal_deg: in the sagittal plane, the downward direction towards Posterior.
    """

    frontal_deg: float = 0.0
    sagittal_deg: float = 0.0

    def left_over_deg(self) -> float:
        """How much a vertebra still leans in the sagittal plane of its cube, which turns with it only in part."""
        return self.sagittal_deg * (1 - SAGITTAL_SHARE) / SAGITTAL_SHARE

    def rotation(self) -> np.ndarray:
        """(3, 3) in index axes I, P, L: what stands upright -> what leans."""
        frontal, sagittal = np.eye(3), np.eye(3)
        frontal[np.ix_([0, 2], [0, 2])] = turn(self.frontal_deg)
        sagittal[:2, :2] = turn(self.sagittal_deg)
        return frontal @ sagittal


UPRIGHT = Lean()


def turn(degrees: float) -> np.ndarray:
    """(2, 2) rotation that takes the first axis towards the second."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def spine_leans(body_centroids_mm: np.ndarray, sagittal_share: float = SAGITTAL_SHARE) -> list[Lean]:
    """How much to turn each vertebra, whole degrees, from the line through the bodies around it.

    Args:
        body_centroids_mm: (N, 3) world, head to foot.
        sagittal_share: of the sagittal lean; 1 is along the spine.

    Returns:
        N leans; upright where there is no neighbour.
    """
    points = np.asarray(body_centroids_mm, float) @ np.stack([INFERIOR, POSTERIOR, LEFT]).T
    leans = []
    for point in points:
        distances = np.linalg.norm(points - point, axis=1)
        near = distances <= max(REACH_MM, float(np.sort(distances)[1])) if len(points) > 1 else distances < 0
        if not near.any() or distances[near].max() > FARTHEST_MM:
            leans.append(UPRIGHT)
            continue
        around = points[near] - points[near].mean(axis=0)
        down, backwards, left = np.linalg.svd(around, full_matrices=False)[2][0]
        if down < 0:
            down, backwards, left = -down, -backwards, -left
        angles = np.degrees(np.arctan2([left, sagittal_share * backwards], down)).clip(-LIMIT_DEG, LIMIT_DEG)
        leans.append(Lean(*(float(a) for a in np.rint(angles))))
    return leans


def turned(
    image: torch.Tensor, rotation: np.ndarray, centre: np.ndarray, mode: str = "bilinear", padding: str = "zeros"
) -> torch.Tensor:
    """An image turned about a point.

    Args:
        image: (C, N, N) or (C, N, N, N).
        rotation: of index axes, first to last.
        centre: index that stays where it is.
        mode: interpolation, as of ``torch.nn.functional.grid_sample``.
        padding: what is beyond the image, as of ``torch.nn.functional.grid_sample``.

    Returns:
        the image's shape and type.
    """
    whole = np.array([[0, size] for size in image.shape[1:]])
    return _sampled(image, rotation, np.asarray(centre), whole, mode, padding)


def turned_object(volume: np.ndarray, rotation: np.ndarray, centre: np.ndarray, background: float) -> np.ndarray:
    """`turned` for a volume (N, N, N) that is hardly above its background but for one object: only that is sampled.

    Args:
        volume: float32.
        rotation: (3, 3) of index axes, first to last.
        centre: (3,) index that stays where it is.
        background: everything up to this becomes 0 where it is far from the object.
    """
    out = np.zeros_like(volume)
    above = volume > background
    filled = bounding_box(above)
    if filled is None:
        return out
    ranges = [(s.start, s.stop - 1) for s in filled]
    corners = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    reached = (corners - centre) @ rotation.T + centre
    low = np.clip(np.floor(reached.min(axis=0)) - 1, 0, volume.shape).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + 2, 0, volume.shape).astype(int)
    if (high > low).all():
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        sample = _sampled(
            torch.from_numpy(volume)[None], rotation, centre, np.stack([low, high], 1), "bilinear", "zeros"
        )
        out[box] = sample[0].numpy()
    return out


def _sampled(
    image: torch.Tensor, rotation: np.ndarray, centre: np.ndarray, box: np.ndarray, mode: str, padding: str
) -> torch.Tensor:
    """A box (dims, 2) of the turned image."""
    size, back, length = image.shape[-1], rotation.T, box[:, 1] - box[:, 0]
    # Frames from -1 to 1: that of the whole image, and of the box in it; affine_grid counts axes from the last.
    middle = (2 * centre + 1) / size - 1
    scale, start = length / size, box.sum(axis=1) / size - 1
    offset = middle + back @ (start - middle)
    theta = np.concatenate([(back * scale)[::-1, ::-1], offset[::-1, None]], axis=1)
    grid = F.affine_grid(torch.from_numpy(theta[None].copy()).float(), [1, 1, *length], align_corners=False)
    plain = torch.as_tensor(image).float()[None]
    moved = F.grid_sample(plain, grid.to(plain.device), mode=mode, padding_mode=padding, align_corners=False)[0]
    return torch.as_tensor(image).new_tensor(0) + moved.to(image.dtype)
