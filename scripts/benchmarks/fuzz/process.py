"""A process that reads one input after another with limited memory, and is replaced when it hangs or dies."""

from __future__ import annotations

import multiprocessing
import resource
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.benchmarks.fuzz.readers import try_input

MEMORY_BYTES = 6 * 2**30


class Reader:
    """A process that reads the files it is given, and is replaced when it hangs or dies.

    Args:
        limit_s: for one input.
        function: that reads it; importable by name.
    """

    def __init__(self, limit_s: float, function: Callable[[Path], str] = try_input) -> None:
        self.limit_s = limit_s
        self.function = function
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def ask(self, path: Path) -> str:
        """``read``, ``refused``, or what went wrong."""
        self._connection.send(path)
        try:
            if self._connection.poll(self.limit_s):
                answer: str = self._connection.recv()
                return answer
            wrong = f"no answer in {self.limit_s:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            wrong = f"its process died ({self._process.exitcode})"
        self.stop()
        self._start()
        return wrong

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_answer, args=(theirs, self.function), daemon=True)
        self._process.start()
        theirs.close()
        # What it imports takes no time of the first input's.
        self._connection.recv()


def _answer(connection: Connection, function: Callable[[Path], str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")
    connection.send("ready")
    while True:
        path = connection.recv()
        try:
            answer = function(path)
        except BaseException:
            answer = traceback.format_exc(limit=-4)
        connection.send(answer)
