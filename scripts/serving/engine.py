"""The engine's process: one that computes while the service answers, and that may die without taking it along.

The service names functions instead of importing them: it starts in a second, while the engine loads PyTorch. Files of
any origin are read there and not in the service: a process that a file has caught is killed after a time, and the next
call starts another.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.io.atomic import NO_ROOM, NoRoomError
from scripts.jobs import end_with_parent

MOST_WAITING = 32
LIMIT_S = 900.0
# Loading PyTorch and the networks, on a busy machine.
START_S = 300.0
NOT_STORED = "the service's disk is full or does not take files: tell who runs it"
QueueWatcher = Callable[[int], None]


class EngineError(Exception):
    """It lies with the engine and not with what it was given; the call may be made again.

    Args:
        what: was asked for, to be named in the line.
    """

    reason = "the engine failed"

    def __init__(self, what: str = "") -> None:
        self.what = what
        super().__init__(f"{what}: {self.reason}" if what else self.reason)


class EngineDiedError(EngineError):
    """The process was killed on the way, or cannot be started; the next call starts a new one."""

    reason = "the engine stopped and is being started again; everything else is kept, try this once more"


class EngineTimeoutError(EngineError):
    """The call took too long and its process was ended; the next call starts a new one."""

    reason = "this took too long and was ended; everything else is kept, try once more or with other files"


class EngineBusyError(EngineError):
    """Too much is waiting."""

    reason = "too much is waiting; everything is kept, try again in a moment"


class Engine:
    """Runs functions one after the other in a process of its own.

    Args:
        package: whose functions it runs.
        limit_s: how long a call may take, without its wait.
        first: function that a new process runs before all others, beyond the time of the call that started it.
    """

    def __init__(self, package: str = "scripts.viewer", limit_s: float = LIMIT_S, first: str = "") -> None:
        self.package, self.limit_s, self.first = package, limit_s, first
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()
        # Calls in their order, with the running one; each learns how many are before it.
        self._queue: dict[object, QueueWatcher] = {}

    async def call(
        self,
        function: str,
        *arguments: Any,
        limit_s: float | None = None,
        on_queue: QueueWatcher = lambda before: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> Any:
        """The result of a function of the package, named as ``module.function``.

        Args:
            function: to run.
            arguments: of the function.
            limit_s: another time than the engine's.
            on_queue: called with the number of calls before this one, at once and whenever it changes; 0 when it runs.
            on_end: called when the function has ended in whatever way, also if the caller has gone away meanwhile.

        Raises:
            UserError: the function's own.
            EngineDiedError: the process did.
            EngineTimeoutError: it took too long.
            EngineBusyError: more than `MOST_WAITING` calls are waiting.
        """
        if len(self._queue) >= MOST_WAITING:
            raise EngineBusyError
        place = object()
        self._queue[place] = on_queue
        on_queue(len(self._queue) - 1)
        try:
            await self._turn.acquire()
        except BaseException:
            self._leave(place)
            raise
        running = asyncio.create_task(self._run(function, arguments, limit_s or self.limit_s))
        running.add_done_callback(lambda _: self._turn.release())
        running.add_done_callback(lambda _: self._leave(place))
        running.add_done_callback(lambda _: on_end())
        # A caller who has gone away does not end it: the process goes on with it, and the next has to wait.
        return await asyncio.shield(running)

    async def _run(self, function: str, arguments: tuple[Any, ...], limit_s: float) -> Any:
        try:
            pool, new = self._pool, self._pool is None
            if pool is None:
                # A service that is killed leaves no engine behind, which would hold its memory for ever.
                context = multiprocessing.get_context("spawn")
                self._pool = pool = ProcessPoolExecutor(1, context, _begin, (os.getpid(),))
            if new and self.first:
                with suppress(UserError):  # what needs it says so itself
                    await self._within(START_S, pool, self.first)
            return await self._within(limit_s, pool, function, *arguments)
        except TimeoutError as error:
            self.stop()
            raise EngineTimeoutError from error
        except (OSError, RuntimeError) as error:
            # No process can be started; the pool is broken or was stopped.
            self.stop()
            raise EngineDiedError from error

    async def _within(self, seconds: float, pool: ProcessPoolExecutor, function: str, *arguments: Any) -> Any:
        future = pool.submit(_guarded, f"{self.package}.{function}", *arguments)
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)

    def _leave(self, place: object) -> None:
        places = list(self._queue)
        behind = places[places.index(place) + 1 :]
        del self._queue[place]
        for before, other in enumerate(behind, start=len(self._queue) - len(behind)):
            self._queue[other](before)

    def pids(self) -> list[int]:
        """Process ids of the engine; empty if it does not run."""
        return list(self._pool._processes) if self._pool is not None and self._pool._processes else []

    def stop(self) -> None:
        """End the process, whatever it is at: Python would wait for it at the end, and it may be caught for ever."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            self._pool = None


def _begin(parent: int) -> None:
    """The start of the process. Where memory runs out the system ends it, and not the service."""
    end_with_parent(parent)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _guarded(function: str, *arguments: Any) -> Any:
    """A foreseen error keeps its line; another one says no more than its kind, for its text may hold anything."""
    try:
        module, name = function.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)(*arguments)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise NoRoomError(NOT_STORED) from error
        kind = type(error).__name__
        raise UserError(
            f"this could not be computed ({kind}); try other films or marks, or tell who runs the service"
        ) from error
