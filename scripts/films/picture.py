"""PNG, JPEG and TIFF radiographs: grey values and nothing else that could be relied on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from scripts.errors import UserError
from scripts.films.appearance import seems_inverted
from scripts.films.dicom import finish
from scripts.films.film import Projection, Radiograph

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_picture(path: Path, wanted: Projection) -> Radiograph:
    """A picture file as a film: uncalibrated, taken as displayed for reading.

    The resolution that such files carry (dots per inch) is the screen's or the scanner's and is not used.

    Args:
        path: the file; 8 or 16 bit, grey or colour.
        wanted: which view the user says it is.

    Raises:
        UserError: missing, damaged, several pages, blank.
    """
    name = wanted.value
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{path}: holds {image.n_frames} pictures; give the one that shows the spine")
            notes = []
            if image.mode in ("RGB", "RGBA", "P", "CMYK", "LA", "YCbCr"):
                notes = [] if _is_grey(image) else [f"{name}: a colour picture, taken as grey"]
                image = image.convert("L")
            pixels = np.asarray(image, dtype=np.float32)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable picture, truncated or damaged ({type(error).__name__})") from error
    if pixels.ndim != 2:
        raise UserError(f"{path}: a radiograph is 2D, this has shape {pixels.shape}")
    film = finish(pixels, wanted, str(path), Radiograph(pixels, None, warnings=tuple(notes)))
    side = "the patient's right at the left" if wanted is Projection.FRONTAL else "the patient facing left"
    film = film.warned(
        f"{name}: a picture without a header; taken as bones bright with {side}, see --invert and --mirror",
    )
    if seems_inverted(film.pixels, film.field):
        film = film.warned(f"{name}: its sides are brighter than its middle; if bones are dark, use --invert")
    return film


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.convert("RGB").resize((64, 64)), dtype=int)
    return int(np.ptp(small, axis=-1).max()) <= 8
