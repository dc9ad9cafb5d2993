"""Files from which the user chooses two films: what each is, and a picture of it.

These functions run in the engine's process and take and give plain values only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.films.dicom import read_header
from scripts.films.film import Projection, Radiograph
from scripts.films.geometry_file import read_geometry
from scripts.films.kind import NIFTI_SUFFIXES
from scripts.films.orientation import WORDS, orientation_letters
from scripts.films.pair import read_radiograph
from scripts.films.plausible import SAME
from scripts.films.study import Candidate, best, candidate
from scripts.io.annotations import read_annotations
from scripts.io.checksums import sha256
from scripts.io.documents import read_json, read_small, write_json
from scripts.serving.uploads import TEXT_SUFFIXES, in_user_words
from scripts.viewer.choice import picture_file
from scripts.viewer.pictures import write_film_picture

LIST_FILE = "candidates.json"
LONGEST_PX = 1200
MARKS, GEOMETRY = "annotations", "geometry"
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class FoundFilm:
    """A film, and why it is taken for this view.

    Args:
        film: as it is displayed.
        says: what its file says.
        known: ``header`` where the file says the view, ``name`` where only its name does, empty where nothing does.
        oriented: whether the file says how it lies.
    """

    film: Radiograph
    says: Candidate
    known: str
    oriented: bool


def inspect(folder: Path, file: str, given: str) -> dict[str, Any]:
    """What a file is; one that is of no use, or there already, is deleted.

    Args:
        folder: of the files that were sent.
        file: its name there.
        given: the user's name of it.

    Returns:
        ``file``: its ``name``, or that of the same file where it is there already, and its ``kind`` (``film``,
        ``annotations``, ``geometry``, or ``other`` with a ``reason``).
        Of a film also ``view`` (``ap``, ``lat`` or empty), how that is ``known`` (see `FoundFilm`), the ``attribute``
        that says it, ``oblique``, ``shape``, ``pixel_mm`` (None if the file does not say it) and the words on its
        ``scale``, whether it is ``oriented`` and ``placed`` (see `FoundFilm`, `Radiograph`), and whether its pixels are
        ``square``.
        ``chosen``: of all files so far, the names of those that can only be the two films, the marks and the geometry;
        None where there is none or several may be it.
    """
    path, store = folder / file, folder / LIST_FILE
    known: dict[str, dict[str, Any]] = read_json(store) if store.is_file() else {}
    digest = sha256(path)
    again = next((name for name, row in known.items() if row["digest"] == digest), None)
    if again is not None:
        path.unlink()
        file, found = again, known[again]
    else:
        try:
            found = {**_inspected(path, given), "digest": digest}
            known[file] = found
            write_json(store, known)
        except UserError as error:
            path.unlink()
            reason = in_user_words(str(error), folder, {file: given}).removeprefix(f"{given}: ")
            found = {"kind": "other", "reason": reason}
    shown = {key: value for key, value in found.items() if key not in ("digest", "merit")}
    return {"file": {"name": file, **shown}, "chosen": chosen(known)}


def chosen(known: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """The files that can only be meant: by what they say of themselves, else by their names.

    Args:
        known: file -> what `inspect` found.
    """
    out: dict[str, str | None] = {}
    rows = {name: row for name, row in known.items() if row["kind"] == "film" and row["view"]}
    for wanted in Projection:
        found: list[str] = []
        for source in ("header", "name"):
            films = [
                (name, Candidate(Projection(row["view"].upper()), merit=row["merit"]))
                for name, row in rows.items()
                if row["known"] == source
            ]
            found = found or best(films, wanted)
        out[wanted.value.lower()] = found[0] if len(found) == 1 else None
    for kind in (MARKS, GEOMETRY):
        names = [name for name, row in known.items() if row["kind"] == kind]
        out[kind] = names[0] if len(names) == 1 else None
    return out


def _inspected(path: Path, given: str) -> dict[str, Any]:
    if path.suffix in TEXT_SUFFIXES:
        return {"kind": _kind_of_text(path)}
    found = _read(path, given)
    film, view = found.film, found.says.view
    write_film_picture(picture_file(path.parent, path.name), film.pixels, LONGEST_PX)
    pixel_mm = film.spacing_mm
    return {
        "kind": "film",
        "view": view.value.lower() if view else "",
        "known": found.known,
        "attribute": found.says.attribute,
        "oblique": found.says.oblique,
        "merit": found.says.merit,
        "shape": list(film.pixels.shape),
        "pixel_mm": list(pixel_mm) if pixel_mm else None,
        "scale": film.scale_fault or "; ".join(note.split(": ", 1)[-1] for note in film.scale_notes),
        "oriented": found.oriented,
        "placed": film.placed is not None,
        "square": abs((pixel_mm[0] / pixel_mm[1] if pixel_mm else film.aspect) - 1) <= SAME,
    }


def _kind_of_text(path: Path) -> str:
    """Marks or a geometry, by content; both are checked."""
    document = read_small(path, "file of marks or of a geometry")
    if isinstance(document, dict) and "views" in document:
        read_annotations(path)
        return MARKS
    if isinstance(document, dict) and {"beam", "ap", "lat"} & set(document):
        read_geometry(path)
        return GEOMETRY
    raise UserError("neither marks (annotations.json) nor a geometry")


def _read(path: Path, given: str) -> FoundFilm:
    """The film as it would be read for the view that it shows."""
    if path.name.endswith(NIFTI_SUFFIXES):
        try:
            return FoundFilm(read_radiograph(path, Projection.FRONTAL), Candidate(Projection.FRONTAL), "header", True)
        except UserError as error:
            try:
                film = read_radiograph(path, Projection.LATERAL)
            except UserError:
                raise error from None
            return FoundFilm(film, Candidate(Projection.LATERAL), "header", True)
    header = read_header(path)
    says = (candidate(header) if header is not None else None) or Candidate(None)
    if says.oblique and says.attribute == "ViewPosition":
        raise UserError("an oblique film by its ViewPosition; a frontal and a lateral one are needed")
    known = "header" if says.view else ""
    if not says.view and not says.oblique and (view := _view_of_name(given)):
        says, known = Candidate(view, merit=says.merit), "name"
    view = says.view or Projection.FRONTAL
    oriented = header is not None and orientation_letters(header) is not None
    return FoundFilm(read_radiograph(path, view), says, known, oriented)


def _view_of_name(given: str) -> Projection | None:
    """The view that a file's name speaks of; None if of none or of both."""
    words = " ".join(WORD.findall(given.rsplit("/", 1)[-1])).upper()
    found = [view for view, pattern in WORDS.items() if re.search(pattern, words)]
    return found[0] if len(found) == 1 else None
