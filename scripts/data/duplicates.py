"""Scans that were released twice, as VerSe 2020 repeats scans of VerSe 2019."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm import tqdm

from scripts.data.cases import CaseFiles


@dataclass(frozen=True)
class Duplicate:
    """One scan that was left out because another file holds the same voxels.

    Args:
        dropped: its path.
        kept: path of the one that stays.
        subject: patient that both belong to from now on.
    """

    dropped: str
    kept: str
    subject: str


def merge_releases(cases: list[CaseFiles]) -> tuple[list[CaseFiles], list[Duplicate]]:
    """Each scan once, and one patient under one name.

    Only scans of releases (VerSe's layout) are compared: first by size and voxel size, which costs a header, then
    those that agree by their voxels. Of two equal ones the better annotated stays, then the one of the later release
    (by name). Series of the patient whose scan was dropped follow to the name that stays, so that a split cannot tear
    them apart. Different scans under one name stay both; the later one's series gets its release's name.

    Args:
        cases: of `find_cases`.

    Returns:
        the cases that stay, in the order of their keys, and what was left out.
    """
    suspects: dict[tuple[object, ...], list[CaseFiles]] = defaultdict(list)
    for case in cases:
        path = case.ct or case.mask
        if case.release and path is not None:
            signature = _signature(path)
            if signature is not None:
                suspects[(case.ct is None, *signature)].append(case)
    groups = [group for group in suspects.values() if len(group) > 1 and len({c.release for c in group}) > 1]
    same: dict[str, list[CaseFiles]] = defaultdict(list)
    progress = tqdm(
        [c for group in groups for c in group], desc="scans released twice?", unit="scan", disable=not groups
    )
    for case in progress:
        digest = _voxel_hash(case.ct or case.mask)
        if digest:
            same[digest].append(case)
    dropped: dict[int, CaseFiles] = {}
    for twins in same.values():
        best = max(twins, key=lambda c: (c.mask is not None, c.centroids is not None, c.release))
        dropped.update({id(case): best for case in twins if case is not best})
    names = {case.subject: dropped[id(case)].subject for case in cases if id(case) in dropped}
    # Follow chains of names to their end.
    for name in list(names):
        seen = {name}
        while names.get(names[name], names[name]) != names[name] and names[name] not in seen:
            seen.add(names[name])
            names[name] = names[names[name]]
    kept = [replace(c, subject=names.get(c.subject, c.subject)) for c in cases if id(c) not in dropped]
    report = [
        Duplicate(_path(c), _path(dropped[id(c)]), names.get(dropped[id(c)].subject, dropped[id(c)].subject))
        for c in cases
        if id(c) in dropped
    ]
    return _with_own_keys(kept), report


def names_of(
    found: Iterable[CaseFiles], kept: Iterable[CaseFiles], duplicates: Iterable[Duplicate]
) -> dict[str, set[str]]:
    """Every name that a patient's scans have in their releases, by the name that `merge_releases` gave to the patient.

    Args:
        found: cases before merging.
        kept: cases after it.
        duplicates: what it left out.
    """
    kept = list(kept)
    names = {case.subject: {case.subject} for case in kept}
    # A manifest may name one file for several cases, which are never merged.
    before = {_path(case): case.subject for case in found if case.release}
    after = [(_path(case), case.subject) for case in kept if case.release]
    for path, subject in after + [(twin.dropped, twin.subject) for twin in duplicates]:
        names.setdefault(subject, {subject}).add(before[path])
    return names


def _with_own_keys(cases: list[CaseFiles]) -> list[CaseFiles]:
    out: list[CaseFiles] = []
    taken: set[str] = set()
    for case in sorted(cases, key=lambda c: (c.key, c.release)):
        if case.key in taken:
            label = f"in-{Path(case.release).name}"
            case = replace(case, series=f"{case.series}_{label}" if case.series else label)
        taken.add(case.key)
        out.append(case)
    return sorted(out, key=lambda c: c.key)


def _signature(path: Path) -> tuple[object, ...] | None:
    """Size and voxel size whatever the axes' order; None for what cannot be read (it is rejected later)."""
    try:
        image = nib.load(path)
        pairs = zip(image.shape, image.header.get_zooms(), strict=False)  # type: ignore[attr-defined]
        return tuple(sorted((int(n), round(float(z), 3)) for n, z in pairs))
    except Exception:
        return None


def _voxel_hash(path: Path | None) -> str:
    """Digest of the voxels in one order of axes."""
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.rint(np.asanyarray(image.dataobj)).astype(np.int16)
    except Exception:
        return ""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _path(case: CaseFiles) -> str:
    return str(case.ct or case.mask)
