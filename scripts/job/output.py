"""The folder of a reconstruction: volume, surfaces, picture and report."""

from __future__ import annotations

import json
import platform
import resource
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from scripts.export.export import export_dicom
from scripts.export.identity import exportable
from scripts.films.film import Films
from scripts.geometry.frames import Grid, resample_labels
from scripts.geometry.leaning import spine_leans
from scripts.io.annotations import Annotations, write_annotations
from scripts.io.atomic import atomic_folder, check_folder, write_text
from scripts.io.documents import write_json
from scripts.io.nifti import read_volume, write_nifti
from scripts.job.options import OutputOptions
from scripts.measure.review import Review, review
from scripts.paths import BUNDLE_ROOT
from scripts.reconstruction.metrics.ellipsoid import best_ellipsoid
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.yardstick import average_vertebra, library_subjects
from scripts.reconstruction.predictor import Predictor
from scripts.render.preview import PREVIEW_VIEWS, compose, draw_panels, drawn_spine
from scripts.render.report import report_page, spine_row, vertebra_row, withheld
from scripts.render.surfaces import View
from scripts.render.turntable import check_turntable, write_turntable
from scripts.spine.mesh import check_meshes, write_meshes
from scripts.spine.reconstruction import Reconstruction

REPORT_FILE = "report.json"
DICOM_FOLDER = "dicom"
LEAST_FREE_BYTES = 16 * 2**20
REPORT_VIEWS: tuple[View, ...] = ("front", "left", "back", "right")
REPORT_HEIGHT = 640


DEFAULT_OUTPUT = OutputOptions()


def check_output(output: Path, options: OutputOptions) -> None:
    """Refuse what cannot be written, before any work is done.

    Raises:
        UserError: an unknown format of surfaces or of the film, a share of triangles that is none, or a folder that
            cannot be written, see `scripts.io.atomic.check_folder`.
    """
    check_meshes(options.mesh_formats, options.decimate)
    if options.turntable:
        check_turntable(options.turntable)
    check_folder(output, REPORT_FILE, LEAST_FREE_BYTES)


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
        write_annotations(folder / "annotations.json", annotations)
        clock.stop("volume")
        write_meshes({p.level: p.mesh for p in result.parts if p.found}, folder, options.mesh_formats, options.decimate)
        clock.stop("meshes")
        draw = partial(
            draw_panels,
            *films.pixels,
            {v.level: (_point(v.pixels[0]), _point(v.pixels[1])) for v in result.vertebrae},
            drawn_spine(result.labels, result.grid.spacing_mm),
            (films.geometry.ap.pixel_mm[1], films.geometry.lat.pixel_mm[1]),
            {n: (both[0].outlines, both[1].outlines) for n, both in checked.shadows.items()},
            frozenset(checked.flags),
        )
        panels, levels, scale = draw(views=PREVIEW_VIEWS)
        title = f"{annotations.case} (levels uncertain by one)" if annotations.levels_uncertain else annotations.case
        compose(panels, title, levels, scale, frozenset(checked.flags)).save(folder / "preview.png")
        of_report, _, _ = draw(views=REPORT_VIEWS, height_px=REPORT_HEIGHT)
        clock.stop("pictures")
        if options.turntable:
            write_turntable(folder / options.turntable, result.labels, result.grid.spacing_mm)
            clock.stop("turntable")
        report = _report(annotations, result, predictor, truth, checked)
        report["films"] = _films(films)
        report["seconds"] = {name: round(value, 3) for name, value in clock.seconds.items()}
        if options.timings:
            report["timings"] = _timings(clock.seconds, result)
        if options.dicom:
            report["warnings"] += exportable(films.headers)[1]
        report = withheld(report)
        write_text(folder / "report.html", report_page(report, of_report))
        write_json(folder / REPORT_FILE, report)
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


def _timings(seconds: dict[str, float], result: Reconstruction) -> dict[str, Any]:
    """Seconds of each step, what a vertebra took in the network, and the largest memory of the process."""
    count = max(result.computed, 1)
    return {
        "steps_s": {name: round(value, 3) for name, value in seconds.items()},
        "total_s": round(sum(seconds.values()), 3),
        "network_s_per_vertebra": round(seconds.get("network", 0.0) / count, 3),
        # Linux counts in KiB.
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "cpu_threads": torch.get_num_threads(),
    }


def _films(films: Films) -> dict[str, Any]:
    """Scale and beam of both films, as used."""
    return {
        v.key: {
            "beam": v.view.beam.value,
            "pixel_mm": [round(size, 5) for size in v.view.pixel_mm],
            "scale_sd_percent": round(100 * v.scale_sd, 2),
        }
        for v in films.views
    }


def _report(
    annotations: Annotations,
    result: Reconstruction,
    predictor: Predictor,
    truth: np.ndarray | None,
    checked: Review,
) -> dict[str, Any]:
    rows = []
    own = library_subjects(annotations.case)
    leans = spine_leans(np.array([part.vertebra.cube.body_centroid_mm for part in result.parts]), sagittal_share=1.0)
    for part, lean in zip(result.parts, leans, strict=True):
        vertebra = part.vertebra
        row = vertebra_row(part, checked)
        row["volume_cm3"] = round(float(part.mask.sum()) * result.grid.spacing_mm**3 / 1000, 2)
        if truth is not None and (truth == vertebra.level).any():
            metrics = vertebra_metrics(result.labels == vertebra.level, truth == vertebra.level)
            row["dice"] = round(metrics.dice, 4)
            row["hd95_mm"] = round(metrics.hd95_mm, 2)
            row["assd_mm"], row["nsd_1mm"] = round(metrics.assd_mm, 2), round(metrics.nsd_1mm, 4)
            mark = result.grid.to_index(np.array(vertebra.cube.body_centroid_mm))
            at_mark, at_truth = _ellipsoid_dice(truth == vertebra.level, mark)
            row["ellipsoid_at_mark_dice"], row["ellipsoid_dice"] = round(at_mark, 4), round(at_truth, 4)
            average = average_vertebra(vertebra.level, mark, result.grid, lean, without=own)
            row["average_dice"] = round(vertebra_metrics(average, truth == vertebra.level).dice, 4)
        rows.append(row)
    report: dict[str, Any] = {
        "case": annotations.case,
        "vertebrae": rows,
        "measurements": spine_row(checked.measures),
        "levels_uncertain": annotations.levels_uncertain,
        "levels_confirmed": annotations.levels_confirmed,
        "anchors": list(annotations.anchors),
        "warnings": [*result.warnings, *checked.warnings],
        "weights": predictor.weights.name,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "versions": {
            "bundle": json.loads((BUNDLE_ROOT / "configs" / "metadata.json").read_text())["version"],
            "python": platform.python_version(),
            **{name: version(name) for name in ("monai", "torch", "numpy")},
        },
        "not_for_diagnosis": True,
    }
    for name in ("dice", "average_dice", "ellipsoid_at_mark_dice", "ellipsoid_dice"):
        values = [row[name] for row in rows if name in row]
        if values:
            report[f"mean_{name}"] = round(float(np.mean(values)), 4)
    return report


def _ellipsoid_dice(mask: np.ndarray, mark: np.ndarray) -> tuple[float, float]:
    """Dice of an ellipsoid of the vertebra's size, put at its mark and at its true centre."""
    margin = 20
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    part = np.pad(mask[box], margin)
    centre = mark - [s.start for s in box] + margin
    return vertebra_metrics(best_ellipsoid(part, centre), part).dice, vertebra_metrics(best_ellipsoid(part), part).dice


def read_truth(path: Path, grid: Grid) -> np.ndarray:
    """A true labelmap on a reconstruction's lattice, (I, P, L) of VerSe numbers.

    Raises:
        UserError: it cannot be read, or is not 3D.
    """
    labels, affine = read_volume(path, "a labelmap")
    return resample_labels(np.rint(labels).astype(np.uint8), affine, grid)


def _point(pixel: np.ndarray) -> tuple[float, float]:
    return float(pixel[0]), float(pixel[1])
