"""Outputs that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write, replaced in one step; a failed write leaves the old file and nothing else."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole text or nothing: a reader never sees half of it."""
    with atomic_file(path) as stream:
        stream.write(text)


@contextmanager
def only_writer(folder: Path, patience_s: float = 10.0) -> Iterator[None]:
    """Keep a second process from writing into the same folder; no file is left behind.

    Forked workers share the hold, so that it ends with the last of them and not with a killed parent. A file system
    without locks is trusted.

    Args:
        folder: an existing one.
        patience_s: how long to wait for another process to end.

    Raises:
        UserError: another process still writes there.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(max(round(patience_s / 0.2), 1)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.2)
            except OSError:
                break
            else:
                break
        else:
            raise UserError(f"{folder}: another process is writing there; wait for it or choose another --output")
        yield
    finally:
        os.close(handle)
