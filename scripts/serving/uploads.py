"""Files that a browser sends: kept under names of our own, by a list of kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastapi import UploadFile

from scripts.errors import UserError

FILM_SUFFIXES = (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
TEXT_SUFFIXES = (".json", ".yaml", ".yml")


def save_upload(upload: UploadFile, folder: Path, name: str, suffixes: tuple[str, ...]) -> str:
    """Store an uploaded file as ``<name><suffix>``.

    Of the browser's file name only the suffix is used, and only if it is one of the list; a name without any is taken
    for DICOM, whose files often have none.

    Returns:
        the name it was stored under.

    Raises:
        UserError: it is of another kind, or empty.
    """
    given = (upload.filename or "").lower()
    suffix = next((s for s in suffixes if given.endswith(s)), "")
    if not suffix and ".dcm" in suffixes and "." not in given:
        suffix = ".dcm"
    if not suffix:
        raise UserError(f"{name}: a file of this kind cannot be opened; use {', '.join(suffixes)}")
    path = folder / f"{name}{suffix}"
    with path.open("wb") as stream:
        shutil.copyfileobj(upload.file, stream)
    if path.stat().st_size == 0:
        raise UserError(f"{name}: the file is empty")
    return path.name
