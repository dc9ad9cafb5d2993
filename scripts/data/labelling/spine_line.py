"""Where the spine runs in a CT: the line through the vertebral bodies, found from canal and bone.

In an axial slice the vertebral canal is a spot of soft tissue with a body's bone in front of it and the arch's bone
beside and behind it. The line is the path down the slices on which this is most so (dynamic programming), so that a
slice in which it is not seen is bridged by its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.data.labelling.volume import CtVolume

# From the canal's centre forwards to the middle of a body, mm: about 15 in a neck, 25 in a lumbar spine.
BODY_BEFORE_CANAL_MM = (15.0, 26.0)
_STEP = 2


@dataclass(frozen=True)
class SpineLine:
    """A smooth line through the bodies, from head to foot.

    Args:
        points_mm: (N, 3) world, 1 mm apart.
        back: (N, 3) unit vectors at right angles to the line, backwards in the sagittal plane.
        left: (N, 3) unit vectors at right angles to both.
    """

    points_mm: np.ndarray
    back: np.ndarray
    left: np.ndarray

    def __len__(self) -> int:
        return len(self.points_mm)

    def place(self, point_mm: np.ndarray) -> np.ndarray:
        """(arc length, back, left) in mm of a world point (3,)."""
        nearest = int(np.linalg.norm(self.points_mm - point_mm, axis=1).argmin())
        off = np.asarray(point_mm) - self.points_mm[nearest]
        down = np.cross(self.back[nearest], self.left[nearest])
        return np.array([nearest + off @ down, off @ self.back[nearest], off @ self.left[nearest]])

    def world(self, arc_mm: float, back_mm: float = 0.0, left_mm: float = 0.0) -> np.ndarray:
        """World point (3,) of a place along the line and beside it."""
        at = np.clip(arc_mm, 0, len(self) - 1)
        i = round(float(at))
        down = np.cross(self.back[i], self.left[i])
        return self.points_mm[i] + (arc_mm - i) * down + back_mm * self.back[i] + left_mm * self.left[i]


def find_spine(ct: CtVolume) -> SpineLine:
    """The spine's line in a CT that shows it upright, whole or in part."""
    canal = _canal_score(ct)
    path: np.ndarray = _best_path(canal[:, ::_STEP, ::_STEP]) * _STEP
    rows: np.ndarray = np.arange(len(path), dtype=float)
    spacing = ct.grid.spacing_mm
    smooth = ndimage.gaussian_filter1d(path.astype(float), 12 / spacing, axis=0, mode="nearest")
    index = np.column_stack([rows, smooth])
    canal_mm = ct.grid.to_world(index)
    line = frame_along(canal_mm)
    depth = np.clip(_body_depth(ct, line), *BODY_BEFORE_CANAL_MM)
    return frame_along(line.points_mm - depth[:, None] * line.back)


def frame_along(points_mm: np.ndarray) -> SpineLine:
    """A line through points (N, 3), head to foot, with 1 mm steps and a frame that does not twist."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_mm, axis=0), axis=1))])
    at = np.arange(0.0, length[-1], 1.0)
    points = np.stack([np.interp(at, length, points_mm[:, axis]) for axis in range(3)], 1)
    down = np.gradient(ndimage.gaussian_filter1d(points, 6, axis=0, mode="nearest"), axis=0)
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    world_left = np.array([-1.0, 0.0, 0.0])
    left = world_left - (down @ world_left)[:, None] * down
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return SpineLine(points, np.cross(left, down), left)


def _canal_score(ct: CtVolume) -> np.ndarray:
    """(I, P, L) how much each voxel looks like the centre of a vertebral canal, 0 to 1."""
    mm = ct.grid.spacing_mm
    bone = np.clip((ct.hu - 130) / 200, 0, 1)
    soft = np.exp(-(((ct.hu - 35) / 70) ** 2))
    canal = _box(soft, 6, 8, 12, mm)
    body = np.maximum(
        _shifted(_box(bone, 16, 12, 14, mm), -15, 0, mm), _shifted(_box(bone, 20, 18, 24, mm), -22, 0, mm)
    )
    left, right = (_shifted(_box(bone, 10, 10, 8, mm), 0, side, mm) for side in (15.0, -15.0))
    behind = _shifted(_box(bone, 20, 10, 8, mm), 14, 0, mm)
    arch = np.sqrt(left * right) + behind
    return canal * np.sqrt(np.maximum(body, 0)) * (0.2 + arch)


def _box(values: np.ndarray, down_mm: float, back_mm: float, left_mm: float, spacing_mm: float) -> np.ndarray:
    return ndimage.uniform_filter(values, [max(round(v / spacing_mm), 1) for v in (down_mm, back_mm, left_mm)])


def _shifted(values: np.ndarray, back_mm: float, left_mm: float, spacing_mm: float) -> np.ndarray:
    """At each voxel the value so far behind it (negative: in front) and to its left."""
    move = [round(v / spacing_mm) for v in (back_mm, left_mm)]
    return np.roll(values, (-move[0], -move[1]), (1, 2))


def _best_path(score: np.ndarray) -> np.ndarray:
    """(I, 2) index of the path with the largest sum of scores that moves by one voxel at most, dearly, a row."""
    rows = score.shape[0]
    moves = [(0, 0, 0.0), *[(p, q, 0.04 * (abs(p) + abs(q))) for p in (-1, 0, 1) for q in (-1, 0, 1) if p or q]]
    best = score[0].copy()
    came = np.zeros(score.shape, np.int8)
    for row in range(1, rows):
        options = np.stack([_moved(best, p, q) - cost for p, q, cost in moves])
        came[row] = options.argmax(0)
        best = options.max(0) + score[row]
    path = [np.array(np.unravel_index(int(best.argmax()), best.shape))]
    for row in range(rows - 1, 0, -1):
        p, q, _ = moves[came[row][tuple(path[-1])]]
        path.append(path[-1] - [p, q])
    return np.array(path[::-1])


def _moved(best: np.ndarray, p: int, q: int) -> np.ndarray:
    out = np.full_like(best, -np.inf)
    source = best[max(-p, 0) : best.shape[0] - max(p, 0), max(-q, 0) : best.shape[1] - max(q, 0)]
    out[max(p, 0) : best.shape[0] + min(p, 0), max(q, 0) : best.shape[1] + min(q, 0)] = source
    return out


def _body_depth(ct: CtVolume, canal: SpineLine) -> np.ndarray:
    """(N,) distance in mm from the canal forwards to the middle of the bone in front of it, smoothed along the line."""
    depth = np.arange(4.0, 48.0, 1.0)
    beside = np.arange(-6.0, 7.0, 3.0)
    where = (
        canal.points_mm[:, None, None]
        - depth[None, :, None, None] * canal.back[:, None, None]
        + beside[None, None, :, None] * canal.left[:, None, None]
    )
    hu = ndimage.map_coordinates(ct.hu, np.moveaxis(ct.grid.to_index(where), -1, 0), order=1, mode="nearest").mean(-1)
    bone = ndimage.gaussian_filter(np.clip((hu - 80) / 150, 0, 1), (10, 1))
    # The run of bone that begins behind ends where the front wall falls off.
    front = np.array([_first_run_end(row, depth) for row in bone])
    back = np.array([depth[np.flatnonzero(row > 0.5)[0]] if (row > 0.5).any() else 8.0 for row in bone])
    middle = ndimage.median_filter((front + back) / 2, 31, mode="nearest")
    return ndimage.gaussian_filter1d(middle, 15, mode="nearest")


def _first_run_end(row: np.ndarray, depth: np.ndarray) -> float:
    inside = np.flatnonzero(row > 0.5)
    if len(inside) == 0:
        return 24.0
    outside = np.flatnonzero(row[inside[0] :] <= 0.5)
    return float(depth[inside[0] + outside[0]]) if len(outside) else float(depth[-1])
