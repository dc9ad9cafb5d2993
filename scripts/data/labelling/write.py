"""A fitted case on the disk: CT and labelmap on one grid, centroids in VerSe's layout, a compact copy for training."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from scripts.data.labelling.fit import FittedVertebra
from scripts.data.labelling.labelmap import draw_labels
from scripts.data.labelling.marks import CaseMarks
from scripts.data.labelling.volume import CtVolume
from scripts.geometry.frames import Grid
from scripts.io.documents import write_json
from scripts.io.nifti import write_nifti
from scripts.levels import level_name

# What is written in a case's manifest row and in each of its vertebrae's items.
FITTED = "fitted"
_BODY_HU = -500.0


def write_case(folder: Path, ct: CtVolume, fitted: list[FittedVertebra], marks: CaseMarks) -> dict[str, object]:
    """Write what is accepted of a case and return its row for ``prepare``'s manifest.

    Vertebrae that were rejected stay in the CT and keep their place, but get no label. As long as nothing was decided
    all are written.

    Args:
        folder: of the case.
        ct: CT on the grid that is written.
        fitted: all fitted vertebrae.
        marks: whose decisions count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decided = any(mark.decision for mark in marks.vertebrae)
    numbers = set(marks.accepted()) if decided else {v.level for v in fitted}
    body, grid = _cropped(ct)
    labels = draw_labels(fitted, grid, numbers)
    present = {v.level: v for v in fitted if v.level in numbers and (labels == v.level).any()}
    write_nifti(folder / f"{marks.case}_ct.nii.gz", np.rint(body).astype(np.int16), grid.affine)
    write_nifti(folder / f"{marks.case}_seg-vert_msk.nii.gz", labels, grid.affine)
    points: list[dict[str, object]] = [{"direction": list(nib.aff2axcodes(grid.affine))}]
    for number, vertebra in present.items():
        index = grid.to_index(vertebra.centroid_mm)
        points.append({"label": number, **{axis: round(float(v), 2) for axis, v in zip("XYZ", index, strict=True)}})
    write_json(folder / f"{marks.case}_seg-subreg_ctd.json", points, indent=None)
    _write_compact(folder / f"{marks.case}.npz", body, labels, grid, present, marks)
    return {
        "subject": marks.case,
        "ct": f"{folder.name}/{marks.case}_ct.nii.gz",
        "mask": f"{folder.name}/{marks.case}_seg-vert_msk.nii.gz",
        "centroids": f"{folder.name}/{marks.case}_seg-subreg_ctd.json",
        "source": marks.source,
        "licence": marks.licence,
        "label_origin": FITTED,
        "unlabelled_mm": {name: list(place) for name, place in marks.unlabelled(set(present)).items()},
    }


def _write_compact(
    path: Path,
    hu: np.ndarray,
    labels: np.ndarray,
    grid: Grid,
    present: dict[int, FittedVertebra],
    marks: CaseMarks,
) -> None:
    """``hu`` int16 and ``labels`` uint8 (I, P, L), ``numbers`` (N,), ``centroids`` (N, 3) indices, ``about`` JSON.

    ``cut_mm2`` (N,) is the area over which a vertebra touches the upper or lower end of the field of view.
    ``body_numbers`` and ``body_centroids`` hold all marks, those without an accepted shape too.
    """
    marked = marks.centroids()
    about = {
        "case": marks.case,
        "source": marks.source,
        "licence": marks.licence,
        "label_origin": FITTED,
        "use": marks.use,
        "origin_mm": grid.origin_mm,
        "spacing_mm": grid.spacing_mm,
        "levels": [level_name(n) for n in present],
    }
    np.savez_compressed(
        path,
        about=json.dumps(about),
        hu=np.rint(hu).astype(np.int16),
        labels=labels,
        numbers=np.array(list(present), np.uint8),
        centroids=np.array([grid.to_index(v.centroid_mm) for v in present.values()], np.float32).reshape(-1, 3),
        cut_mm2=np.array([_cut_mm2(labels == n, grid.spacing_mm) for n in present], np.float32),
        body_numbers=np.array(list(marked), np.uint8),
        body_centroids=np.array([grid.to_index(p) for p in marked.values()], np.float32).reshape(-1, 3),
    )


def _cut_mm2(mask: np.ndarray, spacing_mm: float) -> float:
    return float(mask[0].sum() + mask[-1].sum()) * spacing_mm**2


def _cropped(ct: CtVolume) -> tuple[np.ndarray, Grid]:
    """Without the air around the body."""
    box = ndimage.find_objects((ct.hu > _BODY_HU).astype(np.uint8))[0]
    grid = ct.grid.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
    return ct.hu[box], grid
