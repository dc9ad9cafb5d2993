"""Whether a film can have the size that its spacing gives it."""

from __future__ import annotations

import math

from scripts.errors import UserError
from scripts.films.film import Radiograph

# Longer side of a film in mm: a vertebra at least, a standing patient at most; beyond the inner limits it is unusual.
POSSIBLE_MM = (30.0, 4000.0)
USUAL_MM = (100.0, 2000.0)
LARGEST_RATIO = 2.0  # of a pixel's sides
SAME = 0.02  # two ratios that differ by less are one
# 0.1 mm a pixel of a standing adult are 80 million; a file of any size can hold any number of blank ones.
MOST_PIXELS = 100_000_000
LONGEST_SIDE = 2**15


def check_pixels(shape: tuple[int, ...], where: str) -> None:
    """Refuse a film by its number of pixels, which a header tells before they are unpacked.

    Args:
        shape: length of each axis; the product counts.
        where: its file, for errors.

    Raises:
        UserError: no film has as many, or none that are so long.
    """
    said = " x ".join(str(length) for length in shape)
    if max(shape) > LONGEST_SIDE:
        raise UserError(f"{where}: {said} pixels; no side of a film has more than {LONGEST_SIDE}")
    if math.prod(shape) > MOST_PIXELS:
        raise UserError(f"{where}: too many pixels ({said}); a film has up to {MOST_PIXELS // 10**6} million")


def check_size(film: Radiograph, name: str, where: str) -> Radiograph:
    """A film with a warning if its size is unusual; one without a scale as it is.

    Args:
        film: with the spacing that is to be used, from the file or the user.
        name: AP or LAT.
        where: its file, for errors.

    Raises:
        UserError: the spacing in the file is unusable and none was given, pixels are not square and their size is not
            known, or no film is as large or as small.
    """
    if film.spacing_mm is None:
        if film.scale_fault:
            raise UserError(f"{where}: {film.scale_fault}; give --spacing or --geometry")
        if abs(film.aspect - 1) > SAME:
            raise UserError(
                f"{where}: its pixels are not square (height over width {film.aspect:g} by PixelAspectRatio) and their "
                "size is not known; give pixel_spacing_mm in a --geometry file"
            )
        return film
    row, column = film.spacing_mm
    if abs(film.aspect - 1) > SAME and abs(row / column / film.aspect - 1) > SAME:
        raise UserError(
            f"{where}: a spacing of {row:g} x {column:g} mm contradicts its PixelAspectRatio (height over width "
            f"{film.aspect:g}); give pixel_spacing_mm in a --geometry file"
        )
    height, width = film.pixels.shape[0] * row, film.pixels.shape[1] * column
    size = f"with pixels of {row:g} x {column:g} mm the film measures {height:.0f} x {width:.0f} mm"
    if not POSSIBLE_MM[0] <= max(height, width) <= POSSIBLE_MM[1]:
        raise UserError(f"{where}: {size}, which is impossible; correct the spacing")
    if not USUAL_MM[0] <= max(height, width) <= USUAL_MM[1]:
        return film.warned(f"{name}: {size}; is the spacing right?")
    if not 1 / LARGEST_RATIO <= row / column <= LARGEST_RATIO:
        return film.warned(f"{name}: pixels of {row:g} x {column:g} mm are unusual; is the spacing right?")
    return film
