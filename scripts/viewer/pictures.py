"""Films as the page shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.drawing import film_grey

# Percentiles: nearly all pixels.
ENDS = (0.2, 99.8)


def write_film_picture(path: Path, film: np.ndarray, longest: int | None = None) -> None:
    """A PNG of 8 bits over the range of nearly all pixels.

    Args:
        path: to write.
        film: (rows, columns), bones bright.
        longest: most pixels of a side; all if None.
    """
    image = film_grey(film, ENDS)
    if longest is not None:
        image.thumbnail((longest, longest), Image.Resampling.BOX)
    image.save(path, "png")
