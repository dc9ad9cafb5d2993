"""The verb ``prepare``: CT cases in, a prepared dataset out.

A dataset is ``dataset.json`` (a MONAI datalist with ``training``, ``validation`` and ``test``, and under ``excluded``
what is in no list and why), ``rejected.csv`` (cases that could not be used), ``warnings.csv`` (what was assumed about
others) and one folder a case under ``cases/``.
The same input gives the same bytes, and a stopped build goes on where it was. As soon as it replaces a case of an
earlier build, the earlier ``dataset.json`` is put aside.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from scripts.data.building import OUTDATED_FILE, BuildJob, build_case, folder_name, options_to_json
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.datalist import ALL_LISTS, LISTS_FILE, write_datalist
from scripts.data.doubtful_names import doubtful_patients
from scripts.data.duplicates import merge_releases, names_of
from scripts.data.items import VertebraItem
from scripts.data.split import SplitOptions, split_truth
from scripts.data.statistics import write_statistics
from scripts.data.subset import SpineRecord, SubsetOptions, check_lists, why_dropped, write_subset
from scripts.data.vertebrae import CASE_FILE, PrepareOptions, read_case_file
from scripts.errors import UserError
from scripts.io.locks import only_writer
from scripts.io.tables import write_csv
from scripts.jobs import run_jobs

# Jobs in, each with its result out, in any order.
Runner = Callable[[Iterable[BuildJob]], Iterator[tuple[BuildJob, SpineRecord | str | Exception]]]


@dataclass(frozen=True)
class Built:
    """What lies on the disk once all cases are done; the vertebrae themselves stay there, they may be millions.

    Args:
        spines: that could be used, in the order of their keys.
        dropped: case -> why it is not in the subset; empty if it is.
        membership: patient -> list, of those who have a vertebra for one.
        folders: under ``cases/``, in the order of patients, series, variants.
        rejected: folder and reason of the others.
    """

    spines: list[SpineRecord]
    dropped: dict[str, str]
    membership: dict[str, str]
    folders: list[str]
    rejected: list[tuple[str, str]]


def prepare_dataset(
    source: Path | str,
    output: Path,
    options: PrepareOptions,
    split: SplitOptions,
    workers: int = 1,
    subset: SubsetOptions | None = None,
    scheduler: str = "",
    labels: str = "",
) -> dict[str, int]:
    """Build a dataset: ``dataset.json``, ``rejected.csv`` and one folder a case; a stopped build goes on.

    Args:
        source: folder of CTs with labelmaps, manifest (``.json``), or several with commas between them.
        output: the dataset's folder.
        options: what shapes the files.
        split: who goes where.
        workers: processes; each holds one case.
        subset: which spines to take, all if None.
        scheduler: address of a Dask scheduler whose workers do the work instead.
        labels: numbering of the masks, a key of `scripts.levels.LABEL_MAPS`; empty to find it out for each.

    Returns:
        number of vertebrae per list, of cases under ``rejected``, of ``warnings``, and of scans left out under
        ``released twice``.

    Raises:
        UserError: the source holds no case, or none that can be used; the output cannot be written.
    """
    found = find_cases(source, labels)
    cases, duplicates = merge_releases(found)
    split = split.renamed(names_of(found, cases, duplicates))
    if output.exists() and any(output.iterdir()) and not (output / "cases").is_dir():
        raise UserError(f"{output}: holds something that is no dataset; choose another --output")
    output = output.absolute()
    (output / "cases").mkdir(parents=True, exist_ok=True)
    subset = subset or SubsetOptions()
    function = partial(build_case, output=output, options=options)
    with only_writer(output / "cases"):
        _remove_unfinished(output)
        try:
            run = partial(run_jobs, function, workers=workers, scheduler=scheduler)
            built = _build(cases, options, split, subset, run)
        finally:
            _remove_unfinished(output)
        write_csv(output / "rejected.csv", ["case", "reason"], built.rejected)
        doubts = doubtful_patients(cases)
        notes = [(spine.case, note) for spine in built.spines for note in _notes(spine, built.dropped, doubts)]
        write_csv(output / "warnings.csv", ["case", "warning"], notes)
        if not built.spines:
            raise UserError(f"{source}: no case could be used; {output / 'rejected.csv'} has the reasons")
        write_csv(output / "duplicates.csv", ["dropped", "kept", "subject"], map(astuple, duplicates))
        write_subset(output / "subset.csv", built.spines, subset)
        write_statistics(output, built.spines, subset)
        if all(built.dropped.values()):
            reasons = output / "subset.csv"
            raise UserError(f"{source}: no spine is left in --subset {subset.subset}; {reasons} has the reasons")
        header = {
            "name": "vertebrae from biplanar radiographs",
            "tensorImageSize": "2D",
            "labels": {"0": "background", "1": "vertebra"},
            "subset": subset.subset,
            "options": options_to_json(options),
        }
        rows = _rows(output, built, subset)
        counts = write_datalist(output / LISTS_FILE, header, ALL_LISTS, rows)
        (output / OUTDATED_FILE).unlink(missing_ok=True)
    return {**counts, "rejected": len(built.rejected), "warnings": len(notes), "released twice": len(duplicates)}


def _build(
    cases: list[CaseFiles], options: PrepareOptions, split: SplitOptions, subset: SubsetOptions, run: Runner
) -> Built:
    # Before any work: names that no patient has.
    check_lists({case.key for case in cases}, subset)
    fitted = {case.subject for case in cases if case.label_origin}
    split_truth([case.subject for case in cases], fitted, split, options.seed)
    rejected: list[tuple[str, str]] = []

    def build(jobs: Iterable[BuildJob], total: int, name: str) -> Iterator[tuple[str, SpineRecord]]:
        for (case, variant), result in tqdm(run(jobs), total=total, desc=name, unit="case"):
            folder = folder_name(case, variant)
            if isinstance(result, SpineRecord):
                yield folder, result
            else:
                rejected.append((folder, str(result)))

    spines = sorted((s for _, s in build(((c, 0) for c in cases), len(cases), "cases")), key=lambda s: s.case)
    dropped = {spine.case: "; ".join(why_dropped(spine, subset)) for spine in spines}
    # Who has no vertebra for a list takes no place in one.
    kept = {spine.subject for spine in spines if not dropped[spine.case] and spine.usable}
    membership = split_truth(kept, fitted & kept, split.among(kept), options.seed)
    train = {s.case for s in spines if not dropped[s.case] and membership.get(s.subject) == "training"}
    wanted = [(c, options.variants if c.variants is None else c.variants) for c in cases if c.key in train]
    total = sum(count for _, count in wanted)
    # Variants come after the series that they are of.
    order = [(s.subject, s.series, s.case) for s in spines]
    if total:
        variants = ((case, variant) for case, count in wanted for variant in range(1, 1 + count))
        made = build(variants, total, "variants")
        order += [(s.subject, s.series + folder.removeprefix(s.case), folder) for folder, s in made]
    return Built(spines, dropped, membership, [folder for _, _, folder in sorted(order)], sorted(rejected))


def _notes(spine: SpineRecord, dropped: dict[str, str], doubts: dict[str, str]) -> Iterator[str]:
    """What the user should know about a case that was used."""
    yield from spine.notes
    if spine.case in doubts:
        yield doubts[spine.case]
    if not (spine.usable or dropped[spine.case]):
        yield f"none of its vertebrae can be in a list; {LISTS_FILE} says why, under excluded"


def _rows(output: Path, built: Built, subset: SubsetOptions) -> Iterator[tuple[str, VertebraItem]]:
    """Every vertebra, its paths relative to the dataset, with the list that it belongs to."""
    for folder in built.folders:
        prepared = read_case_file(output / "cases" / folder / CASE_FILE)
        why_not = built.dropped[prepared.spine.case]
        for item in prepared.items:
            placed = replace(
                item,
                case=prepared.spine.case,
                image=f"cases/{folder}/{item.image}",
                label=f"cases/{folder}/{item.label}",
                excluded=f"not in VerSe-{subset.subset}: {why_not}" if why_not else item.excluded,
            )
            yield "excluded" if placed.excluded else built.membership[item.subject], placed


def _remove_unfinished(output: Path) -> None:
    """What a killed build, or a killed worker, has left half-written."""
    for folder in (output / "cases").glob(".*"):
        shutil.rmtree(folder, ignore_errors=True)
