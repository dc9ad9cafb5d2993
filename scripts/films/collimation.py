"""The exposed field of a film: digital shutters, unexposed margins and flat borders are found and masked.

The film keeps its size, so that marks stay where they were; only what lies beyond the field is filled.
"""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from skimage.draw import polygon2mask

from scripts.films.film import Field
from scripts.films.header import texts

FLAT = 0.015  # of the film's range: a border line is flatter than that
STEP = 0.15  # of the film's range: what a collimator's edge jumps
STRAIGHT = 0.9  # share of a line's pixels that jump
REACH = 3  # lines over which it does
DEEPEST = 0.35  # of the film's size: no border reaches further in
SAMPLES = 500  # pixels of a line that are looked at
SHORTEST = 0.3  # of the film's size: a smaller field is not believed


def header_field(header: Dataset, shape: tuple[int, int]) -> np.ndarray | None:
    """Where the shutter or the collimator of a header lets the film be seen.

    Args:
        header: a mended data set; its edges are 1-based and belong to the field.
        shape: (rows, columns) as stored.

    Returns:
        (rows, columns) bool, or None if the header has neither or they leave next to nothing.
    """
    for kind in ("Shutter", "Collimator"):
        seen: np.ndarray = np.ones(shape, bool)
        for word in texts(header, f"{kind}Shape"):
            seen &= SHAPES.get(word, _everything)(header, kind, shape)
        if not seen.all() and seen.any() and _believable(bounds(seen), shape):
            return seen
    return None


def bounds(seen: np.ndarray) -> Field:
    """(top, left, bottom, right), end exclusive, of what is true in (rows, columns)."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


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


def field_mask(field: Field, shape: tuple[int, ...]) -> np.ndarray:
    """(rows, columns) bool: what lies in a field."""
    top, left, bottom, right = field
    mask: np.ndarray = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def mask_outside(film: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The film with everything that is not seen at the lowest value of what is.

    Args:
        film: (rows, columns).
        seen: (rows, columns) bool.
    """
    return np.where(seen, film, film[seen].min())


def _everything(header: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool)


def _rectangle(header: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    names = ("UpperHorizontalEdge", "LeftVerticalEdge", "LowerHorizontalEdge", "RightVerticalEdge")
    edges = [header.get(kind + name) for name in names]
    if None in edges:
        return _everything(header, kind, shape)
    top, left, bottom, right = (max(edge, 0) for edge in edges)
    return field_mask((max(top - 1, 0), max(left - 1, 0), bottom, right), shape)


def _circle(header: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    centre, radius = header.get(f"CenterOfCircular{kind}"), header.get(f"RadiusOfCircular{kind}")
    if centre is None or radius is None:
        return _everything(header, kind, shape)
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def _polygon(header: Dataset, kind: str, shape: tuple[int, int]) -> np.ndarray:
    corners = header.get(f"VerticesOfThePolygonal{kind}")
    if corners is None or len(corners) < 6 or len(corners) % 2:
        return _everything(header, kind, shape)
    return polygon2mask(shape, np.reshape(corners, (-1, 2)) - 1)


SHAPES = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def _border(part: np.ndarray) -> int:
    """How many first lines of a scaled film are border."""
    lines = part[: max(int(DEEPEST * len(part)), 1), :: max(part.shape[1] // SAMPLES, 1)]
    spread = np.percentile(lines, 95, axis=1) - np.percentile(lines, 5, axis=1)
    flat = spread < FLAT
    depth = int(np.argmin(flat)) if not flat.all() else len(lines)
    return max(depth, _step(lines))


def _step(lines: np.ndarray) -> int:
    """Where a bright, even margin (a collimator's shadow) ends in one straight step down; 0 without such a margin.

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
