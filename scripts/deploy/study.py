"""What a folder that a hospital hands over holds: a study with a pair of films, and perhaps what is known of them."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.options import ReadingOptions
from scripts.films.study import choose_film
from scripts.job.options import Job
from scripts.localization.anchors import parse_anchors

GEOMETRY_FILES = ("geometry.yaml", "geometry.yml", "geometry.json")
ANNOTATIONS_FILE, ANCHOR_FILE = "annotations.json", "anchor.txt"


def job_of_folder(folder: Path) -> Job:
    """The job that a folder asks for.

    Args:
        folder: with the DICOM files of one study at any depth, or two films of any kind named ``ap.*`` and ``lat.*``;
            with ``annotations.json``, ``geometry.yaml`` (or ``.json``) and ``anchor.txt``, if there are any.

    Raises:
        UserError: there is no folder, no pair of films in it, or the anchor is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    named = {view: _named(folder, view) for view in ("ap", "lat")}
    if named["ap"] and named["lat"]:
        films = [named["ap"], named["lat"]]
    else:
        films = [choose_film(folder, view) for view in (Projection.FRONTAL, Projection.LATERAL)]
    marks = folder / ANNOTATIONS_FILE
    geometry = next((folder / name for name in GEOMETRY_FILES if (folder / name).is_file()), None)
    anchor = folder / ANCHOR_FILE
    return Job(
        films[0],
        films[1],
        marks if marks.is_file() else None,
        anchor=parse_anchors(anchor.read_text(encoding="utf-8-sig").strip()) if anchor.is_file() else (),
        reading=ReadingOptions(geometry),
    )


def _named(folder: Path, view: str) -> Path | None:
    found = sorted(path for path in folder.glob(f"{view}.*") if path.is_file())
    return found[0] if len(found) == 1 else None
