"""Whether films are those that a reconstruction was made from: objects of another patient's films would be misfiled."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError
from scripts.export.report import known_pixels, report_file
from scripts.films.header import open_dicom
from scripts.films.kind import FilmKind, film_kind
from scripts.films.pixels import film_pixels


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
    known = known_pixels(reconstruction)
    notes = []
    for path, key in ((ap, "ap"), (lat, "lat")):
        if film_kind(path) is not FilmKind.DICOM:
            continue
        if key not in known:
            file = report_file(reconstruction)
            notes.append(f"{file} has no checksum of a DICOM film: make sure that {path} is its {key.upper()} film")
        elif film_pixels(open_dicom(path)[0], key.upper(), str(path))[3] != known[key]:
            raise UserError(
                f"{path}: is not the {key.upper()} film that {reconstruction} was made from: its pixels are others"
            )
    return notes


def films_left_out(reconstruction: Path) -> list[str]:
    """A warning if a reconstruction was made from DICOM films and its objects are to be written without them.

    Args:
        reconstruction: folder that ``reconstruct`` made.

    Raises:
        UserError: there is no report, or it cannot be read.
    """
    views = " and ".join(key.upper() for key in known_pixels(reconstruction))
    if not views:
        return []
    return [
        f"{reconstruction} was made from DICOM films ({views}), which are not named: the objects belong to no patient "
        "and no study; name them with --ap and --lat"
    ]
