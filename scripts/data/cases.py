"""Finding the CT cases under a folder: VerSe's release layout, plain CT + labelmap pairs, or a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.anatomy.landmarks import MASK_ENDING
from scripts.errors import UserError
from scripts.io.documents import check_schema, not_finite, read_json

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")
NII = r"\.nii(?:\.gz)?"
CT_NAME = re.compile(rf"(.*)_ct{NII}")
RELEASED_MASK_NAME = re.compile(rf"(.*){MASK_ENDING}{NII}")
# Folders of a release; what lies in neither is matched by its name alone.
RAW, DERIVED = "rawdata", "derivatives"
# (folder of the release, stem) -> files.
Files = dict[tuple[str, str], list[Path]]
MASK_WORDS = (
    "seg|segmentation|vert|vertebra|vertebrae|spine|msk|mask|masks|label|labels|labelmap|verse|totalsegmentator|ts"
)
# What follows a CT's stem in the name of its labelmap, for certain or perhaps; likewise of its centroid file.
MASK_NAME = re.compile(rf"(?:_ct)?(?:[_-](?:{MASK_WORDS}))+{NII}")
MASK_LIKE = re.compile(rf".*(?:msk|mask|label|seg|vert).*{NII}")
CENTROIDS_NAME = re.compile(r"(?:_seg-[^_]+)?_ctd\.json")
CENTROIDS_LIKE = re.compile(r".*_ctd\.json")


@dataclass(frozen=True)
class CaseFiles:
    """One CT series and what belongs to it. The pair (subject, series) is its key.

    Args:
        subject: the patient.
        series: which of the patient's series.
        ct: CT file; None if it is missing (the case is then rejected with that reason).
        mask: labelmap on the CT's grid, a folder of vertebra surfaces, or None.
        centroids: VerSe centroid JSON, or None: body centroids are then estimated from the mask.
        labels: numbering of the mask, a key of `scripts.levels.LABEL_MAPS`; empty to find it out
            (`scripts.data.numbering`).
        levels: level names to use, all if empty.
        spacing_mm: true isotropic voxel size, where the header is known to be wrong.
        axcodes: true axis codes of the array, e.g. ``LAS``, where the header is known to be wrong.
        variants: random deformations of this case in training; the dataset's number if None.
        paint: without a CT, paint one around the vertebrae instead of rejecting the case.
        hu_scale: stored value x ``hu_scale`` + ``hu_offset`` = HU, where the file does not hold HU.
        hu_offset: added to the stored value after the factor ``hu_scale``.
        unlabelled_mm: where the bodies of vertebrae are that the CT shows and the mask lacks, S1 among them; name ->
            world mm (RAS, by the true header). The network that finds vertebrae learns from them.
        outside_value: stored value that marks voxels outside the scanned field, counted as air.
        source: where the data come from.
        licence: under which licence.
        release: folder of the release that the case is from, where several may hold the same scan.
        label_origin: how the mask was made where it is not ground truth: ``fitted`` for shapes fitted to a CT
            (`scripts.data.labelling`). Such a patient is for training only.
        problem: why it cannot be used, known before any file is read: its files cannot be distinguished by their names.
    """

    subject: str
    series: str
    ct: Path | None
    mask: Path | None
    centroids: Path | None = None
    labels: str = ""
    levels: tuple[str, ...] = field(default=())
    spacing_mm: float | None = None
    axcodes: str = ""
    variants: int | None = None
    paint: bool = False
    hu_scale: float = 1.0
    hu_offset: float = 0.0
    unlabelled_mm: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    outside_value: float | None = None
    source: str = ""
    licence: str = ""
    release: str = ""
    label_origin: str = ""
    problem: str = ""

    @property
    def key(self) -> str:
        """Folder name of the case."""
        return f"{self.subject}_{self.series}" if self.series else self.subject


def find_cases(source: Path | str, labels: str = "") -> list[CaseFiles]:
    """All cases of a source, in the order of their keys; files are matched by name, never by position in a list.

    A case whose files cannot be matched for certain has its ``problem``.

    Args:
        source: a manifest (``.json``: a list of objects with the fields of `CaseFiles`, paths relative to it), or a
            folder that holds VerSe's ``rawdata``/``derivatives`` trees (one release or several) or
            ``<stem>_ct.nii.gz`` files, each with one labelmap named ``<stem>_`` and words of `MASK_WORDS`, or both;
            or several of these with commas between them. Files may also be uncompressed (``.nii``).
        labels: numbering of all masks, a key of `scripts.levels.LABEL_MAPS`, unless a manifest says otherwise of a
            case; empty to find it out for each.

    Raises:
        UserError: a source is missing, contains no case, or one key names two cases. Two releases may both have a scan
            of one name: `scripts.data.duplicates` decides which is used.
    """
    paths = [Path(part) for part in str(source).split(",") if part]
    cases = [replace(case, labels=case.labels or labels) for path in paths for case in _cases_of(path)]
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
    cases = _read_manifest(source) if source.is_file() else _folder_cases(source)
    if not cases:
        raise UserError(f"{source}: no case found; expected VerSe's rawdata/ and derivatives/, or *_ct.nii.gz files")
    return cases


def _folder_cases(source: Path) -> list[CaseFiles]:
    """Scans under ``rawdata`` with the masks of their release, all others with what lies beside them."""
    scans, masks = _by_stem(source, CT_NAME), _by_stem(source, RELEASED_MASK_NAME)
    raw = {key: found for key, paths in scans.items() if (found := [p for p in paths if _kind(p, source) == RAW])}
    folders = sorted({path.parent for paths in scans.values() for path in paths})
    beside = {ct: case for folder in folders for ct, case in _plain_cases(folder).items()}
    plain = []
    for ct, case in beside.items():
        kind = _kind(ct, source)
        # A CT of a scan's own name among the derivatives is no second patient.
        if kind != RAW and not (kind == DERIVED and (_release(ct, source), _stem(ct)) in raw):
            plain.append(case)
    taken = {case.mask for case in plain}
    loose = {key: [p for p in paths if _kind(p, source) and p not in taken] for key, paths in masks.items()}
    for case in _released_cases(raw, {key: paths for key, paths in loose.items() if paths}):
        own = beside.get(case.ct) if case.ct and not (case.mask or case.problem) else None
        # Any folder may be called rawdata: what lies there with its labelmap is no part of a release.
        plain.append(own if own and (own.mask or own.problem) else case)
    return plain


def _released_cases(raw: Files, masks: Files) -> list[CaseFiles]:
    """Scans and masks are matched within their release, the folder that holds ``rawdata`` and ``derivatives``."""
    cases = []
    for release, stem in sorted(masks.keys() | raw.keys()):
        files = masks.get((release, stem), []), raw.get((release, stem), [])
        mask, ct = (next(iter(paths), None) for paths in files)
        twice = next((paths for paths in files if len(paths) > 1), [])
        subject, series = _entities(stem)
        cases.append(
            CaseFiles(
                subject=subject,
                series=series,
                ct=ct,
                mask=mask,
                centroids=next((p for p in sorted(mask.parent.iterdir()) if _is_centroids(p, stem)), None)
                if mask
                else None,
                source="VerSe",
                licence="CC BY-SA 4.0",
                release=release,
                problem=f"several files of one name: {', '.join(map(str, twice))}" if twice else "",
            )
        )
    return cases


def _by_stem(source: Path, name: re.Pattern[str]) -> Files:
    found: Files = {}
    for path in sorted(source.rglob("*.nii*")):
        if match := name.fullmatch(path.name):
            found.setdefault((_release(path, source), match[1]), []).append(path)
    return found


def _release_folder(path: Path, source: Path) -> Path | None:
    """The nearest folder ``rawdata`` or ``derivatives`` around a file; those around the source say nothing."""
    for above in path.parents:
        if above.name in (RAW, DERIVED):
            return above
        if above == source:
            return None
    return None


def _kind(path: Path, source: Path) -> str:
    folder = _release_folder(path, source)
    return folder.name if folder else ""


def _release(path: Path, source: Path) -> str:
    return str((_release_folder(path, source) or path).parent)


def _plain_cases(folder: Path) -> dict[Path, CaseFiles]:
    files = sorted(folder.iterdir())
    scans: dict[str, list[Path]] = {}
    for path in files:
        if CT_NAME.fullmatch(path.name):
            scans.setdefault(_stem(path), []).append(path)
    cases = {}
    for stem, paths in scans.items():
        mask, mask_problem = _one_of(files, stem, scans, MASK_NAME, MASK_LIKE, "labelmap")
        centroids, problem = _one_of(files, stem, scans, CENTROIDS_NAME, CENTROIDS_LIKE, "centroid file")
        if len(paths) > 1:
            problem = f"several files of one name: {', '.join(path.name for path in paths)}"
        subject, series = _entities(stem)
        cases[paths[0]] = CaseFiles(subject, series, paths[0], mask, centroids, problem=mask_problem or problem)
    return cases


def _one_of(
    files: list[Path], stem: str, stems: Iterable[str], exact: re.Pattern[str], like: re.Pattern[str], what: str
) -> tuple[Path | None, str]:
    """The one file that belongs to a stem, or why it is not known which; neither where nothing looks like one.

    Args:
        files: of the folder.
        stem: of the CT.
        stems: of all CTs of the folder; a file that belongs to another one is not a candidate.
        exact: what follows the stem in names that are certain.
        like: what follows it in names that only may be meant.
        what: is looked for.
    """
    owners = [other for other in stems if other.startswith(stem) and other != stem]
    beside = (path for path in files if not CT_NAME.fullmatch(path.name))
    rest = {path: path.name[len(stem) :] for path in beside if path.name.startswith(f"{stem}_")}
    rest = {
        path: text
        for path, text in rest.items()
        if not any(exact.fullmatch(path.name[len(other) :]) for other in owners if path.name.startswith(f"{other}_"))
    }
    certain = [path for path, text in rest.items() if exact.fullmatch(text)]
    if len(certain) == 1:
        return certain[0], ""
    if certain:
        return None, f"several {what}s: {', '.join(p.name for p in certain)}; name the right one in a manifest"
    if unsure := [path for path, text in rest.items() if like.fullmatch(text)]:
        return None, (
            f"no {what} of just its name; {unsure[0].name} may be another patient's: rename it or use a manifest"
        )
    return None, ""


def _read_manifest(path: Path) -> list[CaseFiles]:
    rows = read_json(path, "JSON manifest")
    if wrong := not_finite(rows):
        raise UserError(f"{path}: at {wrong[0]}: no finite number")
    check_schema(rows, SCHEMA_FILE, str(path))
    return [_manifest_case(path, row) for row in rows]


def _manifest_case(path: Path, row: dict[str, Any]) -> CaseFiles:
    values = {"series": "", **row}
    for name in ("ct", "mask", "centroids"):
        values[name] = path.parent / values[name] if values.get(name) else None
    values["levels"] = tuple(values.get("levels", ()))
    values["unlabelled_mm"] = {name: tuple(place) for name, place in values.get("unlabelled_mm", {}).items()}
    return CaseFiles(**values)


def _is_centroids(path: Path, stem: str) -> bool:
    return path.name.startswith(f"{stem}_seg-") and bool(CENTROIDS_NAME.fullmatch(path.name[len(stem) :]))


def _stem(ct: Path) -> str:
    return ct.name.removesuffix(".gz").removesuffix("_ct.nii")


def _entities(stem: str) -> tuple[str, str]:
    """``sub-verse404_split-verse251`` -> (``verse404``, ``split-verse251``): the patient and the series."""
    match = re.fullmatch(r"sub-([^_]+)(?:_(.+))?", stem)
    return (match[1], match[2] or "") if match else (stem, "")
