"""The engine's process: one that computes while the service answers, and that may die without taking it along.

The service names functions instead of importing them: it starts in a second, while the engine loads PyTorch.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from scripts.errors import UserError
from scripts.io.atomic import NO_ROOM
from scripts.jobs import end_with_parent

MOST_WAITING = 32
NOT_STORED = "the service's disk is full or does not take files: tell who runs it"


class EngineDiedError(Exception):
    """The process was killed on the way; the next call starts a new one."""


class EngineBusyError(Exception):
    """Too much is waiting."""


class Engine:
    """Runs functions one after the other in a process of its own.

    Args:
        package: whose functions it runs.
    """

    def __init__(self, package: str = "scripts.viewer") -> None:
        self.package = package
        self._pool: ProcessPoolExecutor | None = None
        self._waiting = 0

    async def call(self, function: str, *arguments: Any) -> Any:
        """The result of a function of the package, named as ``module.function``.

        Raises:
            UserError: the function's own.
            EngineDiedError: the process did.
            EngineBusyError: more than `MOST_WAITING` calls are waiting.
        """
        if self._waiting >= MOST_WAITING:
            raise EngineBusyError
        if self._pool is None:
            # A service that is killed leaves no engine behind, which would hold its memory for ever.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, end_with_parent, (os.getpid(),))
        pool = self._pool
        self._waiting += 1
        try:
            return await asyncio.wrap_future(pool.submit(_guarded, f"{self.package}.{function}", *arguments))
        except BrokenProcessPool as error:
            if self._pool is pool:
                self._pool = None
            raise EngineDiedError from error
        finally:
            self._waiting -= 1

    def pids(self) -> list[int]:
        """Of the process, if there is one."""
        return list(self._pool._processes) if self._pool is not None and self._pool._processes else []

    def stop(self) -> None:
        """End the process, whatever it is at: Python would wait for it at the end, and it may still be loading."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None


def _guarded(function: str, *arguments: Any) -> Any:
    """A foreseen error keeps its line; another one says no more than its kind, for its text may hold anything."""
    try:
        module, name = function.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)(*arguments)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise UserError(NOT_STORED) from error
        kind = type(error).__name__
        raise UserError(
            f"this could not be computed ({kind}); try other films or marks, or tell who runs the service"
        ) from error
