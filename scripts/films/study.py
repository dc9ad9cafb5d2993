"""Which files of a folder are the two films."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.dicom import MODALITIES, read_header
from scripts.films.film import Projection
from scripts.films.header import text, texts
from scripts.films.orientation import view_evidence

MOST_FILES = 2000


def choose_film(folder: Path, wanted: Projection) -> Path:
    """The one film of a folder that shows a view by its own header.

    Films that any attribute calls oblique are no candidates. Secondary captures, derived and raw images give way to
    original ones for presentation.

    Args:
        folder: DICOM files, at any depth, with any name.
        wanted: the view.

    Raises:
        UserError: there is none, or several are equally good.
    """
    found: list[tuple[int, Path]] = []
    seen: list[str] = []
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if len(files) > MOST_FILES:
        raise UserError(f"{folder}: {len(files)} files; name the folder of one study or the two films")
    for path in files:
        header = read_header(path)
        if header is None or text(header, "Modality") not in MODALITIES:
            continue
        evidence = view_evidence(header)
        view = evidence.projection
        said = view.value if view else "oblique" if evidence.oblique else "view unknown"
        seen.append(f"{path.relative_to(folder)} ({said})")
        if view is wanted:
            found.append((_merit(header), path))
    option = f"--{wanted.value.lower()}"
    if not found:
        list_ = "; ".join(seen[:8]) or "no DICOM radiograph"
        raise UserError(f"{folder}: no film says that it is the {wanted.value} view ({list_}); name it with {option}")
    best = max(merit for merit, _ in found)
    paths = [path for merit, path in found if merit == best]
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
