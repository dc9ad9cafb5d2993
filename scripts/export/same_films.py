"""Whether films are those that a reconstruction was made from: objects of another patient's films would be misfiled."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError
from scripts.films.header import open_dicom
from scripts.films.kind import FilmKind, film_kind
from scripts.films.pixels import film_pixels
from scripts.io.documents import read_json


def check_same_films(reconstruction: Path, ap: Path, lat: Path) -> list[str]:
    """Compare the pixels of DICOM films with those that a reconstruction's report knows.

    Args:
        reconstruction: folder that ``reconstruct`` made.
        ap: file of the frontal film.
        lat: file of the lateral film.

    Returns:
        warnings of what could not be compared.

    Raises:
        UserError: a film is another one or cannot be read, or the report cannot.
    """
    report_file = reconstruction / "report.json"
    if not report_file.is_file():
        return []  # no reconstruction, which the export says
    report = read_json(report_file)
    films = report.get("films") if isinstance(report, dict) else None
    notes = []
    for path, key in ((ap, "ap"), (lat, "lat")):
        if film_kind(path) is not FilmKind.DICOM:
            continue
        film = films.get(key) if isinstance(films, dict) else None
        known = film.get("pixels_sha256") if isinstance(film, dict) else None
        if not known:
            notes.append(
                f"{report_file} has no checksum of a DICOM film: make sure that {path} is its {key.upper()} film"
            )
        elif film_pixels(open_dicom(path)[0], key.upper(), str(path))[3] != known:
            raise UserError(
                f"{path}: is not the {key.upper()} film that {reconstruction} was made from: its pixels are others"
            )
    return notes
