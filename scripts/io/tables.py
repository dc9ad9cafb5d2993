"""Tables as files: CSV in one step and back, and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.io.atomic import write_text


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV file with a header, whole or not at all.

    Args:
        path: of the file.
        columns: names.
        rows: their cells, in the order of the columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header: column -> cell."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a Markdown table.

    >>> markdown_table(["level", "Dice"], [["L1", 0.9]])
    ['| level | Dice |', '| --- | --- |', '| L1 | 0.9 |']
    """
    lines = [_line(columns), "|" + " --- |" * len(columns)]
    return [*lines, *map(_line, rows)]


def _line(cells: Iterable[object]) -> str:
    texts = (str(cell).replace("|", "/") for cell in cells)
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)
