"""What a folder that a hospital hands over holds: a study with a pair of films, and perhaps what is known of them."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.options import ReadingOptions
from scripts.films.study import choose_film
from scripts.io.documents import YAML_SUFFIXES, read_text
from scripts.job.options import Job
from scripts.localization.anchors import Anchors, parse_anchors

GEOMETRY_FILES = ("geometry.yaml", "geometry.yml", "geometry.json")
ANNOTATIONS_FILE, ANCHOR_FILE = "annotations.json", "anchor.txt"


def job_of_folder(folder: Path) -> Job:
    """The job that a folder asks for.

    Args:
        folder: with the DICOM files of one study at any depth, or two films of any kind named ``ap.*`` and ``lat.*``;
            with ``annotations.json``, ``geometry.yaml`` (or ``.json``) and ``anchor.txt``, if there are any; capitals
            make no difference.

    Raises:
        UserError: there is no folder, no pair of films in it, two files of one of these names, or the anchor is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    ap, lat = _named(folder, "ap"), _named(folder, "lat")
    if ap and lat:
        films = [ap, lat]
    else:
        films = [choose_film(folder, view) for view in (Projection.FRONTAL, Projection.LATERAL)]
    anchor = _only(folder, (ANCHOR_FILE,))
    return Job(
        films[0],
        films[1],
        _only(folder, (ANNOTATIONS_FILE,)),
        anchor=_anchors(anchor) if anchor else (),
        reading=ReadingOptions(_only(folder, GEOMETRY_FILES)),
    )


def geometry_name(path: Path) -> str:
    """The name under which a job's study keeps a geometry file of any name; as `read_small` tells YAML from JSON."""
    return GEOMETRY_FILES[0] if path.suffix.lower() in YAML_SUFFIXES else GEOMETRY_FILES[-1]


def _anchors(path: Path) -> Anchors:
    words = read_text(path, "anchor").strip()
    try:
        return parse_anchors(words)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _named(folder: Path, view: str) -> Path | None:
    found = sorted(path for path in _files(folder) if path.name.lower().startswith(f"{view}."))
    return found[0] if len(found) == 1 else None


def _only(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The one file of a folder that has one of some names, whatever the case of its letters."""
    found = sorted(path for path in _files(folder) if path.name.lower() in names)
    if len(found) > 1:
        raise UserError(f"{folder}: {' and '.join(path.name for path in found)}: leave the one that holds")
    return found[0] if found else None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]
