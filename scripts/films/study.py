"""Which files of a study are the two films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.dicom import MODALITIES, read_header
from scripts.films.film import Projection
from scripts.films.header import text, texts
from scripts.films.kind import damaged_dicom
from scripts.films.orientation import view_evidence

MOST_FILES = 2000
# Of an original for presentation.
BEST_MERIT = 7
File = TypeVar("File")


@dataclass(frozen=True)
class Candidate:
    """What a film's file says of its view.

    Args:
        view: None if it does not say, or says that the film is oblique.
        attribute: that says it, or says that it is oblique; empty if none does.
        oblique: whether the film was taken obliquely.
        merit: originals for presentation have more than secondary captures, derived and raw images.
    """

    view: Projection | None
    attribute: str = ""
    oblique: bool = False
    merit: int = BEST_MERIT

    def __str__(self) -> str:
        """Its view in words."""
        return self.view.value if self.view else "oblique" if self.oblique else "view unknown"


def candidate(header: Dataset) -> Candidate | None:
    """A DICOM file's view and merit; None if it is no radiograph.

    Args:
        header: its data set, without or with pixels.
    """
    if text(header, "Modality") not in MODALITIES:
        return None
    evidence = view_evidence(header)
    says = evidence.oblique or next(iter(evidence.claims), "")
    return Candidate(evidence.projection, says, bool(evidence.oblique), _merit(header))


def best(files: Sequence[tuple[File, Candidate]], wanted: Projection) -> list[File]:
    """The files that show a view and have the most merit; several if they are equally good.

    Args:
        files: of a study, with what they say of themselves.
        wanted: the view.
    """
    shown = [(file, film) for file, film in files if film.view is wanted]
    most = max((film.merit for _, film in shown), default=0)
    return [file for file, film in shown if film.merit == most]


def choose_film(folder: Path, wanted: Projection) -> Path:
    """The one film of a folder that shows a view by its own header.

    Films that any attribute calls oblique are not candidates. Secondary captures, derived and raw images give way to
    original ones for presentation. A damaged file may be the very film that is wanted: none takes its place.

    Args:
        folder: DICOM files, at any depth, with any name.
        wanted: the view.

    Raises:
        UserError: the folder has no such film, several that are equally good, or a damaged DICOM file.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if len(files) > MOST_FILES:
        raise UserError(f"{folder}: {len(files)} files; name the folder of one study or the two films")
    headers = [(path, read_header(path)) for path in files]
    option = f"--{wanted.value.lower()}"
    damaged = next((path for path, header in headers if header is None and damaged_dicom(path)), None)
    if damaged is not None:
        raise UserError(
            f"{damaged}: a DICOM file that cannot be read and may be the {wanted.value} film; replace or remove it, or "
            f"name the film with {option} FILE"
        )
    said = ((path, candidate(header)) for path, header in headers if header is not None)
    films = [(path, film) for path, film in said if film is not None]
    paths = best(films, wanted)
    if not paths:
        seen = "; ".join(f"{path.relative_to(folder)} ({film})" for path, film in films[:8]) or "no DICOM radiograph"
        raise UserError(f"{folder}: no film says that it is the {wanted.value} view ({seen}); name it with {option}")
    if len(paths) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in paths[:8])
        raise UserError(
            f"{folder}: {len(paths)} films say that they are the {wanted.value} view ({names}); oblique films are "
            f"often labelled so: look at them and name the right one with {option} FILE"
        )
    return paths[0]


def _merit(header: Dataset) -> int:
    kind = texts(header, "ImageType")
    original = kind[:1] != ["DERIVED"]
    primary = kind[1:2] != ["SECONDARY"]
    shown = text(header, "PresentationIntentType") != "FOR PROCESSING"
    return 4 * primary + 2 * original + shown
