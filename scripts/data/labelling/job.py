"""Fitting many cases, each once: a stopped run goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path

from scripts.anatomy.shapes import shape_subjects
from scripts.data.labelling.fit import FitOptions, fit_spine
from scripts.data.labelling.labelmap import draw_labels
from scripts.data.labelling.marks import CaseMarks, read_marks
from scripts.data.labelling.sheet import draw_sheet
from scripts.data.labelling.volume import read_ct
from scripts.data.labelling.write import write_case
from scripts.errors import UserError
from scripts.io.documents import read_json, write_json

MANIFEST = "manifest.json"
_ROW = "row.json"


def fit_cases(ct: Path, marks: Path, output: Path, without: tuple[str, ...], spacing_mm: float) -> int:
    """Fit library shapes to every case of a folder of marks, or to one. Returns how many cases there are.

    Args:
        ct: NIfTI in HU; a folder if ``marks`` is one.
        marks: JSON of marks, or a folder of them.
        output: folder; every case gets one in it. A case that is there is fitted again only if its marks are newer.
        without: library subjects not to use.
        spacing_mm: of the written CT and labelmap.
    """
    jobs = _jobs(ct, marks)
    subjects = tuple(s for s in shape_subjects() if s not in without)
    output.mkdir(parents=True, exist_ok=True)
    for path, scan in jobs:
        case = read_marks(path)
        done = output / case.case / _ROW
        if not done.is_file() or done.stat().st_mtime < path.stat().st_mtime:
            started = time.monotonic()
            row = fit_case(scan, case, output / case.case, subjects, spacing_mm)
            write_json(done, row)
            print(f"{case.case}: {len(case.vertebrae)} vertebrae, {time.monotonic() - started:.0f} s", flush=True)
    rows = []
    for path in sorted(output.glob(f"*/{_ROW}")):
        row = read_json(path)
        if row.pop("use") == "training":
            rows.append(row)
    write_json(output / MANIFEST, rows)
    return len(jobs)


def fit_case(
    scan: Path, case: CaseMarks, folder: Path, subjects: tuple[str, ...], spacing_mm: float
) -> dict[str, object]:
    """Fit and write one case; its row for the manifest, with its ``use``."""
    volume = read_ct(scan)
    fitted = fit_spine(volume, case.centroids(), FitOptions(), subjects)
    written = volume if spacing_mm == volume.grid.spacing_mm else read_ct(scan, spacing_mm)
    row = write_case(folder, written, fitted, case)
    remarks = {mark.level: mark.decision for mark in case.vertebrae}
    labels = draw_labels(fitted, volume.grid)
    draw_sheet(volume, labels, fitted, case.case, remarks).save(folder / "sheet.png")
    agreement = {str(v.level): round(v.agreement, 3) for v in fitted}
    write_json(folder / "fit.json", {"agreement": agreement, "shapes": {str(v.level): v.subjects for v in fitted}})
    return {**row, "use": case.use}


def _jobs(ct: Path, marks: Path) -> list[tuple[Path, Path]]:
    """Marks with their CTs."""
    if marks.is_file():
        return [(marks, ct if ct.is_file() else _found(ct, read_marks(marks)))]
    paths = sorted(marks.glob("*.json"))
    if not paths:
        raise UserError(f"{marks}: no marks there (*.json)")
    return [(path, _found(ct, read_marks(path))) for path in paths]


def _found(folder: Path, case: CaseMarks) -> Path:
    """The CT that marks name, at that place in a folder or anywhere below it."""
    if (folder / case.ct).is_file():
        return folder / case.ct
    below = sorted(p for p in folder.rglob(Path(case.ct).name) if str(p).endswith(case.ct)) if folder.is_dir() else []
    if len(below) != 1:
        raise UserError(f"{folder}: {len(below)} files named {case.ct} for the marks of {case.case}; one is needed")
    return below[0]
