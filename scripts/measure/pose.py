"""How a vertebra lies: its body told from its arch, its endplates, and the axes that follow from them.

The vertebra is looked at in its own frame (down, backwards, left; 1 mm), which is improved three times:

1. the body's walls and endplates are read (`scripts.measure.body`);
2. the long axis is the mean of both endplates' normals (C2 has one endplate, and its long axis is that of the spine
   there);
3. the median plane is the plane along the long axis about which the vertebra is most nearly its own mirror image.

Axes and signs are those of the Scoliosis Research Society (Stokes 1994, doi 10.1097/00007632-199401001-00020, and the
ISB's page on it): x forwards, y to the left, z up. Two of its definitions are replaced by steadier ones: z by the mean
normal of the endplates (instead of the line through their centres), y by the symmetry of the whole vertebra (instead of
two points on the pedicles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from scripts.geometry.frames import IPL_AXES
from scripts.geometry.symmetry import symmetry_plane, symmetry_sd
from scripts.levels import LEVEL_NUMBERS
from scripts.measure.body import REACH_MM, STEP_MM, NoBodyError, Plate, read_body

ROUNDS = 3
SMOOTH_MM = 1.0
SAMPLES = tuple(int(n) for n in np.rint((REACH_MM[:, 1] - REACH_MM[:, 0]) / STEP_MM) + 1)


@dataclass(frozen=True)
class Endplate:
    """One endplate as a plane.

    Args:
        centre_mm: (3,) world.
        normal: (3,) world unit vector, upwards for both endplates.
        sd_deg: of the tilt in the vertebra's own (frontal, sagittal) plane.
    """

    centre_mm: np.ndarray
    normal: np.ndarray
    sd_deg: tuple[float, float]


@dataclass(frozen=True)
class VertebraPose:
    """A vertebra's place, direction and size.

    Args:
        level: VerSe number.
        origin_mm: (3,) world; the middle of the body.
        axes: (3, 3), rows x (forwards), y (left) and z (up), world unit vectors.
        upper: endplate; None for C2.
        lower: endplate.
        axial_sd_deg: of the turn about z.
        width_mm: of the body, at half height.
        depth_mm: of the body, at half height in the median plane.
        heights_mm: of the body in the median plane: in front, in the middle, behind; None for C2.
        canal_found: whether the canal separates body and arch; else the depth is a guess.
    """

    level: int
    origin_mm: np.ndarray
    axes: np.ndarray
    upper: Endplate | None
    lower: Endplate
    axial_sd_deg: float
    width_mm: float
    depth_mm: float
    heights_mm: tuple[float, float, float] | None
    canal_found: bool


def estimate_pose(
    level: int,
    probability: np.ndarray,
    affine: np.ndarray,
    body_centroid_mm: np.ndarray,
    down_hint: np.ndarray | None = None,
) -> VertebraPose:
    """The pose of one vertebra.

    Args:
        level: VerSe number.
        probability: (I, P, L) of this vertebra alone, 0 to 1, or its mask; 1 mm voxels or nearly.
        affine: (4, 4) voxel index -> world mm, axes along I, P, L.
        body_centroid_mm: (3,) world; a few mm off does no harm.
        down_hint: (3,) world direction of the spine there; straight down if None.

    Raises:
        NoBodyError: C1, or no body is found.
    """
    if level == LEVEL_NUMBERS["C1"]:
        raise NoBodyError("C1 has no body")
    spacing = float(np.linalg.norm(affine[:3, 0]))
    looked_at = _Looked(probability, spacing)
    index = np.linalg.solve(affine[:3, :3], np.asarray(body_centroid_mm, float) - affine[:3, 3])
    centre = index * spacing
    down = _unit(IPL_AXES @ down_hint) if down_hint is not None else np.array([1.0, 0, 0])
    posterior = looked_at.centre_of_mass() - centre
    for step in range(ROUNDS):
        frame = _frame(down, posterior)
        volume = looked_at.sample(centre, frame)
        body = read_body(volume, level, only_slopes=True)
        turn = symmetry_plane(volume, body.middle, near=step > 0)
        centre = centre + frame @ body.middle_mm
        sagittal, frontal = body.slopes
        # Plane: down = a + sagittal * backwards + frontal * left; its normal in the frame is (1, -sagittal, -frontal).
        if body.upper is not None:
            down = _unit(frame @ np.array([1.0, -sagittal, -frontal]))
        posterior = frame @ np.array([0.0, np.cos(turn), np.sin(turn)])
    final = _frame(down, posterior)
    volume = looked_at.sample(centre, final)
    body = read_body(volume, level)

    def to_world(own: np.ndarray) -> np.ndarray:
        return affine[:3, :3] @ ((centre + final @ own) / spacing) + affine[:3, 3]

    plates = [None if plate is None else _endplate(plate, to_world, final) for plate in (body.upper, body.lower)]
    assert plates[1] is not None
    world = final.T @ IPL_AXES
    return VertebraPose(
        level=level,
        origin_mm=to_world(body.middle_mm),
        axes=np.stack([-world[1], world[2], -world[0]]),
        upper=plates[0],
        lower=plates[1],
        axial_sd_deg=float(np.degrees(symmetry_sd(volume, body.middle))),
        width_mm=body.width,
        depth_mm=body.depth,
        heights_mm=body.heights,
        canal_found=body.canal_found,
    )


def spine_directions(centres_mm: np.ndarray) -> list[np.ndarray | None]:
    """The spine's direction downwards at each body, between its two neighbours.

    Args:
        centres_mm: (N, 3) world, head to foot.

    Returns:
        N vectors (3,), not of unit length; None for a single body.
    """
    return list(np.gradient(centres_mm, axis=0)) if len(centres_mm) > 1 else [None] * len(centres_mm)


class _Looked:
    """A vertebra that can be looked at in any frame. Lengths in mm from the first voxel, along I, P, L."""

    def __init__(self, probability: np.ndarray, spacing: float) -> None:
        inside = np.argwhere(probability > 0.25)
        if len(inside) < 500 / spacing**3:
            raise NoBodyError("too little of it is there")
        low, high = np.maximum(inside.min(0) - 4, 0), inside.max(0) + 5
        part: np.ndarray = probability[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
        padded = gaussian_filter(np.pad(part, 4), SMOOTH_MM / spacing, truncate=3)
        self.volume, self.first, self.spacing = torch.from_numpy(padded), (low - 4) * spacing, spacing
        self.mean = inside.mean(0) * spacing

    def centre_of_mass(self) -> np.ndarray:
        return self.mean

    def sample(self, centre: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """(down, backwards, left) at `REACH_MM` around a centre, `STEP_MM` apart; frame: columns its axes."""
        # Own place -> `grid_sample`'s coordinates (-1 and 1 are the outer faces, last axis first), in one matrix.
        size = np.array(self.volume.shape)
        to_sample = ((2 / (self.spacing * size))[:, None] * frame)[::-1]
        offset = ((2 * (centre - self.first) / self.spacing + 1) / size - 1)[::-1]
        matrix, shift = (torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32) for v in (to_sample.T, offset))
        # What each axis adds; a product of all places with the matrix takes three times as long.
        down, back, left = (line[:, None] * row for line, row in zip(_own_places(), matrix, strict=True))
        where = down[:, None, None] + (back[:, None] + (left + shift))
        return F.grid_sample(self.volume[None, None], where[None], align_corners=False)[0, 0].numpy()


@cache
def _own_places() -> tuple[torch.Tensor, ...]:
    """Along each axis of the own frame, the places (n,) in mm that are looked at."""
    return tuple(torch.arange(n) * STEP_MM + low for n, low in zip(SAMPLES, REACH_MM[:, 0].tolist(), strict=True))


def _endplate(plate: Plate, to_world: Callable[[np.ndarray], np.ndarray], frame: np.ndarray) -> Endplate:
    normal = frame @ _unit(np.array([-1.0, plate.coefficients[1], plate.coefficients[2]]))
    frontal, sagittal = np.degrees(np.arctan(plate.slope_sd))
    return Endplate(to_world(plate.middle), normal @ IPL_AXES, (float(frontal), float(sagittal)))


def _frame(down: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """(3, 3), columns: down, backwards (made perpendicular), left, along I, P, L."""
    back = _unit(posterior - (posterior @ down) * down)
    return np.stack([down, back, np.cross(down, back)], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
