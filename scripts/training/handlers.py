"""Handlers of our own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events


class LossLogger:
    """Each iteration's loss terms, unweighted, as one row of a CSV file.

    Args:
        path: of the file; begun anew when the training starts at its first epoch, else continued.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if engine.state.epoch == 0:
            self.path.unlink(missing_ok=True)

    def _write(self, engine: Engine) -> None:
        # Postprocessing turns the output into a list of items, each with the batch's losses.
        output: dict[str, Any] = (
            engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        )
        losses = {name: value for name, value in output.items() if str(name).startswith("loss")}
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if is_new:
                writer.writerow(["epoch", "iteration", *losses])
            writer.writerow([engine.state.epoch, engine.state.iteration, *(f"{float(v):.6g}" for v in losses.values())])
