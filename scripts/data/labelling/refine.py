"""Body marks moved to the middle of their body: across, between its front and back wall and its two sides."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.data.labelling.spine_line import SpineLine
from scripts.data.labelling.volume import CtVolume

# How far a wall may lie from the line, mm, and how far the middle may move.
_REACH_MM, _LARGEST_MOVE_MM = 26.0, 6.0
# C1 has no body: the ring's centre lies behind the dens, through which the line runs.
_RING_BEHIND_MM = 5.0


def centred(ct: CtVolume, line: SpineLine, arcs_mm: dict[int, float]) -> dict[int, np.ndarray]:
    """World positions of bodies whose arc lengths are known.

    The spine's line runs through every body, not always through its middle. At each arc the front and the back wall
    are where bone falls to half of its own brightness; the middle between them, smoothed over neighbours (a person's
    bodies do not jump), is the mark. From side to side the line is centred on the canal, so bone right and left of it
    is balanced only. C1's mark is the centre of its ring.

    Args:
        ct: the CT.
        line: through the bodies.
        arcs_mm: VerSe number -> arc length of the body's middle.
    """
    back = {n: _middle(ct, line, arc, 0) for n, arc in arcs_mm.items()}
    left = {n: _middle(ct, line, arc, 1) for n, arc in arcs_mm.items()}
    numbers = sorted(arcs_mm, key=lambda n: arcs_mm[n])
    smooth = {}
    for axis, found in (("back", back), ("left", left)):
        values = np.array([found[n] for n in numbers])
        values = ndimage.median_filter(values, 3, mode="nearest")
        smooth[axis] = dict(zip(numbers, np.clip(values, -_LARGEST_MOVE_MM, _LARGEST_MOVE_MM), strict=True))
    if 1 in smooth["back"]:
        smooth["back"][1], smooth["left"][1] = _RING_BEHIND_MM, 0.0
    return {n: line.world(arcs_mm[n], smooth["back"][n], smooth["left"][n]) for n in numbers}


def _middle(ct: CtVolume, line: SpineLine, arc_mm: float, axis: int) -> float:
    """Middle between the two walls in mm from the line along ``back`` (axis 0) or ``left`` (axis 1)."""
    i = round(float(np.clip(arc_mm, 0, len(line) - 1)))
    along, across = (line.back[i], line.left[i]) if axis == 0 else (line.left[i], line.back[i])
    down = np.cross(line.back[i], line.left[i])
    steps = np.arange(-_REACH_MM, _REACH_MM + 1)
    # Sideways only the front half counts: pedicles and ribs join the back one.
    beside = np.arange(-5, 6, 2.5) if axis == 0 else np.arange(-6, 2, 2.5)
    where = (
        line.points_mm[i]
        + steps[:, None, None, None] * along
        + beside[None, :, None, None] * across
        + np.arange(-4, 5, 2.0)[None, None, :, None] * down
    )
    index = np.moveaxis(ct.grid.to_index(where), -1, 0)
    hu = ndimage.map_coordinates(ct.hu, index, order=1, mode="nearest").mean((1, 2))
    hu = ndimage.gaussian_filter1d(np.clip(hu, -50, 800), 1.0)
    centre = int(_REACH_MM)
    inside = np.median(hu[centre - 4 : centre + 5])
    threshold = 40 + (inside - 40) / 2
    low, high = centre, centre
    while low > 0 and hu[low] > threshold:
        low -= 1
    while high < len(hu) - 1 and hu[high] > threshold:
        high += 1
    if low == 0 or high == len(hu) - 1 or high - low < 8:
        return 0.0
    return float(steps[low] + steps[high]) / 2
