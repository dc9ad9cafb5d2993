"""Outputs that are there whole or not at all.

What is being written has a hidden name beside its place, ``.NAME.xxxxxxxx.part``, and is locked as long as its process
lives. So the next process that writes there recognises what a killed one left, and removes it. Symbolic links are
followed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from scripts.ending import discard, unfinished
from scripts.errors import UserError
from scripts.io.locks import lock, make_locked

PART, OLD, LONGEST_NAME = ".part", ".old.part", 60
# A file system without room, or one that does not take anything; whatever library met it.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
FULL_BYTES = 2**20


class NoRoomError(UserError):
    """The disk is full or takes nothing: no other file can be written there either."""


@contextmanager
def atomic_folder(final: Path, marker: str) -> Iterator[Path]:
    """A temporary folder that becomes ``final`` when the block ends well and vanishes when it does not.

    Args:
        final: where the folder is to be. An older result of the same kind there is replaced.
        marker: a file that every such result has; a folder without it is not ours and is left alone.

    Raises:
        UserError: ``final`` is something else than an earlier result or cannot be written, or the disk is full.
    """
    with (
        _place_of_folder(final, marker) as (target, mounted),
        _errors_naming(final),
        _temporary(tempfile.mkdtemp, target, mounted) as work,
    ):
        yield work
        work.chmod(0o755)
        if mounted:
            # What is mounted cannot be replaced, but what is in it can.
            for path in target.iterdir():
                if path != work:
                    discard(path)
            for path in sorted(work.iterdir(), key=lambda p: marker.startswith(p.name)):
                path.rename(target / path.name)
        elif target.exists():
            old = work.with_name(work.name.removesuffix(PART) + OLD)
            with ExitStack() as stack:
                # Locked, so that no other process takes the old one for a leftover; so does a lock held elsewhere.
                with suppress(BlockingIOError):
                    stack.callback(os.close, lock(target))
                target.rename(old)
                work.rename(target)
                shutil.rmtree(old)
        else:
            work.rename(target)


def check_folder(final: Path, marker: str, free_bytes: int = 0) -> None:
    """Refuse, before a long computation, where `atomic_folder` could not write.

    Args:
        final: where the folder is to be; an older result of the same kind may be there.
        marker: a file that every such result has.
        free_bytes: that the disk should have free.

    Raises:
        UserError: ``final`` exists and is not such a result, is the working directory, or cannot be written.
    """
    with (
        _place_of_folder(final, marker) as (target, mounted),
        _errors_naming(final, always=True),
        _temporary(tempfile.mkdtemp, target, mounted) as work,
    ):
        free = shutil.disk_usage(work).free
    if free < free_bytes:
        raise UserError(
            f"{final}: cannot be written (the disk has {free / 2**20:.0f} MB free, {free_bytes / 2**20:.0f} MB are "
            "needed); make room or choose another place"
        )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file to write, that replaces ``path`` in one step; a failed write leaves the old file and no other.

    Raises:
        UserError: ``path`` is a folder or a device, its folder cannot be written, or the disk is full.
    """
    target = _place_of_file(path)
    with _errors_naming(path), _temporary(_make_file, target) as work:
        yield work
        work.chmod(0o644)
        os.replace(work, target)


def check_file(path: Path) -> None:
    """Refuse, before a long computation, where `atomic_path` could not write; missing folders may be made later.

    Raises:
        UserError: it is a folder or a device, or its folder cannot be written.
    """
    with _errors_naming(path, always=True), _folders(Path(os.path.realpath(path)).parent):
        target = _place_of_file(path)
        with _temporary(_make_file, target):
            pass


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write, that replaces ``path`` in one step when the block ends well."""
    with atomic_path(path) as work, work.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """Write a whole text or nothing: a reader never sees half of it."""
    with atomic_file(path) as stream:
        stream.write(text)


@contextmanager
def _place_of_folder(final: Path, marker: str) -> Iterator[tuple[Path, bool]]:
    """Where a folder is or will be, and whether a file system is mounted there."""
    target = _followed(final)
    with ExitStack() as stack:
        with _errors_naming(final, always=True):
            mounted = os.path.ismount(target)
            parent = target if mounted else target.parent
            stack.enter_context(_folders(parent))
            _clear(parent, target)
            ours = (target / marker).is_file() or (target.is_dir() and not any(target.iterdir()))
            if target.exists() and not ours:
                raise UserError(f"{final}: exists and is no earlier result of this command; choose another --output")
            if not mounted and target.exists() and Path.cwd().is_relative_to(target):
                raise UserError(f"{final}: is the folder that this command runs in; choose another --output")
        yield target, mounted


def _place_of_file(path: Path) -> Path:
    target = _followed(path)
    with _errors_naming(path, always=True):
        if target.exists() and not target.is_file():
            raise UserError(f"{path}: is a {'folder' if target.is_dir() else 'device'} where a file is due")
        _clear(target.parent, target)
    return target


def _followed(path: Path) -> Path:
    """Where a path leads, links followed, whether or not there is anything."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise UserError(f"{path}: is a symbolic link that leads back to itself; choose another place")
    return target


@contextmanager
def _folders(folder: Path) -> Iterator[None]:
    """A folder with its parents; those that were made for nothing go again."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


@contextmanager
def _temporary(make: Callable[[str, str, Path], str], target: Path, inside: bool = False) -> Iterator[Path]:
    """A new file or folder beside or inside its target, locked, and gone after the block if it is still there."""
    path, handle = make_locked(lambda: make(PART, _prefix(target), target if inside else target.parent))
    try:
        with unfinished(path):
            yield path
    finally:
        discard(path)
        os.close(handle)


def _clear(parent: Path, target: Path) -> None:
    """Remove what killed processes left of a file or folder; an old one that they were replacing comes back."""
    prefix = _prefix(target)
    left = [parent / name for name in os.listdir(parent) if name.startswith(prefix) and name.endswith(PART)]
    for path in left:
        with suppress(OSError):
            handle = lock(path)
            if path.name.endswith(OLD) and not target.exists() and len(target.name) <= LONGEST_NAME:
                path.rename(target)
            else:
                discard(path)
            os.close(handle)


def _prefix(target: Path) -> str:
    """How names of temporary files for ``target`` begin, shortened to leave room for the rest of the name."""
    return f".{target.name[:LONGEST_NAME]}."


def _make_file(suffix: str, prefix: str, folder: Path) -> str:
    handle, name = tempfile.mkstemp(suffix, prefix, folder)
    os.close(handle)
    return name


@contextmanager
def _errors_naming(path: Path, always: bool = False) -> Iterator[None]:
    """What the system says against writing, as a line that names the user's own path."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        # PyTorch hides what the system said behind an error of its own, which does not say it.
        error = raised if isinstance(raised, OSError) else raised.__context__
        hidden = error is not raised
        if not isinstance(error, OSError) or (hidden and error.errno not in NO_ROOM):
            raise
        target = Path(os.path.realpath(path)).parent
        # Some libraries say only that a write failed.
        full = target.is_dir() and shutil.disk_usage(target).free < FULL_BYTES
        if not (always or full or error.errno in NO_ROOM):
            raise
        reason = os.strerror(errno.ENOSPC) if full else error.strerror or str(error)
        remedy = "make room or choose another place" if full or error.errno in NO_ROOM else "choose another place"
        kind = NoRoomError if full or error.errno in NO_ROOM else UserError
        raise kind(f"{path}: cannot be written ({reason}); {remedy}") from raised
