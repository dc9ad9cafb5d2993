"""One case built into its folder, or found there: the step that is repeated, resumed and spread over machines."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from scripts.anatomy.landmarks import landmarks_beside
from scripts.data.cases import CaseFiles
from scripts.data.datalist import LISTS_FILE, read_document, spine_name
from scripts.data.numbering import name_files
from scripts.data.subset import SpineRecord
from scripts.data.vertebrae import CASE_FILE, PrepareOptions, prepare_case, read_case_file
from scripts.errors import UserError
from scripts.geometry.film import FilmOptions
from scripts.io.atomic import NoRoomError, atomic_folder
from scripts.io.documents import plain

# A case and the number of its variant; 0 for the patient as scanned.
BuildJob = tuple[CaseFiles, int]
STAMP_FILE = "built_from.txt"
# A build that is stopped halfway leaves the second and not the first: no dataset, for those that read one.
OUTDATED_FILE = f"{LISTS_FILE}.outdated"
# Of the files of a case; a change rebuilds them.
FORMAT = 8


def build_case(job: BuildJob, output: Path, options: PrepareOptions) -> SpineRecord | str:
    """The spine of one case, from disk if it is there already; the reason if it is rejected.

    Args:
        job: what to build.
        output: the dataset's folder; its ``cases/`` exists.
        options: what shapes the files.

    Raises:
        UserError: the output cannot be written, so that there is no use in going on.
    """
    if not (output / "cases").is_dir():
        raise UserError(f"{output}: not there for this worker; all workers must see the same files")
    case, variant = job
    folder = output / "cases" / folder_name(case, variant)
    try:
        stamp = stamp_of(case, options)
        if (folder / STAMP_FILE).is_file() and (folder / STAMP_FILE).read_text() == stamp:
            return read_case_file(folder / CASE_FILE).spine
        with atomic_folder(folder, marker=STAMP_FILE) as work:
            prepared = prepare_case(case, work, options, variant)
            (work / STAMP_FILE).write_text(stamp)
            if folder.exists():
                withdraw(output)
        return prepared.spine
    except NoRoomError as error:
        # Every other case would have it too.
        raise UserError(f"{error}, then start again: what is done stays") from error
    except UserError as error:
        return str(error)
    except Exception as error:
        # Whatever a strange file brings about, it costs that case and not the others.
        return f"unexpected {type(error).__name__}: {error}"


def withdraw(output: Path) -> None:
    """Put a dataset's lists aside, because a case that they name is about to be replaced: they say what it was."""
    # Another worker may have done it.
    with suppress(FileNotFoundError):
        (output / LISTS_FILE).replace(output / OUTDATED_FILE)


def stamp_of(case: CaseFiles, options: PrepareOptions) -> str:
    """What a case's files depend on; names and digests of the inputs stand for their content."""
    stamp = {"format": FORMAT, **inputs_of(case), "options": options_to_json(replace(options, variants=0))}
    return json.dumps(stamp, indent=1)


def inputs_of(case: CaseFiles) -> dict[str, Any]:
    """The part of a stamp that a case's own files and description make."""
    inputs = [case.ct, case.mask, case.centroids]
    if case.mask:
        inputs += [*name_files(case.mask), landmarks_beside(case.mask)]
    files = [f"{file.name} {_digest(file)}" for path in inputs if path and path.exists() for file in _files(path)]
    # Where the files lie does not change what is made of them, nor how many variants there are any of these.
    elsewhere = ("ct", "mask", "centroids", "release", "variants", "problem")
    return {"files": files, "case": {key: str(v) for key, v in asdict(case).items() if key not in elsewhere}}


def read_stamp(folder: Path) -> dict[str, Any]:
    """The stamp of a case's folder: its ``files``, ``case`` and ``options``.

    Raises:
        UserError: it has none, or one of an older version.
    """
    try:
        stamp = json.loads((folder / STAMP_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: is no case that prepare made ({error})") from error
    if not isinstance(stamp, dict) or stamp.get("format") != FORMAT:
        raise UserError(f"{folder}: prepared by another version; prepare the dataset anew")
    return stamp


def dataset_digest(dataset: Path) -> str:
    """SHA-256 of what a dataset holds: its lists, and what each of its cases was made from.

    Args:
        dataset: made by ``prepare``, or a mixed list that points to such.

    Raises:
        UserError: no dataset, or one that cannot be read.
    """
    document = read_document(dataset)
    digest = hashlib.sha256((dataset / LISTS_FILE).read_bytes())
    lists = (items for items in document.values() if isinstance(items, list))
    for name in sorted({spine_name(item) for items in lists for item in items if "label" in item}):
        stamp = dataset / name / STAMP_FILE
        digest.update(f"\n{name}\n{stamp.read_text() if stamp.is_file() else 'no stamp'}".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """A file, or those of a folder of surfaces."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    try:
        about = path.stat()
        return _digest_of(path, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    except OSError:
        # Who reads it to use it says why; the stamp only has to differ from that of a file that can be read.
        return "unreadable"


@lru_cache(maxsize=64)  # variants have the files of their patient
def _digest_of(path: Path, *_state: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def options_to_json(options: PrepareOptions) -> dict[str, Any]:
    """The options as ``dataset.json`` and the stamps contain them."""
    values = plain(asdict(options))
    # These are younger than the first datasets, which are what they would be without them.
    if options.film == FilmOptions():
        del values["film"]
    if not values["variant_range"]["view_angle_error_deg"]:
        del values["variant_range"]["view_angle_error_deg"]
    if not options.along_spine:
        del values["along_spine"]
    return values


def folder_name(case: CaseFiles, variant: int) -> str:
    """The folder of a case, or of a variant of it, under ``cases/``."""
    return f"{case.key}~v{variant:02d}" if variant else case.key
