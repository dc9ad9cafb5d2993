"""Answers as lines of JSON while the engine works: what is waited for, and what was done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from scripts.errors import UserError
from scripts.serving.engine import EngineError, QueueWatcher
from scripts.serving.security import UNFORESEEN, log_failure

# Media type of the answers.
LINES = "application/x-ndjson"
Compute = Callable[[str, QueueWatcher], Awaitable[dict[str, Any]]]


async def stream_levels(
    levels: list[str], compute: Compute, cancelled: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """One level after the other.

    Args:
        levels: their names.
        compute: asks the engine for one; it is given what `Engine.call` tells its place to.
        cancelled: asked before each level.

    Yields:
        lines that end with a newline. While a level waits and when it begins: ``waiting`` (calls of the engine before
        it, 0 when it is computed), ``level``, ``number`` (from 1) and ``total``. When it has ended: ``done`` and
        ``total`` with its result, or with ``level``, ``error`` and, where the same may succeed if it is asked for
        again, ``retry``. At a cancellation: ``cancelled``, ``done``, ``total``.
    """
    total = len(levels)
    for number, level in enumerate(levels, start=1):
        if await cancelled():
            yield _line({"cancelled": True, "done": number - 1, "total": total})
            return
        async for event in _one(level, compute):
            place = {"number": number} if "waiting" in event else {"done": number}
            yield _line({"level": level, **event, **place, "total": total})


async def stream_steps(steps: dict[str, Compute]) -> AsyncIterator[str]:
    """Steps of one task, each after the other; the first that fails is the last.

    Args:
        steps: their names in words -> what asks the engine, given the name and what `Engine.call` tells its place to.

    Yields:
        lines that end with a newline: ``step`` and ``waiting`` (see `stream_levels`) before a step, then what the step
        gives, or ``error`` and perhaps ``retry``.
    """
    for step, compute in steps.items():
        async for event in _one(step, compute):
            yield _line({"step": step, **event})
        if "error" in event:
            return


async def _one(level: str, compute: Compute) -> AsyncIterator[dict[str, Any]]:
    """The places of a level in the queue, then its result or its error."""
    places: asyncio.Queue[int | None] = asyncio.Queue()
    asking = asyncio.ensure_future(compute(level, places.put_nowait))
    asking.add_done_callback(lambda _: places.put_nowait(None))
    try:
        while (before := await places.get()) is not None:
            yield {"waiting": before}
        yield await asking
    except UserError as error:
        yield {"error": str(error)}
    except EngineError as error:
        yield {"error": str(error), "retry": True}
    except Exception as error:
        # The answer has begun: the guard cannot tell it any more.
        log_failure(error)
        yield {"error": f"{level}: {UNFORESEEN}", "retry": True}
    finally:
        asking.cancel()


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document) + "\n"
