"""SHA-256 of the files of a release: `scripts.release` writes the list, and weights are checked before loading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.errors import UserError

LIST = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum_lines(folder: Path, names: Iterable[str]) -> str:
    """The list of some files of a folder, as ``sha256sum --check`` reads it."""
    return "".join(f"{sha256(folder / name)}  {name}\n" for name in sorted(names))


def read_checksums(folder: Path) -> dict[str, str]:
    """File name, relative to the folder -> digest.

    Raises:
        UserError: the folder has no such list, or a damaged one.
    """
    path = folder / LIST
    try:
        rows = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable list of checksums") from error
    if not rows or any(len(row) != 2 or len(row[0]) != 64 for row in rows):
        raise UserError(f"{path}: damaged list of checksums; download the release again")
    return {name: digest for digest, name in rows}


def changed_files(folder: Path) -> list[str]:
    """What differs from the folder's list: one line a file that is missing, truncated or changed."""
    lines = []
    for name, digest in read_checksums(folder).items():
        if not (folder / name).is_file():
            lines.append(f"{name}: missing")
        elif sha256(folder / name) != digest:
            lines.append(f"{name}: not as released (SHA-256 differs)")
    return lines


def check_released(path: Path) -> None:
    """Refuse a file of a released bundle that is not as released; other files pass.

    A development tree has no list and checks nothing; nor is a file checked that the list does not name.

    Raises:
        UserError: names the file.
    """
    path = path.resolve()
    for folder in path.parents:
        if (folder / LIST).is_file() and (folder / "configs" / "metadata.json").is_file():
            digest = read_checksums(folder).get(path.relative_to(folder).as_posix())
            if digest is not None and sha256(path) != digest:
                raise UserError(
                    f"{path}: not as released (SHA-256 differs): truncated, damaged or changed; download it again"
                )
            return


class ReleasedFile:
    """`check_released` as a handler, for configs that load weights: it asks when it is attached, before any run.

    Args:
        path: the file to be loaded by a later handler.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def attach(self, engine: Any) -> None:
        """Check now; nothing is left to do in the engine."""
        if self.path.is_file():
            check_released(self.path)
