"""Files that a browser sends: kept under names of our own, by a list of kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastapi import UploadFile

from scripts.errors import UserError
from scripts.films.header import starts_like_dicom
from scripts.films.kind import NIFTI_SUFFIXES
from scripts.films.picture import SUFFIXES
from scripts.io.documents import YAML_SUFFIXES

FILM_SUFFIXES = (*NIFTI_SUFFIXES, ".dcm", *SUFFIXES)
# Beside stored files: the user's names of them, which errors say.
NAMES_FILE = ".names.json"
TEXT_SUFFIXES = (".json", *YAML_SUFFIXES)


def save_upload(upload: UploadFile, folder: Path, name: str, suffixes: tuple[str, ...]) -> str:
    """Store an uploaded file as ``<name><suffix>``.

    Of the browser's file name only the suffix is used, and only if it is one of the list; a name without any is taken
    for DICOM, and so is a file that begins like DICOM: many are named by a UID alone.

    Returns:
        the name it was stored under.

    Raises:
        UserError: it is of another kind, or empty.
    """
    shown = given_name(upload) or name
    given = shown.lower()
    suffix = next((s for s in suffixes if given.endswith(s)), "")
    if not suffix and ".dcm" in suffixes and ("." not in given or _is_dicom(upload)):
        suffix = ".dcm"
    if not suffix:
        raise UserError(f"{shown}: a file of this kind cannot be opened; use {', '.join(suffixes)}")
    return _written(upload, folder / f"{name}{suffix}", shown)


def save_candidate(upload: UploadFile, folder: Path, name: str) -> str:
    """Store an uploaded file of any kind as ``<name><suffix>``; without a suffix if it is not one of ours.

    Returns:
        the name it was stored under.

    Raises:
        UserError: it is empty.
    """
    shown = given_name(upload) or name
    suffix = next((s for s in (*FILM_SUFFIXES, *TEXT_SUFFIXES) if shown.lower().endswith(s)), "")
    return _written(upload, folder / f"{name}{suffix}", shown)


def _written(upload: UploadFile, path: Path, shown: str) -> str:
    with path.open("wb") as stream:
        shutil.copyfileobj(upload.file, stream)
    if path.stat().st_size == 0:
        raise UserError(f"{shown}: the file is empty; send it again")
    return path.name


def _is_dicom(upload: UploadFile) -> bool:
    upload.file.seek(0)
    found = starts_like_dicom(upload.file)
    upload.file.seek(0)
    return found


def given_name(upload: UploadFile) -> str:
    """The browser's name of a file, to be shown and for nothing else."""
    name = (upload.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isprintable())[:100]


def in_user_words(line: str, folder: Path, names: dict[str, str]) -> str:
    """A line that names the user's files, and no folder of this machine.

    Args:
        line: of an error.
        folder: where the files are kept.
        names: of a file there -> the user's name of it.
    """
    for kept, given in names.items():
        line = line.replace(f"{folder}/{kept}", given)
    return line.replace(f"{folder}/", "").replace(str(folder), "the study")
