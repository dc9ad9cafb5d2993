"""The exposed field of a film: digital shutters, unexposed margins and flat borders are found and masked.

The film keeps its size, so that marks stay where they were; only what lies beyond the field is filled.
"""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from scripts.films.film import Field

FLAT = 0.015  # of the film's range: a border line is flatter than that
STEP = 0.15  # of the film's range: what a collimator's edge jumps
STRAIGHT = 0.9  # share of a line's pixels that jump
REACH = 3  # lines over which it does
DEEPEST = 0.35  # of the film's size: no border reaches further in
SAMPLES = 500  # pixels of a line that are looked at
SHORTEST = 0.3  # of the film's size: a smaller field is not believed


def header_field(header: Dataset, shape: tuple[int, int]) -> Field | None:
    """The rectangular shutter or collimator of a header, in stored pixels, if there is one."""
    for kind in ("Shutter", "Collimator"):
        shapes = header.get(f"{kind}Shape")
        if shapes is None or "RECTANGULAR" not in str(shapes):
            continue
        names = ("UpperHorizontalEdge", "LeftVerticalEdge", "LowerHorizontalEdge", "RightVerticalEdge")
        edges = [header.get(kind + name) for name in names]
        if any(edge is None for edge in edges):
            continue
        top, left, bottom, right = (int(e) for e in edges if e is not None)  # 1-based, inclusive of the edge itself
        field = (max(top - 1, 0), max(left - 1, 0), min(bottom, shape[0]), min(right, shape[1]))
        if _believable(field, shape):
            return field
    return None


def find_field(film: np.ndarray) -> Field:
    """The exposed field of a film whose borders run along its edges.

    Args:
        film: (rows, columns), finite.

    Returns:
        (top, left, bottom, right), end exclusive; the whole film if no border is seen.
    """
    whole = (0, 0, film.shape[0], film.shape[1])
    some = film[:: max(film.shape[0] // SAMPLES, 1), :: max(film.shape[1] // SAMPLES, 1)]
    low, high = float(np.percentile(some, 0.5)), float(np.percentile(some, 99.5))
    if high <= low:
        return whole
    scaled = (np.clip(film, low, high) - low) / (high - low)
    top, left, bottom, right = whole
    # A margin on one side hides in the lines across it: look twice.
    for _ in range(2):
        part = scaled[top:bottom, left:right]
        rows = _border(part), _border(part[::-1])
        top, bottom = top + rows[0], bottom - rows[1]
        part = scaled[top:bottom, left:right]
        columns = _border(part.T), _border(part.T[::-1])
        left, right = left + columns[0], right - columns[1]
    field = (top, left, bottom, right)
    return field if _believable(field, film.shape) else whole


def mask_outside(film: np.ndarray, field: Field) -> np.ndarray:
    """The film with everything beyond its field at the field's lowest value."""
    top, left, bottom, right = field
    inside = film[top:bottom, left:right]
    out = np.full_like(film, inside.min())
    out[top:bottom, left:right] = inside
    return out


def _border(part: np.ndarray) -> int:
    """How many first lines of a scaled film are border."""
    lines = part[: max(int(DEEPEST * len(part)), 1), :: max(part.shape[1] // SAMPLES, 1)]
    spread = np.percentile(lines, 95, axis=1) - np.percentile(lines, 5, axis=1)
    flat = spread < FLAT
    depth = int(np.argmin(flat)) if not flat.all() else len(lines)
    return max(depth, _step(lines))


def _step(lines: np.ndarray) -> int:
    """Where a bright, even margin (a collimator's shadow) ends in one straight step down; 0 if there is none.

    A dark margin would look like a patient's straight back; air and dark borders need no masking unless they are flat.
    """
    if len(lines) <= 2 * REACH:
        return 0
    falls = ((lines[:-REACH] - lines[REACH:]) > STEP).mean(1)
    found = np.flatnonzero(falls >= STRAIGHT)
    if not len(found) or found[-1] - found[0] > REACH:
        return 0
    margin = lines[: int(found[0]) + 1]
    even = np.percentile(margin, 90) - np.percentile(margin, 10) < 2 * STEP
    return int(found[-1]) + REACH if even else 0


def _believable(field: Field, shape: tuple[int, ...]) -> bool:
    top, left, bottom, right = field
    return bottom - top >= SHORTEST * shape[0] and right - left >= SHORTEST * shape[1]
