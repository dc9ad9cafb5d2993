"""A reconstruction's folder -> a folder of DICOM objects."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import trimesh
from pydicom import Dataset

from scripts.errors import UserError
from scripts.export.identity import exportable
from scripts.export.origin import make_origin
from scripts.export.report import judgements
from scripts.export.segmentation import write_segmentation
from scripts.export.stl import write_stl_object
from scripts.films.film import Projection
from scripts.films.header import open_dicom
from scripts.films.kind import FilmKind, film_kind
from scripts.films.patient import check_same_patient
from scripts.films.study import choose_film
from scripts.io.annotations import read_annotations
from scripts.io.atomic import atomic_folder
from scripts.io.nifti import read_nifti
from scripts.levels import LEVEL_NAMES, in_order, level_name

SEGMENTATION_FILE = "spine.seg.dcm"


def export_dicom(
    reconstruction: Path, output: Path, films: list[Dataset | None] | None = None, when: datetime | None = None
) -> list[Path]:
    """Write the segmentation and one encapsulated STL a vertebra.

    Args:
        reconstruction: folder that ``reconstruct`` made.
        output: folder to write, whole or not at all; an earlier export there is replaced.
        films: headers of the AP and the LAT film it was made from; those that are no DICOM file are None.
        when: time of the export; now if None.

    Returns:
        the files.

    Raises:
        UserError: the folder is no reconstruction, the films are not those it was made from, or see `exportable`.
    """
    headers, _ = exportable(films or [])
    judged = judgements(reconstruction)
    if not (reconstruction / "spine.nii.gz").is_file():
        raise UserError(f"{reconstruction}: has no spine.nii.gz; it is no whole reconstruction")
    marks = read_annotations(reconstruction / "annotations.json")
    for film, view, name in zip(films or [], (marks.ap, marks.lat), ("AP", "LAT"), strict=False):
        if film is not None and sorted((film.Rows, film.Columns)) != sorted(view.shape):
            raise UserError(f"the {name} film is not the one that {reconstruction} was made from: other size")
    labels, affine = read_nifti(reconstruction / "spine.nii.gz")
    meshes = {n: reconstruction / "meshes" / f"{name}.stl" for n, name in LEVEL_NAMES.items()}
    meshes = {n: meshes[n] for n in in_order(list(meshes)) if meshes[n].is_file()}
    if labels.any() and not meshes:
        raise UserError(f"{reconstruction}: has no meshes/*.stl; reconstruct with --mesh-formats stl")
    edited = bool(marks.anchors) or any(m.set_by != "model" for view in (marks.ap, marks.lat) for m in view.marks)
    content = [reconstruction / "spine.nii.gz", *meshes.values()]
    origin = make_origin(headers, content, marks.levels_in_words, edited, when, judged)
    with atomic_folder(output, marker=SEGMENTATION_FILE) as folder:
        write_segmentation(folder / SEGMENTATION_FILE, labels.astype(np.uint8), affine, origin, edited)
        for position, (number, path) in enumerate(meshes.items(), start=1):
            mesh = trimesh.load_mesh(path)
            write_stl_object(folder / f"{level_name(number)}.stl.dcm", mesh, number, position, origin)
    return sorted(output.iterdir())


def film_files(ap: Path, lat: Path) -> tuple[Path, Path]:
    """The films of a reconstruction, each named itself or by the folder of its study.

    Raises:
        UserError: a film is missing.
    """
    frontal, lateral = (
        choose_film(path, wanted) if path.is_dir() else path
        for path, wanted in ((ap, Projection.FRONTAL), (lat, Projection.LATERAL))
    )
    for film in (frontal, lateral):
        if not film.is_file():
            raise UserError(f"{film}: no such file")
    return frontal, lateral


def film_headers(ap: Path, lat: Path) -> list[Dataset | None]:
    """Headers of the films of a reconstruction, None for those that are no DICOM file.

    Raises:
        UserError: a film is missing or no film, or the two show different patients.
    """
    files = film_files(ap, lat)
    headers = [_dicom_header(film) if film_kind(film) is FilmKind.DICOM else None for film in files]
    check_same_patient(headers[0], headers[1], f"{ap} and {lat}")
    return headers


def _dicom_header(path: Path) -> Dataset:
    header, _ = open_dicom(path, pixels=False)
    if "Rows" not in header or "Columns" not in header:
        raise UserError(f"{path}: is no film")
    return header
