"""Finding the CT cases under a folder: VerSe's release layout, plain CT + labelmap pairs, or a manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.io.documents import read_json

MASK_SUFFIX = "_seg-vert_msk.nii.gz"
CT_SUFFIX = "_ct.nii.gz"


@dataclass(frozen=True)
class CaseFiles:
    """One CT series and what belongs to it. The pair (subject, series) is its key.

    Args:
        subject: the patient.
        series: which of the patient's series.
        ct: CT file, or None when there is none (the case is then rejected with that reason).
        mask: labelmap on the CT's grid, a folder of vertebra surfaces, or None.
        centroids: VerSe centroid JSON, or None: body centroids are then estimated from the mask.
        labels: numbering of the mask, a key of `scripts.levels.LABEL_MAPS`.
        levels: level names to use, all if empty.
        spacing_mm: true isotropic voxel size, where the header is known to be wrong.
        axcodes: true axis codes of the array, e.g. ``LAS``, where the header is known to be wrong.
        variants: random deformations of this case in training; the dataset's number if None.
        paint: without a CT, paint one around the vertebrae instead of rejecting the case.
        hu_scale: stored value x ``hu_scale`` + ``hu_offset`` = HU, where the file does not hold HU.
        hu_offset: see ``hu_scale``.
        outside_value: stored value that marks voxels outside the scanned field, counted as air.
        source: where the data come from.
        licence: under which licence.
        release: folder of the release that the case is from, where several may hold the same scan.
        label_origin: how the mask came about where it is no truth: ``fitted`` for shapes fitted to a CT
            (`scripts.data.labelling`). Such a patient is for training only.
    """

    subject: str
    series: str
    ct: Path | None
    mask: Path | None
    centroids: Path | None = None
    labels: str = "verse"
    levels: tuple[str, ...] = field(default=())
    spacing_mm: float | None = None
    axcodes: str = ""
    variants: int | None = None
    paint: bool = False
    hu_scale: float = 1.0
    hu_offset: float = 0.0
    outside_value: float | None = None
    source: str = ""
    licence: str = ""
    release: str = ""
    label_origin: str = ""

    @property
    def key(self) -> str:
        """Folder name of the case."""
        return f"{self.subject}_{self.series}" if self.series else self.subject


def find_cases(source: Path | str) -> list[CaseFiles]:
    """All cases of a source, in the order of their keys; files are matched by name, never by position in a list.

    Args:
        source: a manifest (``.json``: a list of objects with the fields of `CaseFiles`, paths relative to it), or a
            folder that holds VerSe's ``rawdata``/``derivatives`` trees (one release or several) or
            ``<stem>_ct.nii.gz`` files, each with one labelmap whose name begins with ``<stem>_``; or several of these
            with commas between them.

    Raises:
        UserError: a source is missing, holds no case, or one key stands for two cases. Scans of one name in two
            releases are no such error: see `scripts.data.duplicates`.
    """
    paths = [Path(part) for part in str(source).split(",") if part]
    cases = [case for path in paths for case in _cases_of(path)]
    by_key: dict[str, list[CaseFiles]] = {}
    for case in cases:
        by_key.setdefault(case.key, []).append(case)
    twice = [key for key, same in by_key.items() if len(same) > 1 and not all(case.release for case in same)]
    if twice:
        raise UserError(f"{source}: the same case more than once: {', '.join(sorted(twice)[:10])}")
    return sorted(cases, key=lambda case: (case.key, case.release))


def _cases_of(source: Path) -> list[CaseFiles]:
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    cases = _read_manifest(source) if source.is_file() else _verse_cases(source) or _plain_cases(source)
    if not cases:
        raise UserError(f"{source}: no case found; expected VerSe's rawdata/ and derivatives/, or *_ct.nii.gz files")
    return cases


def _verse_cases(source: Path) -> list[CaseFiles]:
    """Scans and masks are matched within their release, the folder that holds ``rawdata`` and ``derivatives``."""
    masks = {(_release(path), _stem(path, MASK_SUFFIX)): path for path in sorted(source.rglob(f"*{MASK_SUFFIX}"))}
    scans = {(_release(path), _stem(path, CT_SUFFIX)): path for path in sorted(source.rglob(f"*{CT_SUFFIX}"))}
    scans = {key: path for key, path in scans.items() if "rawdata" in path.parts}
    if not any("derivatives" in path.parts for path in masks.values()) and not scans:
        return []
    cases = []
    for release, stem in sorted(masks.keys() | scans.keys()):
        mask = masks.get((release, stem))
        subject, series = _entities(stem)
        cases.append(
            CaseFiles(
                subject=subject,
                series=series,
                ct=scans.get((release, stem)),
                mask=mask,
                centroids=next(iter(sorted(mask.parent.glob(f"{stem}_seg-*_ctd.json"))), None) if mask else None,
                source="VerSe",
                licence="CC BY-SA 4.0",
                release=release,
            )
        )
    return cases


def _release(path: Path) -> str:
    """The folder above ``rawdata`` or ``derivatives``."""
    for above in path.parents:
        if above.name in ("rawdata", "derivatives"):
            return str(above.parent)
    return str(path.parent)


def _plain_cases(source: Path) -> list[CaseFiles]:
    cases = []
    for ct in sorted(source.rglob(f"*{CT_SUFFIX}")):
        stem = _stem(ct, CT_SUFFIX)
        beside = [p for p in sorted(ct.parent.glob("*.nii.gz")) if p != ct and p.name.startswith(f"{stem}_")]
        vertebrae = [p for p in beside if re.search(r"msk|mask|label|seg|vert", p.name[len(stem) :])]
        if len(vertebrae) > 1:
            names = ", ".join(p.name for p in vertebrae)
            raise UserError(f"{ct}: several labelmaps could belong to it ({names}); name the right one in a manifest")
        centroids = next(iter(sorted(ct.parent.glob(f"{stem}*_ctd.json"))), None)
        subject, series = _entities(stem)
        cases.append(CaseFiles(subject, series, ct, vertebrae[0] if vertebrae else None, centroids))
    return cases


def _read_manifest(path: Path) -> list[CaseFiles]:
    rows = read_json(path, "JSON manifest")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: a manifest is a JSON list of objects, one a case")
    return [_manifest_case(path, row) for row in rows]


def _manifest_case(path: Path, row: dict[str, Any]) -> CaseFiles:
    known = {f.name for f in fields(CaseFiles)}
    if not {"subject", "ct", "mask"} <= set(row) <= known:
        raise UserError(f"{path}: case {row.get('subject')}: needs subject, ct and mask; may have {sorted(known)}")
    values = {"series": "", **row}
    if not all(isinstance(values.get(name) or "", str) for name in ("ct", "mask", "centroids")):
        raise UserError(f"{path}: case {row.get('subject')}: ct, mask and centroids are paths")
    for name in ("ct", "mask", "centroids"):
        if values.get(name):
            values[name] = path.parent / values[name]
    values["levels"] = tuple(values.get("levels", ()))
    return CaseFiles(**values)


def _stem(path: Path, suffix: str) -> str:
    return path.name[: -len(suffix)]


def _entities(stem: str) -> tuple[str, str]:
    """``sub-verse404_split-verse251`` -> (``verse404``, ``split-verse251``): the patient and the series."""
    match = re.fullmatch(r"sub-([^_]+)(?:_(.+))?", stem)
    return (match[1], match[2] or "") if match else (stem, "")
