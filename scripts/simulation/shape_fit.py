"""How one real vertebra becomes another: move, turn and three stretches that lay their signed distances together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape

# Beyond this a distance says only "far": a missing process must not drag the rest along.
REACH_MM = 5.0
POINT_SPACING_MM = 5.0
# Prior of one pair: log-stretch, turn (radians), place (mm). Weak; it decides only where the shapes do not.
PRIOR = np.repeat([0.25, 0.25, 6.0], 3)
# Residual variance of a point as if independent, mm^2: neighbouring points repeat each other.
NOISE_MM2 = 4.0 * 15
# Steps so short no longer change anything.
LARGEST_DAMPING = 1e2


@dataclass(frozen=True)
class AffineFit:
    """Maps points of a target's own frame to those of a source's: ``source = exp(-stretch) * turn (target - place)``.

    Args:
        stretch: (3,) log; positive: the target is larger along the source's axis (down, back, left).
        turn: (3, 3) rotation matrix.
        place: (3,) mm in the target's frame where the source's centroid falls.
        residual_mm: root mean square of the difference of the squashed distances near the surface.
        dice: overlap of the two shapes after the fit.
    """

    stretch: np.ndarray
    turn: np.ndarray
    place: np.ndarray
    residual_mm: float
    dice: float

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) mm of the target's frame -> (..., 3) mm of the source's."""
        return ((points - self.place) @ self.turn.T) * np.exp(-self.stretch)

    def to_target(self, points: np.ndarray) -> np.ndarray:
        """The other way."""
        return (points * np.exp(self.stretch)) @ self.turn + self.place

    @cached_property
    def turn_deg(self) -> np.ndarray:
        """(3,) rotation vector in degrees about down, back, left."""
        return np.degrees(Rotation.from_matrix(self.turn).as_rotvec())


def distance_at(shape: VertebraShape, points: np.ndarray) -> np.ndarray:
    """Signed distance (...) mm of a shape at points (..., 3) mm of its own frame; beyond its box as at the border."""
    index = points / SHAPE_SPACING_MM + np.array(shape.origin)
    coordinates = index.reshape(-1, 3).T
    return ndimage.map_coordinates(shape.signed_distance, coordinates, order=1, mode="nearest").reshape(
        points.shape[:-1]
    )


def box_points(shape: VertebraShape, spacing_mm: float, margin_mm: float = 8.0) -> np.ndarray:
    """Points (N, 3) mm on a grid over a shape's box, in its own frame."""
    low = -np.array(shape.origin) * SHAPE_SPACING_MM - margin_mm
    high = low + np.array(shape.signed_distance.shape) * SHAPE_SPACING_MM + 2 * margin_mm
    axes = [np.arange(a, b, spacing_mm) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def fit_affine(source: VertebraShape, target: VertebraShape, steps: int = 25) -> AffineFit:
    """The nine numbers that lay a source onto a target, by Levenberg-Marquardt on their squashed distances.

    Args:
        source: whose shape is moved.
        target: the shape that it is to take.
        steps: of the iteration; it stops when nothing changes.
    """
    points = box_points(target, POINT_SPACING_MM)
    slopes = np.gradient(source.signed_distance, SHAPE_SPACING_MM)
    wanted = _squash(distance_at(target, points))
    stretch, turn, place = np.zeros(3), np.eye(3), np.zeros(3)
    damping, best = 1e-2, np.inf
    state = (stretch, turn, place)
    residual, jacobian = _linearise(source, slopes, points, wanted, *state)
    best = _cost(residual, *state)
    for _ in range(steps):
        stretch, turn, place = state
        departure = np.concatenate([stretch, Rotation.from_matrix(turn).as_rotvec(), place])
        normal = jacobian.T @ jacobian / NOISE_MM2 + np.diag(1 / PRIOR**2)
        slope = jacobian.T @ residual / NOISE_MM2 + departure / PRIOR**2
        change = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope)
        trial = (stretch + change[:3], turn @ Rotation.from_rotvec(change[3:6]).as_matrix(), place + change[6:])
        next_residual, next_jacobian = _linearise(source, slopes, points, wanted, *trial)
        cost = _cost(next_residual, *trial)
        if cost < best:
            gain, best, damping = best - cost, cost, damping / 3
            state, residual, jacobian = trial, next_residual, next_jacobian
            if gain < 1e-4 * best:
                break
        else:
            damping *= 6
            if damping > LARGEST_DAMPING:
                break
    stretch, turn, place = state
    near = np.abs(wanted) < 0.6 * REACH_MM
    source_inside, target_inside = residual + wanted < 0, wanted < 0
    dice = 2 * (source_inside & target_inside).sum() / (source_inside.sum() + target_inside.sum())
    return AffineFit(stretch, turn, place, float(np.sqrt((residual[near] ** 2).mean())), float(dice))


def _squash(distance: np.ndarray) -> np.ndarray:
    return REACH_MM * np.tanh(distance / REACH_MM)


def _linearise(
    source: VertebraShape,
    slopes: list[np.ndarray],
    points: np.ndarray,
    wanted: np.ndarray,
    stretch: np.ndarray,
    turn: np.ndarray,
    place: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Residual (N,) mm and its derivatives (N, 9) by log-stretch, turn and place."""
    from_place = points - place
    scale = np.exp(-stretch)
    where = (from_place @ turn.T) * scale
    size = float(np.exp(stretch.mean()))
    distance = distance_at(source, where) * size
    index = (where / SHAPE_SPACING_MM + np.array(source.origin)).T
    parts = [ndimage.map_coordinates(slope, index, order=1, mode="nearest") for slope in slopes]
    gradient = np.stack(parts, -1) * size
    squashed = _squash(distance)
    gradient = gradient * (1 - (squashed / REACH_MM) ** 2)[:, None]
    by_stretch = -gradient * where
    # turn (1 + [w]x) v: the derivative by w is v x (turn^T scale gradient).
    back = (gradient * scale) @ turn
    by_turn = np.cross(from_place, back)
    return squashed - wanted, np.concatenate([by_stretch, by_turn, -back], axis=1)


def _cost(residual: np.ndarray, stretch: np.ndarray, turn: np.ndarray, place: np.ndarray) -> float:
    departure = np.concatenate([stretch, Rotation.from_matrix(turn).as_rotvec(), place]) / PRIOR
    return float((residual**2).sum() / NOISE_MM2 + (departure**2).sum())
