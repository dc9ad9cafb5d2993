"""Which part of a pair of films the network is shown in training, and how it is turned and magnified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

MIRRORED_CORNERS = (1, 0, 3, 2)
# Beyond the first and the last mark, in pixels of the film.
ROOM_PX = 40


@dataclass(frozen=True)
class WindowOptions:
    """How windows are drawn; pixels are those of the film.

    Args:
        shape: (rows, columns) of the windows, multiples of 32.
        scale: smallest and largest magnification.
        tilt_deg: largest turn in the plane.
        mirror_prob: of each view to be mirrored.
        part_prob: of a pair to be cut off above and below.
        narrow_prob: of a pair to be collimated to the spine at both sides.
        beside_px: smallest and largest that is then left beside the outermost centroids.
        shift_px: how far the two windows may differ in height.
        aside_px: how far a window's middle may lie beside the spine.
    """

    shape: tuple[int, int] = (256, 96)
    scale: tuple[float, float] = (0.8, 1.25)
    tilt_deg: float = 6.0
    mirror_prob: float = 0.25
    part_prob: float = 0.4
    narrow_prob: float = 0.35
    beside_px: tuple[float, float] = (15.0, 50.0)
    shift_px: float = 12.0
    aside_px: float = 32.0


@dataclass(frozen=True)
class Window:
    """A window of one film.

    Args:
        middle: (2,) pixel of the film that comes to lie in the window's middle.
        scale: window pixels a film pixel.
        angle: of the turn, in radians.
        half_rows: rows of the window above and below its middle in which there is film.
        columns: first and last of the window between which there is film.
        mirrored: left to right, after everything else.
    """

    middle: np.ndarray
    scale: float
    angle: float
    half_rows: float
    columns: tuple[float, float]
    mirrored: bool

    def turn(self) -> np.ndarray:
        """(2, 2): a difference of window pixels times its transpose, by ``scale``, is one of film pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])


def draw_windows(
    centroids: Sequence[np.ndarray], options: WindowOptions, random: np.random.RandomState
) -> tuple[Window, Window]:
    """A window of each film of a pair.

    Args:
        centroids: AP and LAT, (N, 2) pixels of at least one vertebra, head to foot.
        options: ranges.
        random: source.
    """
    scale = float(np.exp(random.uniform(*np.log(options.scale))))
    first, last = _rows(centroids[0][:, 0], scale, options, random)
    narrow = options.narrow_prob > 0 and random.rand() < options.narrow_prob
    centre = (np.array(options.shape) - 1) / 2
    windows = []
    for points in centroids:
        middle_row = (first + last) / 2 + random.uniform(-1, 1) * options.shift_px
        near = np.argmin(np.abs(points[:, 0] - middle_row))
        middle = np.array([middle_row, points[near, 1] + random.uniform(-1, 1) * options.aside_px])
        own = scale * float(np.exp(random.uniform(-0.03, 0.03)))
        angle = float(np.radians(random.uniform(-1, 1) * options.tilt_deg))
        mirrored = bool(random.rand() < options.mirror_prob)
        room = random.uniform(*options.beside_px, 2) * own if narrow else np.full(2, np.inf)
        window = Window(middle, own, angle, (last - first) / 2 * own, (-np.inf, np.inf), mirrored)
        shown = (points - middle) @ window.turn() * own + centre
        shown = shown[np.abs(shown[:, 0] - centre[0]) <= min(window.half_rows, centre[0])]
        if len(shown):
            columns = float(shown[:, 1].min() - room[0]), float(shown[:, 1].max() + room[1])
            window = replace(window, columns=columns)
        windows.append(window)
    return windows[0], windows[1]


def mirror_points(points: np.ndarray, columns: int) -> np.ndarray:
    """Marks (N, 5, 2), centroid and corners, in a mirrored window so many columns wide."""
    mirrored = points[:, [0, *(1 + i for i in MIRRORED_CORNERS)]].copy()
    mirrored[..., 1] = columns - 1 - mirrored[..., 1]
    return mirrored


def _rows(
    heights: np.ndarray, scale: float, options: WindowOptions, random: np.random.RandomState
) -> tuple[float, float]:
    """The window's height in the AP film; at least three vertebrae and most of the window's own height if whole."""
    reach = options.shape[0] / scale
    low, high = heights.min() - ROOM_PX, heights.max() + ROOM_PX
    if random.rand() < options.part_prob and len(heights) > 4:
        pick = random.randint(len(heights) - 3)
        count = random.randint(3, len(heights) - pick)
        pitch = float(np.median(np.abs(np.diff(heights))))
        low = heights[pick] - random.uniform(0.2, 1.5) * pitch
        high = heights[pick + count] + random.uniform(0.2, 1.5) * pitch
    if high - low > reach:
        low += random.rand() * (high - low - reach)
        high = low + reach
    return float(low), float(high)
