"""Which kind of file a film is in."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import BinaryIO

from scripts.errors import UserError
from scripts.films.dicom import read_header
from scripts.films.picture import SUFFIXES

PREAMBLE = 128
MAGIC = b"DICM"


class FilmKind(Enum):
    """A kind of film file."""

    DICOM = "DICOM"
    NIFTI = "NIfTI"
    PICTURE = "picture"


def film_kind(path: Path) -> FilmKind:
    """What a film's file is, by its name and, where that says nothing, by its content.

    Raises:
        UserError: none of the kinds that can be read.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return FilmKind.NIFTI
    if path.suffix.lower() in SUFFIXES:
        return FilmKind.PICTURE
    if path.suffix.lower() in (".dcm", ".dicom", ".ima") or read_header(path) is not None:
        return FilmKind.DICOM
    with path.open("rb") as stream:
        if starts_like_dicom(stream):
            return FilmKind.DICOM
    raise UserError(f"{path}: neither DICOM, NIfTI, PNG, JPEG nor TIFF")


def starts_like_dicom(stream: BinaryIO) -> bool:
    """Whether a file, read from its beginning, has DICOM's preamble."""
    return stream.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
