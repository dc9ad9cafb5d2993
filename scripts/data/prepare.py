"""The verb ``prepare``: CT cases in, a prepared dataset out.

A dataset is ``dataset.json`` (a MONAI datalist with ``training``, ``validation`` and ``test``, and under ``excluded``
what is in no list and why), ``rejected.csv`` (cases that could not be used) and one folder a case under ``cases/``.
The same input gives the same bytes, and a stopped build goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.data.cases import CaseFiles, find_cases
from scripts.data.duplicates import Duplicate, merge_releases
from scripts.data.jobs import run_jobs
from scripts.data.subset import SubsetOptions, check_lists, why_dropped, write_subset
from scripts.data.vertebrae import CASE_FILE, PreparedCase, PrepareOptions, prepare_case, read_case_file
from scripts.errors import UserError
from scripts.geometry.film import FilmOptions
from scripts.io.atomic import atomic_folder, write_text
from scripts.levels import LEVEL_ORDER, level_number

SPLITS = ("training", "validation", "test")
STAMP_FILE = "built_from.txt"
# Of the files of a case; a change rebuilds them.
FORMAT = 2


@dataclass(frozen=True)
class SplitOptions:
    """Who goes where; whole patients always.

    Args:
        test_share: of all patients (the paper's 4:1).
        validation_share: of the remaining ones.
        test: patients that are in the test list whatever the draw.
        validation: likewise.
        training: likewise.
    """

    test_share: float = 0.2
    validation_share: float = 0.1
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


def prepare_dataset(
    source: Path | str,
    output: Path,
    options: PrepareOptions,
    split: SplitOptions,
    workers: int = 1,
    subset: SubsetOptions | None = None,
    scheduler: str = "",
) -> dict[str, int]:
    """Build a dataset; see the module's docstring.

    Args:
        source: folder, manifest, or several with commas between them; see `scripts.data.cases.find_cases`.
        output: the dataset's folder.
        options: what shapes the files.
        split: who goes where.
        workers: processes; each holds one case.
        subset: which spines to take, all if None.
        scheduler: address of a Dask scheduler whose workers do the work instead.

    Returns:
        number of vertebrae per list, and of rejected cases under ``rejected``.

    Raises:
        UserError: the source holds no case, or none that can be used.
    """
    subset = subset or SubsetOptions()
    cases, duplicates = merge_releases(find_cases(source))
    if output.exists() and any(output.iterdir()) and not (output / "cases").is_dir():
        raise UserError(f"{output}: holds something that is no dataset; choose another --output")
    output = output.absolute()
    (output / "cases").mkdir(parents=True, exist_ok=True)
    _remove_unfinished(output)
    build = partial(_build, output=output, options=options)
    rejected: list[tuple[str, str]] = []

    def run(jobs: list[tuple[CaseFiles, int]], name: str) -> list[PreparedCase]:
        done = []
        results = tqdm(run_jobs(build, jobs, workers, scheduler), total=len(jobs), desc=name, unit="case")
        for (case, variant), result in results:
            if isinstance(result, PreparedCase):
                done.append(result)
            else:
                rejected.append((_folder_name(case, variant), str(result)))
        return sorted(done, key=lambda prepared: prepared.spine.case)

    whole = run([(case, 0) for case in cases], "cases")
    spines = [prepared.spine for prepared in whole]
    check_lists(spines, subset)
    dropped = {spine.case: why_dropped(spine, subset) for spine in spines}
    kept = [spine for spine in spines if not dropped[spine.case]]
    membership = split_patients([spine.subject for spine in kept], split, options.seed)
    chosen = {spine.case for spine in kept if membership[spine.subject] == "training"}
    variants = [
        (case, variant)
        for case in cases
        if case.key in chosen
        for variant in range(1, 1 + (options.variants if case.variants is None else case.variants))
    ]
    items = [item for prepared in whole for item in prepared.items]
    items += [item for prepared in run(variants, "variants") for item in prepared.items] if variants else []
    _remove_unfinished(output)
    write_rejected(output / "rejected.csv", sorted(rejected))
    if not items:
        raise UserError(f"{source}: no case could be used; {output / 'rejected.csv'} has the reasons")
    write_subset(output / "subset.csv", spines, subset)
    write_duplicates(output / "duplicates.csv", duplicates)
    if not kept:
        raise UserError(f"{source}: no spine is left in --subset {subset.subset}; {output / 'subset.csv'} has reasons")
    items.sort(key=lambda i: (i.subject, i.series, LEVEL_ORDER.index(level_number(i.level))))
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, "excluded")}
    for item in items:
        reasons = dropped.get(item.case, [])
        if reasons:
            item = replace(item, excluded=f"not in VerSe-{subset.subset}: {'; '.join(reasons)}")
        lists["excluded" if item.excluded else membership[item.subject]].append(asdict(item))
    header = {
        "name": "vertebrae from biplanar radiographs",
        "tensorImageSize": "2D",
        "labels": {"0": "background", "1": "vertebra"},
        "subset": subset.subset,
        "options": _options_to_json(options),
    }
    write_text(output / "dataset.json", json.dumps({**header, **lists}, indent=1) + "\n")
    return {**{name: len(rows) for name, rows in lists.items()}, "rejected": len(rejected)}


def split_patients(subjects: Iterable[str], split: SplitOptions, seed: int) -> dict[str, str]:
    """Which list each patient belongs to.

    The draw ranks patients by a hash of seed and name, so that it does not depend on the order of the input and a
    patient who joins later leaves most others where they were.

    Raises:
        UserError: a patient is asked for in two lists, or a named one is not in the data.
    """
    unique = sorted(set(subjects))
    fixed = {"test": split.test, "validation": split.validation, "training": split.training}
    membership: dict[str, str] = {}
    for name, patients in fixed.items():
        for patient in patients:
            if patient not in unique:
                raise UserError(f"patient '{patient}' named for {name} is not in the data ({', '.join(unique[:10])})")
            if membership.setdefault(patient, name) != name:
                raise UserError(f"patient '{patient}' is named for two lists")
    free = sorted(
        (s for s in unique if s not in membership), key=lambda s: hashlib.sha256(f"{seed}:{s}".encode()).hexdigest()
    )
    wanted_test = max(round(len(unique) * split.test_share) - len(split.test), 0)
    wanted_validation = round((len(unique) - wanted_test - len(split.test)) * split.validation_share)
    wanted_validation = max(wanted_validation - len(split.validation), 0)
    for rank, subject in enumerate(free):
        test = rank < wanted_test
        validation = rank < wanted_test + wanted_validation
        membership[subject] = "test" if test else "validation" if validation else "training"
    return membership


def _remove_unfinished(output: Path) -> None:
    """What a killed build, or a killed worker, has left half-written."""
    for folder in (output / "cases").glob(".*"):
        shutil.rmtree(folder)


def _build(job: tuple[CaseFiles, int], output: Path, options: PrepareOptions) -> PreparedCase | str:
    """One case, from disk if it is there already; the reason if it is rejected."""
    case, variant = job
    folder = output / "cases" / _folder_name(case, variant)
    stamp = _stamp(case, options)
    try:
        if (folder / STAMP_FILE).is_file() and (folder / STAMP_FILE).read_text() == stamp:
            prepared = read_case_file(folder / CASE_FILE)
        else:
            with atomic_folder(folder, marker=STAMP_FILE) as work:
                prepared = prepare_case(case, work, options, variant)
                (work / STAMP_FILE).write_text(stamp)
    except UserError as error:
        return str(error)
    place = folder.relative_to(output).as_posix()
    items = (
        replace(item, case=case.key, image=f"{place}/{item.image}", label=f"{place}/{item.label}")
        for item in prepared.items
    )
    return PreparedCase(prepared.spine, tuple(items))


def _stamp(case: CaseFiles, options: PrepareOptions) -> str:
    """What a case's files depend on; names and sizes of the inputs stand for their content."""
    files = [
        f"{path.name} {path.stat().st_size}" for path in (case.ct, case.mask, case.centroids) if path and path.exists()
    ]
    about = {
        key: str(value) for key, value in asdict(case).items() if key not in ("ct", "mask", "centroids", "variants")
    }
    # How many variants there are does not change any of them.
    return json.dumps([FORMAT, files, about, _options_to_json(replace(options, variants=0))], indent=1)


def _options_to_json(options: PrepareOptions) -> dict[str, Any]:
    values = json.loads(json.dumps(asdict(options), default=lambda value: np.asarray(value).tolist()))
    # These are younger than the first datasets, which are what they would be without them.
    if options.film == FilmOptions():
        del values["film"]
    if not values["variant_range"]["view_angle_error_deg"]:
        del values["variant_range"]["view_angle_error_deg"]
    return values


def _folder_name(case: CaseFiles, variant: int) -> str:
    return f"{case.key}~v{variant:02d}" if variant else case.key


def write_rejected(path: Path, rows: list[tuple[str, str]]) -> None:
    """``rejected.csv``: cases that could not be used, and why."""
    _write_csv(path, ["case", "reason"], rows)


def write_duplicates(path: Path, duplicates: list[Duplicate]) -> None:
    """``duplicates.csv``: scans that were released twice."""
    _write_csv(path, ["dropped", "kept", "subject"], [(d.dropped, d.kept, d.subject) for d in duplicates])


def _write_csv(path: Path, header: list[str], rows: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
