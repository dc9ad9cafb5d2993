"""What happens to an input: the reader of its kind is asked as our commands ask it, and what it gives is used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from scripts.anatomy.centroids import read_verse_centroids
from scripts.benchmarks.fuzz.originals import COLUMNS, ROWS, SAMPLE, originals
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.datalist import read_datalist
from scripts.data.volumes import read_case
from scripts.errors import UserError
from scripts.export.export import export_dicom
from scripts.films.film import Films, Projection
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films, read_radiograph
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from scripts.io.documents import not_finite
from scripts.io.nifti import read_nifti, write_nifti
from scripts.spine.mesh import vertebra_mesh, write_stl

LONGEST_LINE = 600
WHEN = datetime(2024, 5, 6)


class WrongError(Exception):
    """A reader gave what it must not give, or refused in words that do not help."""


def try_input(path: Path) -> str:
    """Read a file as its name says and use what was read.

    Args:
        path: in a folder of its own; the part of its name before the first ``.`` chooses the reader.

    Returns:
        ``read`` or ``refused``.

    Raises:
        WrongError: what was read is impossible, the error is not one line with the file's name, or a file was left.
        Exception: whatever a reader raises besides a `UserError`.
    """
    before = sorted(path.parent.iterdir())
    try:
        READERS[path.name.split(".")[0].split("_")[0]](path)
        answer = "read"
    except UserError as error:
        line = str(error)
        if "\n" in line or not 0 < len(line) <= LONGEST_LINE:
            raise WrongError(
                f"an error of {line.count(chr(10)) + 1} lines, {len(line)} characters: {line!r}"
            ) from error
        if path.name not in line and str(path.parent) not in line:
            raise WrongError(f"an error without the file's name: {line}") from error
        answer = "refused"
    if left := [p.name for p in path.parent.iterdir() if p not in before]:
        raise WrongError(f"left behind: {', '.join(left)}")
    return answer


def _film(path: Path) -> None:
    film = read_radiograph(path, Projection.FRONTAL)
    if film.pixels.ndim != 2 or film.pixels.dtype != np.float32:
        raise WrongError(f"a film of {film.pixels.dtype}, {film.pixels.shape}")
    if not np.isfinite(film.pixels).any() or np.isinf(film.pixels).any():
        raise WrongError("a film of infinite pixels, or of NaN alone")
    if film.spacing_mm is not None and not (np.isfinite(film.spacing_mm).all() and min(film.spacing_mm) > 0):
        raise WrongError(f"pixels of {film.spacing_mm} mm")
    if any("\n" in line for line in film.warnings):
        raise WrongError("a warning of several lines")
    if film.header is None:
        return
    rows, columns = film.header.Rows, film.header.Columns
    with tempfile.TemporaryDirectory() as folder:
        done = _reconstruction(Path(folder) / "done", (int(rows), int(columns)))
        try:
            export_dicom(done, Path(folder) / "dicom", [film.header, None], WHEN)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _reconstruction(folder: Path, shape: tuple[int, int]) -> Path:
    """A folder as ``reconstruct`` makes it, as far as the export reads it."""
    labels: np.ndarray = np.zeros((12, 12, 12), np.uint8)
    labels[3:9, 3:9, 3:9] = 20
    (folder / "meshes").mkdir(parents=True)
    write_nifti(folder / "spine.nii.gz", labels, np.eye(4))
    write_stl(vertebra_mesh(labels == 20, np.eye(4)), folder / "meshes" / "L1.stl")
    marks = ViewMarks(shape, (Mark(20, (0.0, 0.0)),))
    write_annotations(folder / "annotations.json", Annotations(marks, marks))
    (folder / "report.json").write_text("{}")
    return folder


@lru_cache
def _originals() -> dict[str, bytes]:
    return {original.name: original.content for original in originals()}


def _volumes(path: Path, other: str) -> None:
    """A CT or its mask, with the other one as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder) / other
        good.write_bytes(_originals()[other])
        ct, mask = (path, good) if other == "mask.nii.gz" else (good, path)
        try:
            volumes = read_case(CaseFiles("p", "", ct, mask), np.random.default_rng(0))
        except UserError as error:
            # `prepare` writes it into the row of its case.
            raise UserError(f"{path.name}: {error}") from error
    if not (np.isfinite(volumes.hu).all() and np.isfinite(volumes.affine).all()) or not volumes.labels.any():
        raise WrongError("a CT that is not finite, or no vertebra")


def _marks(path: Path) -> None:
    marks = read_annotations(path)
    points = [mark.centroid for view in (marks.ap, marks.lat) for mark in view.marks]
    if not np.isfinite(np.array(points, float)).all():
        raise WrongError("marks that are not finite")
    try:
        _sample_films().check_marks(marks)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@lru_cache
def _sample_films() -> Films:
    return read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")


def _geometry(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/ap.png", f"{folder}/lat.png"]
        for name in names:
            Path(name).write_bytes(_originals()["film.png"])
        try:
            films = read_films(Path(names[0]), Path(names[1]), ReadingOptions(geometry=path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    if films.pixels[0].shape != (ROWS, COLUMNS) or not_finite(films.geometry.to_dict()):
        raise WrongError("a geometry that is not finite")


def _manifest(path: Path) -> None:
    for case in find_cases(path):
        try:
            read_case(case, np.random.default_rng(0))
        except UserError:
            # Its files are not there.
            continue
        raise WrongError("a case without files was read")


def _dataset(path: Path) -> None:
    for name in ("training", "test"):
        read_datalist(path.parent, name)


def _points(path: Path) -> None:
    labels, affine = read_nifti_of("mask.nii.gz")
    found, _ = read_verse_centroids(path, labels, affine)
    if not all(np.isfinite(point).all() for point in found.values()):
        raise WrongError("points that are not finite")


@lru_cache
def read_nifti_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Array and affine of one of the originals."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(_originals()[name])
        return read_nifti(path)


READERS: dict[str, Callable[[Path], None]] = {
    "film": _film,
    "ct": lambda path: _volumes(path, "mask.nii.gz"),
    "mask": lambda path: _volumes(path, "ct.nii.gz"),
    "marks": _marks,
    "geometry": _geometry,
    "manifest": _manifest,
    "dataset": _dataset,
    "points": _points,
}
