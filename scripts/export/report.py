"""What a reconstruction's ``report.json`` says that an export has to know: its films, and what each vertebra is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.films.options import VIEWS
from scripts.io.documents import read_json

# Of a short text (ST), which both objects have room for.
MOST_BYTES = 1024
# What needs no word; see `scripts.measure.status`, which stands above this package.
GOOD = "good"


def report_file(reconstruction: Path) -> Path:
    """The report of a reconstruction.

    Args:
        reconstruction: folder that ``reconstruct`` made.

    Raises:
        UserError: there is none.
    """
    file = reconstruction / "report.json"
    if not file.is_file():
        raise UserError(f"{reconstruction}: no reconstruction; name the --output folder of reconstruct")
    return file


def known_pixels(reconstruction: Path) -> dict[str, str]:
    """By view, ``ap`` or ``lat``, the SHA-256 of the stored pixels of the DICOM films that it was made from.

    Raises:
        UserError: there is no report, or it cannot be read.
    """
    films = _content(reconstruction).get("films")
    found: dict[str, Any] = {key: films.get(key) for key in VIEWS} if isinstance(films, dict) else {}
    return {key: str(film["pixels_sha256"]) for key, film in found.items() if _says(film, "pixels_sha256")}


def judgements(reconstruction: Path) -> dict[str, str]:
    """By level, what a vertebra is not good for and why; without those that are good.

    Raises:
        UserError: there is no report, or it cannot be read.
    """
    rows = _content(reconstruction).get("vertebrae")
    judged = {}
    for row in rows if isinstance(rows, list) else []:
        if _says(row, "level") and _says(row, "use") and row["use"] != GOOD:
            reasons = row.get("reasons")
            why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""
            judged[str(row["level"])] = f"{row['use']}: {why}" if why else str(row["use"])
    return judged


def shortened(text: str) -> str:
    """A text no longer than an object has room for: validators count its bytes in UTF-8."""
    data = text.encode()
    return text if len(data) <= MOST_BYTES else f"{data[: MOST_BYTES - 3].decode(errors='ignore')}..."


def _content(reconstruction: Path) -> dict[str, Any]:
    content = read_json(report_file(reconstruction))
    return content if isinstance(content, dict) else {}


def _says(row: Any, key: str) -> bool:
    return isinstance(row, dict) and bool(row.get(key))
