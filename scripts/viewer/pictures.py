"""Films as the page shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, film: np.ndarray, longest: int | None = None) -> None:
    """A PNG of 8 bits over the range of nearly all pixels.

    Args:
        path: to write.
        film: (rows, columns), bones bright.
        longest: most pixels of a side; all if None.
    """
    low, high = (float(np.percentile(film, share)) for share in (0.2, 99.8))
    grey = np.clip((film - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    image = Image.fromarray(grey)
    if longest is not None:
        image.thumbnail((longest, longest), Image.Resampling.BOX)
    image.save(path, "png")
