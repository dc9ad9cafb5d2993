"""A film turned, mirrored and inverted as the user says, where its file does not say it or says it wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Radiograph
from scripts.films.header import text
from scripts.films.options import QUARTER_DEG
from scripts.films.orientation import orientation_letters


def turned(film: Radiograph, degrees: int, name: str, path: Path) -> Radiograph:
    """A film turned clockwise; what its file says of rows and columns turns with it.

    Args:
        film: as its file is displayed.
        degrees: 90, 180 or 270.
        name: AP or LAT, for the warning.
        path: its file, for errors.

    Raises:
        UserError: the file places it in the world.
    """
    _check_free(film, path, "turn")
    top, left, bottom, right = film.field
    rows, columns = film.pixels.shape
    fields = {
        90: (left, rows - bottom, right, rows - top),
        180: (rows - bottom, columns - right, rows - top, columns - left),
        270: (columns - right, top, columns - left, bottom),
    }
    pixels = np.ascontiguousarray(np.rot90(film.pixels, -degrees // QUARTER_DEG))
    film = replace(film, pixels=pixels, field=fields[degrees])
    if degrees != 180:
        spacing, detector = (pair and pair[::-1] for pair in (film.spacing_mm, film.detector_mm))
        film = replace(film, spacing_mm=spacing, detector_mm=detector, aspect=1 / film.aspect)
    return film.warned(f"{name}: turned clockwise by {degrees} degrees by the user{_against_orientation(film)}")


def mirrored(film: Radiograph, name: str, path: Path) -> Radiograph:
    """A film mirrored left to right.

    Args:
        film: as its file is displayed, or turned.
        name: AP or LAT, for the warning.
        path: its file, for errors.

    Raises:
        UserError: the file places it in the world.
    """
    _check_free(film, path, "mirror")
    top, left, bottom, right = film.field
    width = film.pixels.shape[1]
    pixels = np.ascontiguousarray(film.pixels[:, ::-1])
    film = replace(film, pixels=pixels, field=(top, width - right, bottom, width - left))
    return film.warned(f"{name}: mirrored left to right by the user{_against_orientation(film)}")


def told_inverted(film: Radiograph, name: str) -> Radiograph:
    """A film that was read with bright and dark exchanged, with a warning that the user wanted it.

    Args:
        film: as it was read.
        name: AP or LAT, for the warning.
    """
    known = film.header is not None and text(film.header, "PhotometricInterpretation").startswith("MONOCHROME")
    against = ", against its PhotometricInterpretation" if known else ""
    return film.warned(f"{name}: bright and dark exchanged by the user{against}")


def _against_orientation(film: Radiograph) -> str:
    known = film.header is not None and orientation_letters(film.header) is not None
    return ", against its PatientOrientation" if known else ""


def _check_free(film: Radiograph, path: Path, option: str) -> None:
    """Refuse a film that its file places in the world."""
    if film.placed is not None:
        raise UserError(f"{path}: a NIfTI film says itself how it lies; --{option} is for films that do not")
