"""Outputs that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.errors import UserError


@contextmanager
def atomic_folder(final: Path, marker: str) -> Iterator[Path]:
    """A temporary folder that becomes ``final`` when the block ends well and vanishes when it does not.

    Args:
        final: where the folder shall be. An older result of the same kind there is replaced.
        marker: a file that every such result has; a folder without it is not ours and is left alone.

    Raises:
        UserError: ``final`` exists and is not such a result, or cannot be written.
    """
    if final.exists() and not (final / marker).is_file() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(f"{final}: exists and is no earlier result of this command; choose another --output")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise UserError(f"{final}: cannot be written ({error.strerror})") from error
    try:
        yield work
        work.chmod(0o755)
        if final.exists():
            old = work.with_name(work.name + ".old")
            final.rename(old)
            work.rename(final)
            shutil.rmtree(old)
        else:
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, replaced in one step; a failed write leaves the old file and nothing else."""
    replace_file(path, text.encode("utf-8"))


def replace_file(path: Path, content: bytes) -> None:
    """A file, replaced in one step; a failed write leaves the old file and nothing else."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
