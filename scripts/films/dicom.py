"""One DICOM radiograph: CR, DX, RF, XA, and slot scanners that export as these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.body_part import body_part_warning
from scripts.films.collimation import bounds, field_mask, find_field, header_field, mask_outside
from scripts.films.film import Field, Projection, Radiograph
from scripts.films.header import DECISIVE, PIXELS, SPACINGS, Faults, open_dicom, printable, text
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
    """All attributes but the pixels, without those that cannot be read; None if the file is not a DICOM image."""
    try:
        header, _ = open_dicom(path, pixels=False)
    except UserError:
        return None
    return header if "Rows" in header and "Columns" in header else None


def read_dicom(path: Path, wanted: Projection, invert: bool = False) -> Radiograph:
    """A DICOM radiograph in our display convention.

    Args:
        path: the file.
        wanted: the view that it should be.
        invert: whether its bones are dark although its header says otherwise.

    Raises:
        UserError: not readable, not a radiograph, several frames, undecodable, the other view, or an attribute without
            which nothing sensible can follow cannot be read.
    """
    where, name = str(path), wanted.value
    data, faults = open_dicom(path)
    warnings = _accept(faults, name, where)
    modality = text(data, "Modality")
    if modality not in MODALITIES or not any(keyword in data for keyword in PIXELS):
        raise UserError(f"{where}: no radiograph but a DICOM object of modality '{printable(modality)}'")
    if "PixelData" not in data:
        raise UserError(f"{where}: its pixels are floating-point numbers; export them as whole numbers")
    evidence = view_evidence(data)
    warnings += check_view(evidence, wanted, where)
    elsewhere = body_part_warning(data, name)
    warnings += [elsewhere] if elsewhere else []
    scale = film_scale(data, name, faults)
    pixels, seen, notes, digest = film_pixels(data, name, where)
    shutter = header_field(data, (pixels.shape[0], pixels.shape[1]))
    if shutter is not None:
        seen &= shutter
        if not seen.any():
            raise UserError(f"{where}: every pixel is padding or lies beyond the shutter")
    letters = orientation_letters(data)
    spacing, detector, aspect = scale.spacing_mm, scale.detector_mm, scale.aspect
    if letters:
        try:
            pixels, seen = (to_display(a, letters, wanted) for a in (pixels, seen))
        except ValueError:
            warnings.append(f"{name}: PatientOrientation does not belong to this view, ignored")
        else:
            if letters[0] in "HF":
                spacing, detector, aspect = spacing and spacing[::-1], detector and detector[::-1], 1 / aspect
    else:
        side = "patient's right at the left" if wanted is FRONTAL else "patient facing left"
        warnings.append(f"{name}: no PatientOrientation; taken as shown with the {side}, see --mirror")
    field = bounds(seen) if shutter is not None else (0, 0, 0, 0)
    if str(data.get("BurnedInAnnotation") or "").upper() == "YES":
        warnings.append(f"{name}: the header says that writing is burnt into the picture; it may identify the patient")
    optics = replace(scale.optics, reversed=evidence.reversed)
    del data.PixelData
    film = Radiograph(
        np.ascontiguousarray(pixels, dtype=np.float32), spacing, optics, field, (*warnings, *notes), scale.warnings,
        scale_fault=scale.fault, aspect=aspect, detector_mm=detector, header=data, pixels_sha256=digest,
        scale_kind=scale.kind,
    )  # fmt: skip
    return finish(film, wanted, where, seen, invert)


def _accept(faults: Faults, name: str, where: str) -> list[str]:
    """Warnings of a header's faults, or an error if nothing sensible can follow."""
    lines = []
    for keyword, fault in faults.unreadable.items():
        # Without a spacing the user can give one.
        if keyword not in SPACINGS and (keyword in DECISIVE or keyword in faults.not_finite):
            raise UserError(f"{where}: attribute {keyword} {fault}")
        lines.append(f"{name}: attribute {keyword} {fault}, ignored")
    return lines + [f"{name}: {note}" for note in faults.notes]


def inverted(pixels: np.ndarray) -> np.ndarray:
    """The same film with bright and dark exchanged, over the same range."""
    return pixels.max() + pixels.min() - pixels


def finish(film: Radiograph, wanted: Projection, where: str, seen: np.ndarray, invert: bool) -> Radiograph:
    """Check a film's values, find its field and mask what lies beyond.

    Args:
        film: as it is displayed; a field of (0, 0, 0, 0) is searched for.
        wanted: its view.
        where: its file, for errors.
        seen: (rows, columns) bool, False where the file says that there is no film.
        invert: whether the user says that bones are dark.

    Raises:
        UserError: too small, not finite or blank.
    """
    pixels = film.pixels
    if min(pixels.shape) < 32:
        raise UserError(f"{where}: {pixels.shape[0]} x {pixels.shape[1]} pixels are no radiograph")
    if not np.isfinite(pixels).all():
        raise UserError(f"{where}: {int((~np.isfinite(pixels)).sum())} pixels are NaN or infinite")
    if pixels[seen].max() <= pixels[seen].min():
        raise UserError(f"{where}: blank, every pixel is {pixels[seen][0]:g}")
    pixels = inverted(pixels) if invert else pixels
    pixels = pixels if seen.all() else mask_outside(pixels, seen)
    field: Field = film.field if film.field[2] else find_field(pixels)
    lines = list(film.warnings)
    rows, columns = pixels.shape
    if field != (0, 0, rows, columns):
        top, left, bottom, right = field
        lines.append(
            f"{wanted.value}: borders masked, {top} rows above, {rows - bottom} below, "
            f"{left} columns left, {columns - right} right"
        )
        inside = field_mask(field, pixels.shape)
        # Masked pixels are not values of the film.
        pixels = mask_outside(pixels, inside & seen if (inside & seen).any() else inside)
    return replace(film, pixels=pixels, field=field, warnings=tuple(lines))
