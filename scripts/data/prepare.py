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
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scripts.data.cases import CaseFiles, find_cases
from scripts.data.vertebrae import CASE_FILE, PrepareOptions, VertebraItem, prepare_case
from scripts.errors import UserError
from scripts.geometry.film import FilmOptions
from scripts.io.atomic import atomic_folder, write_text
from scripts.levels import LEVEL_ORDER, level_number

SPLITS = ("training", "validation", "test")
STAMP_FILE = "built_from.txt"


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
    source: Path, output: Path, options: PrepareOptions, split: SplitOptions, workers: int = 1
) -> dict[str, int]:
    """Build a dataset; see the module's docstring.

    Args:
        source: folder or manifest; see `scripts.data.cases.find_cases`.
        output: the dataset's folder.
        options: what shapes the files.
        split: who goes where.
        workers: processes; each holds one case.

    Returns:
        number of vertebrae per list, and of rejected cases under ``rejected``.

    Raises:
        UserError: the source holds no case, or none that can be used.
    """
    cases = find_cases(source)
    if output.exists() and any(output.iterdir()) and not (output / "cases").is_dir():
        raise UserError(f"{output}: holds something that is no dataset; choose another --output")
    (output / "cases").mkdir(parents=True, exist_ok=True)
    membership = split_patients([case.subject for case in cases], split, options.seed)
    jobs = [
        (case, variant)
        for case in cases
        for variant in range(1 + _variants(case, options, membership[case.subject] == "training"))
    ]
    items: list[VertebraItem] = []
    rejected: list[tuple[str, str]] = []
    for case, variant, result in tqdm(_run(jobs, output, options, workers), total=len(jobs), desc="cases", unit="case"):
        if isinstance(result, str):
            rejected.append((_folder_name(case, variant), result))
        else:
            items += result
    items.sort(key=lambda i: (i.subject, i.series, LEVEL_ORDER.index(level_number(i.level))))
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, "excluded")}
    for item in items:
        lists["excluded" if item.excluded else membership[item.subject]].append(asdict(item))
    _write_rejected(output / "rejected.csv", sorted(rejected))
    if not items:
        raise UserError(f"{source}: no case could be used; {output / 'rejected.csv'} has the reasons")
    header = {
        "name": "vertebrae from biplanar radiographs",
        "tensorImageSize": "2D",
        "labels": {"0": "background", "1": "vertebra"},
        "options": _options_to_json(options),
    }
    write_text(output / "dataset.json", json.dumps({**header, **lists}, indent=1) + "\n")
    return {**{name: len(rows) for name, rows in lists.items()}, "rejected": len(rejected)}


def _variants(case: CaseFiles, options: PrepareOptions, trains: bool) -> int:
    wanted = options.variants if case.variants is None else case.variants
    return wanted if trains else 0


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


def _run(
    jobs: list[tuple[CaseFiles, int]], output: Path, options: PrepareOptions, workers: int
) -> Iterable[tuple[CaseFiles, int, list[VertebraItem] | str]]:
    if workers <= 1:
        for case, variant in jobs:
            yield case, variant, _build(case, variant, output, options)
        return
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pending: dict[Future[list[VertebraItem] | str], tuple[CaseFiles, int]] = {
            pool.submit(_build, case, variant, output, options): (case, variant) for case, variant in jobs
        }
        for future in as_completed(pending):
            yield *pending[future], future.result()


def _build(case: CaseFiles, variant: int, output: Path, options: PrepareOptions) -> list[VertebraItem] | str:
    """The items of one case, from disk if they are there already; the reason if it is rejected."""
    folder = output / "cases" / _folder_name(case, variant)
    stamp = _stamp(case, options)
    if (folder / STAMP_FILE).is_file() and (folder / STAMP_FILE).read_text() == stamp:
        rows = json.loads((folder / CASE_FILE).read_text())
        items = [VertebraItem(**{**row, "centroid_mm": tuple(row["centroid_mm"])}) for row in rows]
    else:
        try:
            with atomic_folder(folder, marker=STAMP_FILE) as work:
                items = prepare_case(case, work, options, variant)
                (work / STAMP_FILE).write_text(stamp)
        except UserError as error:
            return str(error)
    place = folder.relative_to(output).as_posix()
    return [replace(item, image=f"{place}/{item.image}", label=f"{place}/{item.label}") for item in items]


def _stamp(case: CaseFiles, options: PrepareOptions) -> str:
    """What a case's files depend on; names and sizes of the inputs stand for their content."""
    files = [
        f"{path.name} {path.stat().st_size}" for path in (case.ct, case.mask, case.centroids) if path and path.exists()
    ]
    about = {
        key: str(value) for key, value in asdict(case).items() if key not in ("ct", "mask", "centroids", "variants")
    }
    # How many variants there are does not change any of them.
    return json.dumps([files, about, _options_to_json(replace(options, variants=0))], indent=1)


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


def _write_rejected(path: Path, rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "reason"])
    writer.writerows(rows)
    write_text(path, text.getvalue())
