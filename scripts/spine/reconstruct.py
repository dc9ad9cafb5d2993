"""The main job: two radiographs and their marks in, a spine out."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, BiplanarGeometry
from scripts.geometry.cropping import network_input, smooth_for_pitch
from scripts.geometry.frames import Grid, resample_labels
from scripts.io.annotations import Annotations, write_annotations
from scripts.io.atomic import atomic_folder
from scripts.io.nifti import read_film, read_nifti, write_nifti
from scripts.levels import level_name
from scripts.metrics.ellipsoid import best_ellipsoid
from scripts.metrics.surface import vertebra_metrics
from scripts.networks.predictor import BUNDLE_ROOT, Predictor
from scripts.spine.assembly import (
    LocatedVertebra,
    assemble,
    largest_component,
    locate_vertebrae,
    patient_lattice,
)
from scripts.spine.mesh import vertebra_mesh, write_glb, write_stl
from scripts.spine.preview import write_preview

REPORT_FILE = "report.json"
WARN_RESIDUAL_MM = 3.0
MAX_RESIDUAL_MM = 20.0
MAX_HEIGHT_DIFFERENCE_MM = 1.0


@dataclass(frozen=True)
class FilmPair:
    """Two radiographs of one patient.

    Args:
        ap: (rows, columns) float32, bones bright.
        lat: likewise.
        geometry: of both.
    """

    ap: np.ndarray
    lat: np.ndarray
    geometry: BiplanarGeometry


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed spine in memory.

    Args:
        vertebrae: head to foot.
        probabilities: one (120, 120, 120) float32 cube each, largest component only.
        labels: (I, P, L) uint8, VerSe numbers.
        grid: of the labels.
        seconds: how long each step took.
        warnings: what the user should know.
    """

    vertebrae: list[LocatedVertebra]
    probabilities: list[np.ndarray]
    labels: np.ndarray
    grid: Grid
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_film_pair(ap_path: Path, lat_path: Path, geometry_path: Path | None = None) -> FilmPair:
    """Both radiographs, checked against each other.

    Args:
        ap_path: frontal NIfTI.
        lat_path: lateral NIfTI.
        geometry_path: ``geometry.json`` for beams that a header cannot describe; parallel beams from the headers if
            None.

    Raises:
        UserError: see `scripts.io.nifti.read_film`; or the two do not show the same heights.
    """
    ap, ap_view = read_film(ap_path, frontal=True)
    lat, lat_view = read_film(lat_path, frontal=False)
    geometry = BiplanarGeometry(ap_view, lat_view)
    if geometry_path is not None:
        try:
            geometry = BiplanarGeometry.from_dict(json.loads(geometry_path.read_text()))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{geometry_path}: not a readable geometry file ({error})") from error
        if geometry.ap.shape != ap.shape or geometry.lat.shape != lat.shape:
            raise UserError(f"{geometry_path}: made for films of another size")
    if geometry.ap.beam is not Beam.CONE:
        heights = [view.shape[0] * view.pixel_spacing_mm[0] for view in (geometry.ap, geometry.lat)]
        if abs(heights[0] - heights[1]) > MAX_HEIGHT_DIFFERENCE_MM:
            raise UserError(
                f"{ap_path} and {lat_path} have different heights, {heights[0]:.0f} and {heights[1]:.0f} mm; "
                "rows must be shared"
            )
    return FilmPair(ap, lat, geometry)


def reconstruct_pair(
    films: FilmPair, annotations: Annotations, predictor: Predictor, levels: list[int] | None = None
) -> Reconstruction:
    """All marked vertebrae of a film pair.

    Args:
        films: the radiographs.
        annotations: their marks.
        predictor: the network.
        levels: VerSe numbers to reconstruct; all that are marked in both views if None.

    Raises:
        UserError: the marks do not belong to these films, or a level cannot be found.
    """
    geometry = films.geometry
    for name, film, view in (("AP", films.ap, annotations.ap), ("LAT", films.lat, annotations.lat)):
        if film.shape != view.shape:
            raise UserError(f"the {name} marks were set on a film of {view.shape}, this one has {film.shape} pixels")
    started = time.perf_counter()
    vertebrae = locate_vertebrae(annotations, geometry, patient_lattice(geometry), levels)
    warnings = _residual_warnings(vertebrae)
    smooth = [
        torch.from_numpy(smooth_for_pitch(film, _pixel_size(view)))
        for film, view in ((films.ap, geometry.ap), (films.lat, geometry.lat))
    ]
    inputs = [network_input((smooth[0], smooth[1]), v.pixels, geometry, v.cube) for v in vertebrae]
    cropped = time.perf_counter()
    probabilities = [
        largest_component(p) for p in tqdm(predictor(inputs), total=len(inputs), desc="vertebrae", unit="vertebra")
    ]
    for vertebra, probability in zip(vertebrae, probabilities, strict=True):
        if not (probability > 0.5).any():
            warnings.append(f"{level_name(vertebra.level)}: the network found no vertebra at its mark")
    predicted = time.perf_counter()
    labels, grid = assemble(zip(vertebrae, probabilities, strict=True))
    seconds = {
        "crop": cropped - started,
        "network": predicted - cropped,
        "assemble": time.perf_counter() - predicted,
    }
    return Reconstruction(vertebrae, probabilities, labels, grid, seconds, warnings)


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
        scales = [_pixel_size(view)[1] for view in (films.geometry.ap, films.geometry.lat)]
        write_preview(
            folder / "preview.png", films.ap, films.lat, marks, result.labels, annotations.case, (scales[0], scales[1])
        )
        seconds = {**result.seconds, "write": time.perf_counter() - started}
        report = _report(annotations, result, predictor, truth, seconds)
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    return report


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
            row["ellipsoid_dice"] = round(_ellipsoid_dice(truth == vertebra.level), 4)
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
    for name in ("dice", "ellipsoid_dice"):
        values = [row[name] for row in rows if name in row]
        if values:
            report[f"mean_{name}"] = round(float(np.mean(values)), 4)
    return report


def _ellipsoid_dice(mask: np.ndarray) -> float:
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    part = np.pad(mask[box], 20)
    return vertebra_metrics(best_ellipsoid(part), part).dice


def _read_truth(path: Path, grid: Grid) -> np.ndarray:
    labels, affine = read_nifti(path)
    if labels.ndim != 3:
        raise UserError(f"{path}: a labelmap is 3D, this has shape {labels.shape}")
    return resample_labels(np.rint(labels).astype(np.uint8), affine, grid)


def _residual_warnings(vertebrae: list[LocatedVertebra]) -> list[str]:
    worst = max(vertebrae, key=lambda v: v.residual_mm)
    if worst.residual_mm > MAX_RESIDUAL_MM:
        raise UserError(
            f"the two marks of {level_name(worst.level)} miss each other by {worst.residual_mm:.0f} mm: marks of "
            "different vertebrae, films of different patients, or a view swapped"
        )
    return [
        f"{level_name(v.level)}: the marks of the two views miss each other by {v.residual_mm:.1f} mm"
        for v in vertebrae
        if v.residual_mm > WARN_RESIDUAL_MM
    ]


def _pixel_size(view: Any) -> tuple[float, float]:
    size = view.pixel_size_mm(np.asarray(view.isocentre_mm))[0]
    return float(size[0]), float(size[1])


def _point(pixel: np.ndarray) -> tuple[float, float]:
    return float(pixel[0]), float(pixel[1])
