"""What the page says of the films that were chosen, checked."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.films.options import VIEWS, quarters

FILES = (*VIEWS, "annotations", "geometry")


def chosen_files(sent: Any, known: Collection[str]) -> dict[str, str]:
    """The files that a request names.

    Args:
        sent: by the page: ``ap``, ``lat`` and, if there are any, ``annotations`` and ``geometry``.
        known: names of the files that were sent before.

    Raises:
        UserError: one is missing, unknown or there twice.
    """
    named = {key: sent.get(key) for key in FILES if sent.get(key)} if isinstance(sent, dict) else {}
    if not {*VIEWS} <= set(named):
        raise UserError("choose both films, a frontal and a lateral one")
    files = {key: str(name) for key, name in named.items()}
    if not set(files.values()) <= set(known) or len(set(files.values())) < len(files):
        raise UserError("one of the chosen files is not there, or chosen twice; drop the films again")
    return files


def reading_options(sent: dict[str, Any]) -> dict[str, Any]:
    """How the films are to be read, as `scripts.viewer.case.open_case` takes it.

    Args:
        sent: by the page: ``spacing`` (AP, LAT; None where the file's is used), ``turn``, ``mirror``, ``invert``.

    Raises:
        UserError: they are no such options.
    """
    try:
        spacing = [None if value is None else float(value) for value in sent.get("spacing") or (None, None)]
        turn = quarters([float(value) for value in sent.get("turn") or (0, 0)])
        words = {key: [view for view in VIEWS if view in (sent.get(key) or ())] for key in ("mirror", "invert")}
        ap, lat = spacing
    except (ValueError, TypeError) as error:
        raise UserError("the options of the films cannot be read") from error
    return {"spacing": [ap, lat], "turn": list(turn), **words}


def put_in_place(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """The chosen files also under the names that a case has for them; those of an earlier choice go.

    Args:
        folder: of the files.
        files: ``ap``, ``lat`` ... -> name in the folder.

    Returns:
        the same with the new names.
    """
    for path in list(folder.iterdir()):
        if path.name.split(".")[0] in FILES:
            path.unlink()
    placed = {}
    for key, name in files.items():
        placed[key] = f"{key}{name[len(name.split('.')[0]) :]}"
        os.link(folder / name, folder / placed[key])
    return placed


def drop_others(folder: Path, names: Collection[str]) -> None:
    """Delete what was sent and not chosen, and all that was made for choosing.

    Args:
        folder: of the files.
        names: that were sent.
    """
    for name in names:
        for path in (folder / name, picture_file(folder, name)):
            path.unlink(missing_ok=True)


def picture_file(folder: Path, what: str) -> Path:
    """What the page shows of a film; never the name of a file that was sent.

    Args:
        folder: of the case.
        what: ``ap``, ``lat``, or the name of a file.
    """
    return folder / f"{what}.shown"
