"""The bones that overlie a spine in radiographs: ribs, sternum, shoulders, pelvis, skull and jaw.

They are chains of spheres, which is as much shape as their shadows need.
"""

from __future__ import annotations

import numpy as np

from scripts.geometry.frames import Grid
from scripts.levels import LEVEL_NUMBERS
from scripts.simulation.body import Body, grid_axes, level_ranks
from scripts.simulation.posture import Posture

FAR_MM = 12.0
FIRST_RIB, LAST_RIB = 8, 19
# Of the twelfth rib's mean length; ribs below half of it are stumps.
LAST_RIB_SHARE, STUMP_SHARE = (0.3, 1.3), 0.5


class BoneField:
    """Distance to the nearest of many spheres on a grid.

    Args:
        grid: canonical.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.axes = grid_axes(grid)
        self.distance: np.ndarray = np.full(grid.shape, FAR_MM, np.float32)

    def add(self, points: np.ndarray, radius_mm: float) -> None:
        """Spheres at points (N, 3) mm along Inferior, Posterior, Left."""
        reach = radius_mm + 2.0
        for point in points:
            box, squares = [], []
            for axis, value in zip(self.axes, point, strict=True):
                first = int(np.searchsorted(axis, value - reach))
                last = int(np.searchsorted(axis, value + reach))
                box.append(slice(first, last))
                squares.append((axis[first:last] - value) ** 2)
            if min(s.stop - s.start for s in box) == 0:
                continue
            part = self.distance[tuple(box)]
            away = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
            np.minimum(part, away - radius_mm, out=part)


def overlying_bones(posture: Posture, body: Body, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Distance in mm to the nearest bone that is neither a vertebra nor the sacrum, (I, P, L) float32, at most 12."""
    field = BoneField(grid)
    frames, ranks = posture.frames(), level_ranks(posture)
    drop = rng.uniform(45, 90)
    # A stream of its own: all else stays as it is, whatever is drawn here.
    last_share = rng.spawn(1)[0].uniform(*LAST_RIB_SHARE)
    for level, rank, centre, frame in zip(posture.levels, ranks, posture.centroids, frames, strict=True):
        if FIRST_RIB <= rank <= LAST_RIB + 0.5:
            for side in (-1.0, 1.0):
                # A thirteenth thoracic vertebra carries a stump, the twelfth one of very different lengths.
                share = 0.2 if level == LEVEL_NUMBERS["T13"] else last_share if rank == LAST_RIB else 1.0
                field.add(_rib(rank, centre, frame, body, grid, side, drop * rng.uniform(0.8, 1.2), share), 3.6)
    at = _Landmarks(body, grid)
    _add_shoulders(field, at, rng)
    _add_pelvis(field, at, rng)
    _add_head(field, at, rng)
    if (sternum := at.row(11)) is not None:
        top = at.point(11, forward=0.96, side=0.0, of="cage")
        length = np.linspace(0, 140, 45)
        for side in (-10.0, 0.0, 10.0):
            line = np.stack([sternum * 0 + top[0] - 30 + length, top[1] - 0.2 * length, 0 * length + top[2] + side], 1)
            field.add(line, 5.0)
    return field.distance


class _Landmarks:
    """Points of the body by level rank."""

    def __init__(self, body: Body, grid: Grid) -> None:
        self.body, self.rows = body, grid_axes(grid)[0]

    def row(self, rank: float) -> int | None:
        row = int(np.abs(self.body.rank - rank).argmin())
        return row if abs(self.body.rank[row] - rank) < 0.6 else None

    def point(self, rank: float, forward: float, side: float, of: str = "outline") -> np.ndarray:
        """A point at shares of the distances to the front (negative: to the back) and to the side (+ left)."""
        row = self.row(rank)
        assert row is not None
        extent = getattr(self.body, of)[row]
        depth = -forward * extent[1] if forward > 0 else -forward * extent[2]
        p, left = self.body.axis[row]
        return np.array([self.rows[row], p + depth, left + side * extent[0]])


def _rib(
    rank: float,
    centre: np.ndarray,
    frame: np.ndarray,
    body: Body,
    grid: Grid,
    side: float,
    drop: float,
    share: float,
) -> np.ndarray:
    """A rib's middle line: from beside the body over the transverse process round the cage, falling forwards."""
    half_width = 11.0 + 0.6 * (rank - 8)
    head = centre + frame @ np.array([-0.3 * half_width, 8.0, side * half_width])
    tubercle = centre + frame @ np.array([-2.0, 22.0, side * (half_width + 16.0)])
    if share <= STUMP_SHARE:
        return _line(head, tubercle, 1.5)
    reach = {18: 1.7, 19: 1.1}.get(int(rank), 2.5) * share
    angle = np.linspace(0.55, max(reach, 0.6), max(int(90 * reach), 8))
    fall = drop * (angle - angle[0]) / 2.0
    rows = grid_axes(grid)[0]
    height = tubercle[0] + fall
    cage = np.stack([np.interp(height, rows, body.cage[:, k]) for k in range(3)], 1) + 5.0
    axis = np.stack([np.interp(height, rows, body.axis[:, k]) for k in range(2)], 1)
    depth, middle = (cage[:, 1] + cage[:, 2]) / 2, axis[:, 0] + (cage[:, 2] - cage[:, 1]) / 2
    around = np.stack([height, middle + depth * np.cos(angle), axis[:, 1] + side * cage[:, 0] * np.sin(angle)], axis=1)
    return np.concatenate([_line(head, tubercle, 1.5), _line(tubercle, around[0], 1.5), _densify(around, 1.5)])


def _add_shoulders(field: BoneField, at: _Landmarks, rng: np.random.Generator) -> None:
    if at.row(8) is None or at.row(10) is None:
        return
    lift = rng.uniform(-25, 25)
    for side in (-1.0, 1.0):
        joint = at.point(8, forward=0.1, side=0.85 * side) + [lift, 0, 0]
        field.add(joint[None], 23.0)
        clavicle_end = at.point(10, forward=0.95, side=0.2 * side, of="cage")
        field.add(_line(clavicle_end, joint + [-15, 0, 0], 2.5), 5.0)
        # Blade: from beside the spine's upper ribs out to the joint.
        inner_top = at.point(10, forward=-1.25, side=0.6 * side, of="cage")
        for share in np.linspace(0, 1, 22):
            inner = inner_top + share * np.array([110.0, 5.0, side * 12.0])
            outer = joint + share * (inner + [0, 0, side * 25.0] - joint)
            field.add(_line(inner, outer, 4.0), 2.5)
        if rng.random() < 0.6:
            arm = joint + np.outer(np.linspace(0, 1, 60), [rng.uniform(-150, 220), -20.0, side * 25.0])
            field.add(arm, 10.0)


def _add_pelvis(field: BoneField, at: _Landmarks, rng: np.random.Generator) -> None:
    if at.row(25) is None:
        return
    middle = at.point(25, forward=0.0, side=0.0)
    crest = rng.uniform(-40, -20)
    for side in (-1.0, 1.0):
        joint = middle + [18.0, 40.0, side * 48.0]
        for share in np.linspace(0, 1, 30):
            angle = -0.4 + 2.3 * share
            edge = middle + [crest + 55 * share**2, 45.0 - 105 * share, side * (62 + 70 * np.sin(min(angle, 1.57)))]
            foot = joint + [45.0, -30.0 * share, side * 25.0 * share]
            field.add(_line(foot, edge, 4.5), 4.0)


def _add_head(field: BoneField, at: _Landmarks, rng: np.random.Generator) -> None:
    if at.row(1) is None:
        return
    base = at.point(1, forward=0.0, side=0.0)
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for lift in np.linspace(0.05, 0.8, 9):
        radius = np.sqrt(max(1 - (1 - lift) ** 2, 0))
        ring = base + np.stack(
            [0 * turn - 18 - 95 * lift, -25 + 92 * radius * np.cos(turn), 70 * radius * np.sin(turn)], axis=1
        )
        field.add(ring, 5.0)
    jaw = np.linspace(-1, 1, 70)
    arch = np.stack([25 + 30 * (1 - jaw**2), -28 - 60 * (1 - jaw**2), 46 * jaw], axis=1) + base
    for lift in (0.0, 9.0, 18.0):
        field.add(arch - [lift, 0, 0], 6.0)


def _line(start: np.ndarray, end: np.ndarray, step_mm: float) -> np.ndarray:
    count = max(int(np.linalg.norm(end - start) / step_mm), 1) + 1
    return start + np.linspace(0, 1, count)[:, None] * (end - start)


def _densify(path: np.ndarray, step_mm: float) -> np.ndarray:
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    even = np.arange(0, length[-1], step_mm)
    return np.stack([np.interp(even, length, path[:, k]) for k in range(3)], axis=1)
