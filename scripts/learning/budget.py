"""A training that has so many minutes: warm-up, a cosine down to nothing, and the end, all by the clock."""

from __future__ import annotations

import math
import time

from ignite.engine import Engine, Events
from torch.optim import Optimizer


class TimeBudget:
    """Sets the learning rate by the share of the time that has passed, and ends the training when it is over.

    Args:
        minutes: from the first step to the last.
        optimizers: whose learning rates are set; the rate that each was made with is the highest. A scheduler that the
            same config builds may have set another one since (`OneCycleLR` a 25th).
        warm_up: share of the time in which the rate rises.
        lowest: share of the highest rate at the end.
    """

    def __init__(
        self, minutes: float, optimizers: list[Optimizer], warm_up: float = 0.03, lowest: float = 0.002
    ) -> None:
        if minutes <= 0:
            raise ValueError(f"{minutes} minutes are no time to train")
        self.seconds, self.warm_up, self.lowest = 60 * minutes, warm_up, lowest
        self.highest = [(optimizer, optimizer.defaults["lr"]) for optimizer in optimizers]
        self.start = 0.0

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def factor(self, share: float) -> float:
        """Learning rate, as a share of the highest, when this share of the time has passed."""
        if share < self.warm_up:
            return max(share / self.warm_up, 0.01)
        done = min((share - self.warm_up) / (1 - self.warm_up), 1.0)
        return self.lowest + (1 - self.lowest) * 0.5 * (1 + math.cos(math.pi * done))

    def _share(self) -> float:
        return (time.monotonic() - self.start) / self.seconds

    def _begin(self, engine: Engine) -> None:
        self.start = time.monotonic()

    def _set_rate(self, engine: Engine) -> None:
        factor = self.factor(self._share())
        for optimizer, highest in self.highest:
            for group in optimizer.param_groups:
                group["lr"] = highest * factor

    def _end(self, engine: Engine) -> None:
        if self._share() >= 1:
            engine.terminate()
