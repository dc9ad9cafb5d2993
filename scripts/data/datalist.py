"""``dataset.json``, MONAI's datalist: read, and written row by row, so that its length costs no memory."""

from __future__ import annotations

import json
import shutil
import tempfile
import textwrap
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from scripts.data.items import VertebraItem
from scripts.errors import UserError
from scripts.io.atomic import atomic_file
from scripts.io.documents import read_json

LISTS_FILE = "dataset.json"
# To train with, to choose the network by, to measure it with; the last list of a file is what is in none of them.
LISTS = ("training", "validation", "test")
ALL_LISTS = (*LISTS, "excluded")


def write_datalist(
    path: Path, header: dict[str, Any], names: tuple[str, ...], rows: Iterable[tuple[str, VertebraItem]]
) -> dict[str, int]:
    """A JSON object: the header's entries, then the lists; as `json.dumps` with ``indent=1`` would write it.

    Args:
        path: the file.
        header: first entries, not empty.
        names: of the lists, in their order.
        rows: name of its list and item, in the order of the lists to be written.

    Returns:
        number of items per list.
    """
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        parts: dict[str, TextIO] = {
            name: stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)) for name in names
        }
        for name, item in rows:
            values = asdict(item)
            for rare in ("along_spine", "label_origin", "no_mark"):
                if not values[rare]:
                    del values[rare]
            text = textwrap.indent(json.dumps(values, indent=1, allow_nan=False), "  ")
            parts[name].write(f"{',' if counts[name] else ''}\n{text}")
            counts[name] += 1
        with atomic_file(path) as stream:
            stream.write(json.dumps(header, indent=1, allow_nan=False).removesuffix("\n}"))
            for name, part in parts.items():
                stream.write(f",\n {json.dumps(name)}: [")
                part.seek(0)
                shutil.copyfileobj(part, stream)
                stream.write("\n ]" if counts[name] else "]")
            stream.write("\n}\n")
    return counts


def read_datalist(dataset: Path, data_list: str) -> list[dict[str, Any]]:
    """The items of one list of a prepared dataset.

    Args:
        dataset: folder made by prepare.
        data_list: training, validation, test or excluded.

    Raises:
        UserError: no dataset, no such list, or an empty one; or one of a version that said otherwise how it was cut.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "dataset.json").write_text('{"test": [{"subject": "p1", "level": "L1"}]}')
    ...     read_datalist(Path(folder), "test")
    [{'subject': 'p1', 'level': 'L1'}]
    """
    return list_of(read_document(dataset), dataset, data_list)


def list_of(document: dict[str, Any], dataset: Path, data_list: str) -> list[dict[str, Any]]:
    """The items of one list of a dataset's document; a `UserError` where the list is missing, empty or outdated."""
    items = document.get(data_list) if isinstance(document, dict) else None
    if items and not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise UserError(f"{dataset / 'dataset.json'}: its list '{data_list}' is no list of items")
    if not items:
        raise UserError(f"{dataset / 'dataset.json'}: its list '{data_list}' is empty or missing")
    if any("rays" in item for item in items):
        raise UserError(f"{dataset / 'dataset.json'}: prepared by an older version; prepare it anew")
    return items


def read_document(dataset: Path) -> dict[str, Any]:
    """All lists of a prepared dataset.

    Raises:
        UserError: no dataset, or one that cannot be read.
    """
    path = dataset / LISTS_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; is {dataset} a prepared dataset?")
    return read_json(path)


def truth_only(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, if all their labels are truth.

    Raises:
        UserError: some are fitted shapes (`scripts.data.labelling`): no accuracy is measured on them.
    """
    fitted = sorted({item["subject"] for item in items if item.get("label_origin")})
    if fitted:
        raise UserError(f"labels of {', '.join(fitted[:5])} are fitted shapes, no truth: nothing is measured on them")
    return items


def size_in_words(vertebrae: int, patients: int) -> str:
    """How large a list is.

    >>> size_in_words(13, 1), size_in_words(1, 2)
    ('13 vertebrae of 1 patient', '1 vertebra of 2 patients')
    """
    return f"{vertebrae} {'vertebra' if vertebrae == 1 else 'vertebrae'} of {patients} patient{'s' * (patients != 1)}"


def spine_name(item: dict[str, Any]) -> str:
    """The folder of one pair of films; variants of a patient have their own."""
    return str(PurePosixPath(item["label"]).parent)
