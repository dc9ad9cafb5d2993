"""Locks by which processes keep out of each other's files; they end with their process, and leave no file behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.errors import UserError


def make_locked(make: Callable[[], str]) -> tuple[Path, int]:
    """A new file or folder that no other process takes for left behind.

    Args:
        make: it; its path.

    Returns:
        its path, and the handle that locks it until it is closed or the process ends.
    """
    while True:
        path = Path(make())
        # Between the making and the lock another process may have taken it for left behind.
        with suppress(FileNotFoundError, BlockingIOError):
            handle = lock(path)
            if path.exists():
                return path, handle
            os.close(handle)


def lock(path: Path) -> int:
    """A handle that keeps others from taking a path for left behind; a file system without locks is trusted.

    Raises:
        BlockingIOError: another process has it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        pass
    return handle


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
