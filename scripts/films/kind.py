"""Which kind of file a film is in."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydicom.uid import UID

from scripts.errors import UserError
from scripts.films.dicom import read_header
from scripts.films.header import open_dicom, starts_like_dicom
from scripts.films.picture import SUFFIXES

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
VIEW_SUFFIXES = (".ap", ".lat")


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
    if name.endswith(NIFTI_SUFFIXES):
        return FilmKind.NIFTI
    if path.suffix.lower() in SUFFIXES:
        return FilmKind.PICTURE
    if path.suffix.lower() in DICOM_SUFFIXES or read_header(path) is not None:
        return FilmKind.DICOM
    with path.open("rb") as stream:
        if starts_like_dicom(stream):
            return FilmKind.DICOM
    raise UserError(f"{path}: neither DICOM, NIfTI, PNG, JPEG nor TIFF")


def film_stem(name: str) -> str:
    """A film's file name without what says its kind and view; dots elsewhere stay, as in names that are UIDs.

    >>> film_stem("1.2.840.113619.2.55.dcm"), film_stem("Doe.ap.nii.gz"), film_stem("1.2.840.113619.2.55")
    ('1.2.840.113619.2.55', 'Doe', '1.2.840.113619.2.55')
    """
    for suffixes in ((*NIFTI_SUFFIXES, *SUFFIXES, *DICOM_SUFFIXES), VIEW_SUFFIXES):
        found = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(found)] or name
    return name


def damaged_dicom(path: Path) -> bool:
    """Whether a file is named or begins like DICOM and is an image without its size, or cannot be read at all."""
    try:
        with path.open("rb") as stream:
            claims = path.suffix.lower() in DICOM_SUFFIXES or starts_like_dicom(stream)
        if not claims:
            return False
        header, _ = open_dicom(path, pixels=False)
    except (OSError, UserError):
        return True
    # pydicom reads what is left of a truncated header without a word.
    kind = UID(str(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or ""))
    image = not kind or "Image Storage" in kind.name
    return image and not ("Rows" in header and "Columns" in header)
