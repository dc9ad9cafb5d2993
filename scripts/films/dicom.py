"""One DICOM radiograph: CR, DX, RF, XA, and slot scanners that export as these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from scripts.errors import UserError
from scripts.films.collimation import find_field, header_field, mask_outside
from scripts.films.film import Field, Projection, Radiograph
from scripts.films.orientation import (
    FRONTAL,
    check_view,
    orientation_letters,
    to_display,
    view_evidence,
)
from scripts.films.pixels import film_pixels
from scripts.films.spacing import film_scale

MODALITIES = ("CR", "DX", "RF", "XA", "RG", "OT", "XC", "SC", "PX")


def read_header(path: Path) -> Dataset | None:
    """All attributes but the pixels; None if the file is no DICOM image."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
        return None
    return header if "Rows" in header and "Columns" in header else None


def read_dicom(path: Path, wanted: Projection) -> Radiograph:
    """A DICOM radiograph in our display convention.

    Args:
        path: the file.
        wanted: which view it shall be.

    Raises:
        UserError: not readable, not a radiograph, several frames, undecodable, the other view, impossible spacing.
    """
    where, name = str(path), wanted.value
    try:
        data = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise UserError(f"{where}: not a readable DICOM file, truncated or damaged ({type(error).__name__})") from error
    modality = str(data.get("Modality") or "")
    if "PixelData" not in data or modality not in MODALITIES:
        raise UserError(f"{where}: no radiograph but a DICOM object of modality '{modality}'")
    evidence = view_evidence(data)
    warnings = check_view(evidence, wanted, where)
    scale = film_scale(data, name, where)
    pixels, notes = film_pixels(data, name, where)
    field = header_field(data, (pixels.shape[0], pixels.shape[1]))
    known = np.zeros(pixels.shape, bool)
    if field is not None:
        known[field[0] : field[2], field[1] : field[3]] = True
    letters = orientation_letters(data)
    spacing = scale.spacing_mm
    if letters:
        try:
            pixels, known = (to_display(a, letters, wanted) for a in (pixels, known))
        except ValueError:
            warnings.append(f"{name}: PatientOrientation does not belong to this view, ignored")
        else:
            if letters[0] in "HF" and spacing is not None:
                spacing = (spacing[1], spacing[0])
    else:
        side = "patient's right at the left" if wanted is FRONTAL else "patient facing left"
        warnings.append(f"{name}: no PatientOrientation; taken as shown with the {side}, see --mirror")
    if known.any():
        rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
        field = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    if str(data.get("BurnedInAnnotation") or "").upper() == "YES":
        warnings.append(f"{name}: the header says that writing is burnt into the picture; it may identify the patient")
    optics = replace(scale.optics, reversed=evidence.reversed)
    del data.PixelData
    return finish(
        np.ascontiguousarray(pixels, dtype=np.float32),
        wanted,
        where,
        Radiograph(
            np.empty((0, 0), np.float32), spacing, optics, field or (0, 0, 0, 0),
            (*warnings, *notes), scale.warnings, header=data,
        ),
    )  # fmt: skip


def finish(pixels: np.ndarray, wanted: Projection, where: str, film: Radiograph) -> Radiograph:
    """Check a film's values, find its field and mask what lies beyond.

    Args:
        pixels: (rows, columns) float32, displayed as it shall be.
        wanted: its view.
        where: its file, for errors.
        film: everything else; a field of (0, 0, 0, 0) is searched for.

    Raises:
        UserError: too small, not finite or blank.
    """
    if min(pixels.shape) < 32:
        raise UserError(f"{where}: {pixels.shape[0]} x {pixels.shape[1]} pixels are no radiograph")
    if not np.isfinite(pixels).all():
        raise UserError(f"{where}: {int((~np.isfinite(pixels)).sum())} pixels are NaN or infinite")
    if pixels.max() <= pixels.min():
        raise UserError(f"{where}: blank, every pixel is {pixels.flat[0]:g}")
    field: Field = film.field if film.field[2] else find_field(pixels)
    lines = list(film.warnings)
    rows, columns = pixels.shape
    if field != (0, 0, rows, columns):
        top, left, bottom, right = field
        lines.append(
            f"{wanted.value}: borders masked, {top} rows above, {rows - bottom} below, "
            f"{left} columns left, {columns - right} right"
        )
        pixels = mask_outside(pixels, field)
    return replace(film, pixels=pixels, field=field, warnings=tuple(lines))
