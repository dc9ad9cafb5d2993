"""A function over several items on the threads of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 2


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in the items' order, of a function that spends its time in numpy, SciPy or PyTorch.

    These let other threads run meanwhile. More than two threads wait for each other's Python.

    Args:
        function: of one item; safe to run twice at once.
        items: all of them.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(function, items))
