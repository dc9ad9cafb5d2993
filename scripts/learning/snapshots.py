"""The network every so many minutes, so that a training which is cut off has not been for nothing."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from scripts.learning.handlers import save_network


class Snapshots:
    """Writes the network to one file again and again; the last state replaces the one before.

    Args:
        network: what to write.
        path: of the file.
        minutes: between two.
        is_writer: whether this process writes; one of several does.
    """

    def __init__(self, network: torch.nn.Module, path: str, minutes: float, is_writer: bool = True) -> None:
        self.network, self.path, self.seconds, self.is_writer = network, Path(path), 60 * minutes, is_writer
        self.last = 0.0

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        if self.is_writer:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        self.last = time.monotonic()

    def _write(self, engine: Engine) -> None:
        if time.monotonic() - self.last >= self.seconds:
            save_network(self.network, self.path)
            self.last = time.monotonic()
