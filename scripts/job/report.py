"""The content of ``report.json``: what was reconstructed and measured, and when, with what and by whom."""

from __future__ import annotations

import platform
import resource
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from scripts.anatomy.shapes import library_subjects
from scripts.films.film import Films, FilmView, ScaleKind
from scripts.geometry.leaning import spine_leans
from scripts.io.annotations import Annotations
from scripts.learning.loading import weights_sha256
from scripts.levels import level_name
from scripts.measure.review import Review
from scripts.paths import software_version
from scripts.reconstruction.metrics.ellipsoid import best_ellipsoid
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.yardstick import average_vertebra
from scripts.reconstruction.predictor import Predictor
from scripts.render.report import spine_row, vertebra_row
from scripts.spine.reconstruction import Reconstruction


def make_report(
    films: Films,
    annotations: Annotations,
    result: Reconstruction,
    predictor: Predictor,
    truth: np.ndarray | None,
    checked: Review,
    when: datetime,
) -> dict[str, Any]:
    """The report, but for what is known only once all else is written.

    Args:
        films: the radiographs.
        annotations: their marks.
        result: what was reconstructed from them.
        predictor: by which network.
        truth: (I, P, L) true labels on the result's grid, if there are any.
        checked: what was measured.
        when: the report is made, with a time zone.
    """
    rows = []
    marks = {"ap": annotations.ap.by_level(), "lat": annotations.lat.by_level()}
    own = library_subjects(annotations.case)
    leans = spine_leans(np.array([part.vertebra.cube.body_centroid_mm for part in result.parts]), sagittal_share=1.0)
    for part, lean in zip(result.parts, leans, strict=True):
        vertebra = part.vertebra
        row = vertebra_row(part, checked)
        row["marks_set_by"] = {view: of_view[part.level].set_by_in_words for view, of_view in marks.items()}
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
        "made": when.isoformat(timespec="seconds"),
        "vertebrae": rows,
        "measurements": spine_row(checked, checked.angles(annotations.end_vertebrae)),
        "levels": annotations.levels_in_words,
        "levels_uncertain": annotations.levels_uncertain,
        "levels_confirmed": annotations.levels_confirmed,
        "anchors": list(annotations.anchors),
        "warnings": [*result.warnings, *checked.warnings, *truth_warnings(result, truth)],
        "films": {view.key: _film(view) for view in films.views},
        "lengths": lengths_in_words(films),
        "weights": predictor.weights.name,
        "weights_sha256": weights_sha256(predictor.weights),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "versions": {
            "bundle": software_version(),
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


def truth_warnings(result: Reconstruction, truth: np.ndarray | None) -> list[str]:
    """Which vertebrae cannot be compared because the truth does not have them.

    Args:
        result: what was reconstructed.
        truth: (I, P, L) true labels on its grid, if there are any.
    """
    levels = [part.level for part in result.parts]
    if truth is None or not levels:
        return []
    lacking = [level_name(level) for level in levels if not (truth == level).any()]
    if len(lacking) == len(levels):
        there = "no vertebra" if not truth.any() else "none of these levels"
        return [
            f"--truth: nothing is compared, it has {there} where the reconstruction lies; is it in the films' frame?"
        ]
    return [f"--truth: it has no {', '.join(lacking)} where the reconstruction lies"] if lacking else []


def _ellipsoid_dice(mask: np.ndarray, mark: np.ndarray) -> tuple[float, float]:
    """Dice of an ellipsoid of the vertebra's size, put at its mark and at its true centre."""
    margin = 20
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    part = np.pad(mask[box], margin)
    centre = mark - [s.start for s in box] + margin
    return vertebra_metrics(best_ellipsoid(part, centre), part).dice, vertebra_metrics(best_ellipsoid(part), part).dice


def timings(seconds: dict[str, float], result: Reconstruction) -> dict[str, Any]:
    """Seconds of each step, what a vertebra took in the network, and the largest memory of the process.

    Args:
        seconds: by step.
        result: of the reconstruction.
    """
    count = max(result.computed, 1)
    return {
        "steps_s": {name: round(value, 3) for name, value in seconds.items()},
        "total_s": round(sum(seconds.values()), 3),
        "network_s_per_vertebra": round(seconds.get("network", 0.0) / count, 3),
        # Linux counts in KiB.
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "cpu_threads": torch.get_num_threads(),
    }


def _film(view: FilmView) -> dict[str, Any]:
    """Scale and beam of a film, as used, where the scale comes from, and by what a DICOM film is known again."""
    notes = (note.removeprefix(f"{view.name}: ") for note in view.film.scale_notes)
    return {
        "beam": view.view.beam.value,
        "pixel_mm": [round(size, 5) for size in view.view.pixel_mm],
        "scale_sd_percent": round(100 * view.scale_sd, 2),
        "scale": view.scale_kind.value,
        "scale_from": "estimated from the marks" if view.scale_sd else "; ".join(notes) or "from the file or geometry",
        **({"pixels_sha256": view.film.pixels_sha256} if view.film.pixels_sha256 else {}),
    }


def lengths_in_words(films: Films) -> str:
    """How far lengths can be trusted: what is the worst of either film."""
    kinds = {view.scale_kind for view in films.views}
    words = [kind.value for kind in ScaleKind if kind in kinds and kind is not ScaleKind.CALIBRATED]
    sd = f" (sd {100 * max(films.scale_sd):.0f} %)" if ScaleKind.ESTIMATED in kinds else ""
    return ("; ".join(words) or ScaleKind.CALIBRATED.value) + sd
