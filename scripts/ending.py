"""How a process that is asked to end leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_UNFINISHED: set[Path] = set()
# What a process has begun is not its children's to discard.
os.register_at_fork(after_in_child=_UNFINISHED.clear)


class EndedError(BaseException):
    """A signal asked the process to end; as with a keyboard interrupt, running work cleans up.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """A file or folder that is worth nothing if the process ends within the block."""
    _UNFINISHED.add(path)
    try:
        yield
    finally:
        _UNFINISHED.discard(path)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP raise an `EndedError` here and end worker processes, which discard what is unfinished.

    A signal that is ignored, as under nohup, stays so. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            # A pool's worker takes an exception for the job's result and goes on with the next.
            for path in list(_UNFINISHED):
                discard(path)
            os._exit(128 + number)
        signal.signal(number, signal.SIG_IGN)
        for child in multiprocessing.active_children():
            child.terminate()
        raise EndedError(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    caught = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def discard(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
