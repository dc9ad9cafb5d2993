"""The folder of a reconstruction: volume, surfaces, picture and report."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import UserError
from scripts.export.export import export_dicom
from scripts.export.identity import exportable
from scripts.films.film import Films
from scripts.geometry.frames import Grid, resample_labels
from scripts.io.annotations import Annotations, write_annotations
from scripts.io.atomic import atomic_folder, check_folder, write_text
from scripts.io.documents import write_json
from scripts.io.nifti import read_volume, write_nifti
from scripts.job.options import OutputOptions
from scripts.job.report import make_report, timings
from scripts.measure.plate_lines import film_lines
from scripts.measure.review import review
from scripts.reconstruction.predictor import Predictor
from scripts.render.preview import PREVIEW_VIEWS, compose, draw_panels, drawn_spine
from scripts.render.report import withheld
from scripts.render.report_page import report_page
from scripts.render.report_tables import write_tables
from scripts.render.surfaces import View, mesh_surfaces
from scripts.render.turntable import SUFFIXES as TURNTABLES
from scripts.render.turntable import check_turntable, write_turntable
from scripts.spine.mesh import check_meshes, write_meshes
from scripts.spine.reconstruction import Reconstruction
from scripts.threads import map_in_threads

REPORT_FILE = "report.json"
ANNOTATIONS_FILE = "annotations.json"
DICOM_FOLDER = "dicom"
LEAST_FREE_BYTES = 16 * 2**20
# All that a reconstruction's folder may hold, beside a film of the turning spine; first what a reader looks at first.
CONTENT = (
    "preview.png", "report.html", "spine.glb", "spine.nii.gz", "meshes", REPORT_FILE, "vertebrae.csv", "spine.csv",
    ANNOTATIONS_FILE, DICOM_FOLDER,
)  # fmt: skip
# What operating systems put into folders, beside names that begin with a dot.
SYSTEM_FILES = ("Thumbs.db", "desktop.ini", "lost+found")
REPORT_VIEWS: tuple[View, ...] = ("front", "left", "back", "right")
REPORT_HEIGHT = 640


DEFAULT_OUTPUT = OutputOptions()


def check_output(output: Path, options: OutputOptions) -> None:
    """Refuse what cannot be written, before any work is done.

    Raises:
        UserError: an unknown format of surfaces or of the film, a share of triangles that is not above 0 and at most 1,
            DICOM without the STL that it holds, or a folder that cannot be written or holds what is the user's.
    """
    check_meshes(options.mesh_formats, options.decimate)
    if options.dicom and "stl" not in options.mesh_formats:
        raise UserError("--dicom holds the surfaces as STL: add stl to --mesh-formats")
    if options.turntable:
        check_turntable(options.turntable)
    check_folder(output, REPORT_FILE, LEAST_FREE_BYTES)
    for path in sorted(output.iterdir()) if output.is_dir() else ():
        ours = path.name in CONTENT or path.suffix in TURNTABLES
        if not ours and not path.name.startswith(".") and path.name not in SYSTEM_FILES:
            raise UserError(f"{path}: is no part of the reconstruction there, which would be replaced; move it away")


def write_reconstruction(
    output: Path,
    films: Films,
    annotations: Annotations,
    result: Reconstruction,
    predictor: Predictor,
    options: OutputOptions = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """The reconstruction's folder, whole or not at all.

    Args:
        output: folder to write; an older reconstruction there is replaced.
        films: the radiographs.
        annotations: their marks.
        result: what was reconstructed.
        predictor: by which network.
        options: what else to write.

    Returns:
        the report that was written as ``report.json``.
    """
    truth = read_truth(options.truth, result.grid) if options.truth else None
    clock = _Clock(result.seconds)
    checked = review(films, result)
    clock.stop("measure")
    with atomic_folder(output, marker=REPORT_FILE) as folder:
        write_nifti(folder / "spine.nii.gz", result.labels, result.grid.affine)
        write_annotations(folder / ANNOTATIONS_FILE, annotations)
        clock.stop("volume")
        found = [part for part in result.parts if part.found]
        meshes = map_in_threads(attrgetter("mesh"), found)
        by_level = {part.level: mesh for part, mesh in zip(found, meshes, strict=True)}
        write_meshes(by_level, folder, options.mesh_formats, options.decimate)
        clock.stop("meshes")
        spine = drawn_spine(result.labels, result.grid.spacing_mm, mesh_surfaces(by_level, result.grid))
        draw = partial(
            draw_panels,
            *films.pixels,
            {v.level: (_point(v.pixels[0]), _point(v.pixels[1])) for v in result.vertebrae},
            spine,
            (films.geometry.ap.pixel_mm, films.geometry.lat.pixel_mm),
            {n: (both[0].outlines, both[1].outlines) for n, both in checked.shadows.items()},
            checked.marked,
            lines=film_lines(checked.usable, checked.angles(annotations.end_vertebrae), films.geometry),
        )
        panels, levels, scale = draw(views=PREVIEW_VIEWS)
        title = (
            f"{annotations.case} ({annotations.levels_in_words})" if annotations.levels_uncertain else annotations.case
        )
        compose(panels, title, levels, scale, checked.marked).save(folder / "preview.png")
        of_report, _, _ = draw(views=REPORT_VIEWS, height_px=REPORT_HEIGHT)
        clock.stop("pictures")
        if options.turntable:
            write_turntable(folder / options.turntable, spine)
            clock.stop("turntable")
        report = make_report(films, annotations, result, predictor, truth, checked, datetime.now().astimezone())
        report["seconds"] = {name: round(value, 3) for name, value in clock.seconds.items()}
        if options.timings:
            report["timings"] = timings(clock.seconds, result)
        if options.dicom:
            report["warnings"] += exportable(films.headers)[1]
        report = withheld(report)
        write_text(folder / "report.html", report_page(report, of_report))
        write_json(folder / REPORT_FILE, report)
        write_tables(folder, report)
        if options.dicom:
            export_dicom(folder, folder / DICOM_FOLDER, films.headers)
    return report


class _Clock:
    """Adds what passes between two stops to the seconds of earlier steps."""

    def __init__(self, before: dict[str, float]) -> None:
        self.seconds, self._last = dict(before), time.perf_counter()

    def stop(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def read_truth(path: Path, grid: Grid) -> np.ndarray:
    """A true labelmap on a reconstruction's lattice, (I, P, L) of VerSe numbers.

    Raises:
        UserError: it cannot be read, or is not 3D.
    """
    labels, affine = read_volume(path, "a labelmap")
    return resample_labels(np.rint(labels).astype(np.uint8), affine, grid)


def _point(pixel: np.ndarray) -> tuple[float, float]:
    return float(pixel[0]), float(pixel[1])
