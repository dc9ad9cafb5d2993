"""The folder of a reconstruction: volume, surfaces, picture and report."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from scripts.errors import UserError
from scripts.geometry.frames import Grid, resample_labels
from scripts.io.annotations import Annotations, write_annotations
from scripts.io.atomic import atomic_folder
from scripts.io.nifti import read_nifti, write_nifti
from scripts.levels import level_name
from scripts.metrics.ellipsoid import best_ellipsoid
from scripts.metrics.surface import vertebra_metrics
from scripts.networks.predictor import BUNDLE_ROOT, Predictor
from scripts.spine.mesh import vertebra_mesh, write_glb, write_stl
from scripts.spine.preview import write_preview
from scripts.spine.reconstruct import FilmPair, Reconstruction, pixel_size

REPORT_FILE = "report.json"


def write_reconstruction(
    output: Path,
    films: FilmPair,
    annotations: Annotations,
    result: Reconstruction,
    predictor: Predictor,
    truth_path: Path | None = None,
) -> dict[str, Any]:
    """The reconstruction's folder, whole or not at all.

    Args:
        output: folder to write; an older reconstruction there is replaced.
        films: the radiographs.
        annotations: their marks.
        result: what was reconstructed.
        predictor: by which network.
        truth_path: true labelmap to compare with, if there is one.

    Returns:
        the report that was written as ``report.json``.
    """
    truth = _read_truth(truth_path, result.grid) if truth_path else None
    with atomic_folder(output, marker=REPORT_FILE) as folder:
        started = time.perf_counter()
        write_nifti(folder / "spine.nii.gz", result.labels, result.grid.affine)
        write_annotations(folder / "annotations.json", annotations)
        (folder / "meshes").mkdir()
        meshes = {}
        for vertebra, probability in zip(result.vertebrae, result.probabilities, strict=True):
            if (probability > 0.5).any():
                meshes[vertebra.level] = vertebra_mesh(probability, vertebra.cube.grid.affine)
                write_stl(meshes[vertebra.level], folder / "meshes" / f"{level_name(vertebra.level)}.stl")
        if meshes:
            write_glb(meshes, folder / "spine.glb")
        marks = {v.level: (_point(v.pixels[0]), _point(v.pixels[1])) for v in result.vertebrae}
        scales = [pixel_size(view)[1] for view in (films.geometry.ap, films.geometry.lat)]
        write_preview(
            folder / "preview.png", films.ap, films.lat, marks, result.labels, annotations.case, (scales[0], scales[1])
        )
        seconds = {**result.seconds, "write": time.perf_counter() - started}
        report = _report(annotations, result, predictor, truth, seconds)
        report["films"] = _films(films)
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _films(films: FilmPair) -> dict[str, Any]:
    """Scale and beam of both films, as used."""
    views = zip(("ap", "lat"), (films.geometry.ap, films.geometry.lat), films.scale_sd, strict=True)
    return {
        name: {
            "beam": view.beam.value,
            "pixel_mm": [round(v, 5) for v in pixel_size(view)],
            "scale_sd_percent": round(100 * sd, 2),
        }
        for name, view, sd in views
    }


def _report(
    annotations: Annotations,
    result: Reconstruction,
    predictor: Predictor,
    truth: np.ndarray | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    rows = []
    for vertebra, probability in zip(result.vertebrae, result.probabilities, strict=True):
        mask = result.labels == vertebra.level
        inside = probability[probability > 0.5]
        row: dict[str, Any] = {
            "level": level_name(vertebra.level),
            "centroid_mm": [round(v, 2) for v in vertebra.cube.body_centroid_mm],
            "residual_mm": round(vertebra.residual_mm, 2),
            "mark_confidence": vertebra.confidence,
            "shape_confidence": round(float(inside.mean()), 4) if inside.size else 0.0,
            "volume_cm3": round(float(mask.sum()) * result.grid.spacing_mm**3 / 1000, 2),
        }
        if truth is not None and (truth == vertebra.level).any():
            metrics = vertebra_metrics(mask, truth == vertebra.level)
            row["dice"] = round(metrics.dice, 4)
            row["hd95_mm"] = round(metrics.hd95_mm, 2)
            mark = result.grid.to_index(np.array(vertebra.cube.body_centroid_mm))
            at_mark, at_truth = _ellipsoid_dice(truth == vertebra.level, mark)
            row["ellipsoid_at_mark_dice"], row["ellipsoid_dice"] = round(at_mark, 4), round(at_truth, 4)
        rows.append(row)
    report: dict[str, Any] = {
        "case": annotations.case,
        "vertebrae": rows,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "warnings": result.warnings,
        "weights": predictor.weights.name,
        "device": str(predictor.device),
        "versions": {
            "bundle": json.loads((BUNDLE_ROOT / "configs" / "metadata.json").read_text())["version"],
            "python": platform.python_version(),
            **{name: version(name) for name in ("monai", "torch", "numpy")},
        },
        "not_for_diagnosis": True,
    }
    for name in ("dice", "ellipsoid_at_mark_dice", "ellipsoid_dice"):
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


def _read_truth(path: Path, grid: Grid) -> np.ndarray:
    labels, affine = read_nifti(path)
    if labels.ndim != 3:
        raise UserError(f"{path}: a labelmap is 3D, this has shape {labels.shape}")
    return resample_labels(np.rint(labels).astype(np.uint8), affine, grid)


def _point(pixel: np.ndarray) -> tuple[float, float]:
    return float(pixel[0]), float(pixel[1])
