"""The fit against truth, on CTs that have masks and without any shape of the same person."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from scripts.anatomy.centroids import estimate_body_centroid
from scripts.anatomy.shapes import library_subjects, shape_subjects
from scripts.data.cases import find_cases
from scripts.data.labelling.fit import FitOptions, fit_spine
from scripts.data.labelling.labelmap import draw_labels
from scripts.data.labelling.volume import on_canonical_grid
from scripts.data.volumes import read_case
from scripts.geometry.frames import resample_labels
from scripts.levels import level_name


def check_fit(source: str, without: tuple[str, ...], noise_mm: float, seed: int) -> list[dict[str, Any]]:
    """One row a vertebra: case, level, Dice, distance of the centroids, volume against the mask's, whether it is whole.

    Args:
        source: folder of CTs with labelmaps, manifest (``.json``), or several with commas between them.
        without: library subjects not to use. The subject that the case is never is.
        noise_mm: error of the marks along each axis.
        seed: of that error.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for case in find_cases(source):
        volumes = read_case(case, rng)
        ct = on_canonical_grid(volumes.hu, volumes.affine)
        truth = resample_labels(volumes.labels, volumes.affine, ct.grid)
        numbers = [int(n) for n in np.unique(truth) if n]
        true_mm = {n: estimate_body_centroid(truth == n, ct.grid) for n in numbers}
        marks = {n: p + rng.normal(0, noise_mm, 3) for n, p in true_mm.items()}
        unused = {*without, *library_subjects(case.subject)}
        subjects = tuple(s for s in shape_subjects() if s not in unused)
        started = time.monotonic()
        fitted = fit_spine(ct, marks, FitOptions(), subjects)
        seconds = time.monotonic() - started
        labels = draw_labels(fitted, ct.grid)
        for vertebra in fitted:
            a, b = truth == vertebra.level, labels == vertebra.level
            rows.append(
                {
                    "case": case.key,
                    "level": level_name(vertebra.level),
                    "dice": round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 3),
                    "centroid_mm": round(float(np.linalg.norm(vertebra.centroid_mm - true_mm[vertebra.level])), 1),
                    "volume": round(float(b.sum() / a.sum()), 2),
                    "whole": volumes.border_contact_mm2[vertebra.level] <= 10,
                }
            )
        whole = [row["dice"] for row in rows if row["case"] == case.key and row["whole"]]
        mean = f"{np.mean(whole):.3f}, least {min(whole):.2f}" if whole else "none"
        print(f"{case.key}: {len(whole)} whole vertebrae, Dice {mean}; {seconds:.0f} s", flush=True)
    return rows
