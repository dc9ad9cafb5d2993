"""What requests hold, checked, and files as answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse

from scripts.errors import UserError
from scripts.io.documents import SMALL_BYTES, parse_json
from scripts.levels import LEVEL_NUMBERS


class NotFoundError(Exception):
    """No such case, level or file, or it belongs to another browser."""


async def sent_json(request: Request, what: str) -> Any:
    """The small document that a request holds; a large one is not even received.

    Args:
        request: of a length that the guard has seen.
        what: it is, for errors.

    Raises:
        UserError: it is too large, or not JSON.
    """
    if int(request.headers["content-length"]) > SMALL_BYTES:
        raise UserError(f"{what}: larger than {SMALL_BYTES // 2**20} MB")
    return parse_json(await request.body(), what)


def level_in_path(name: str) -> str:
    """A vertebra's name that is part of an address.

    Raises:
        NotFoundError: no vertebra has this name.
    """
    if name not in LEVEL_NUMBERS:
        raise NotFoundError
    return name


def sent_levels(body: Any) -> list[str]:
    """The vertebrae that a request names, each once.

    Args:
        body: a document with ``levels``.

    Raises:
        UserError: it names none, or one that does not exist.
    """
    levels = body.get("levels") if isinstance(body, dict) else None
    if not isinstance(levels, list) or not levels or not all(isinstance(n, str) and n in LEVEL_NUMBERS for n in levels):
        raise UserError("'levels' is a list of vertebra names, such as T12")
    return list(dict.fromkeys(levels))


def stored_file(path: Path, kind: str, name: str | None = None) -> FileResponse:
    """A file of a case.

    Args:
        path: of it.
        kind: its media type.
        name: under which it is to be saved; None if it is to be shown.

    Raises:
        NotFoundError: it is not there.
    """
    if not path.is_file():
        raise NotFoundError
    return FileResponse(path, media_type=kind, filename=name)
