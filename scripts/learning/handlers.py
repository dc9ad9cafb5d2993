"""Handlers of our own: the weights that a training begins with, its log, its best model, its last one."""

from __future__ import annotations

import csv
import logging
import math
import time
from itertools import count
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from scripts.io.atomic import atomic_path
from scripts.io.tables import write_csv
from scripts.learning.distributed import unwrapped
from scripts.learning.loading import load_weights

logger = logging.getLogger(__name__)


def shared_handler(handler: Any) -> Any:
    """A handler that a config names elsewhere too, for its list of handlers.

    MONAI's `ConfigWorkflow.check_properties` reads such lists and fails at a mere reference (``"@name"``).
    """
    return handler


class InitialWeights:
    """Begins a training from the weights of the same network; one that is resumed is left alone.

    MONAI's `CheckpointLoader` would load them over a resumed network.

    Args:
        network: to fill in.
        path: weights, a state dict, alone or under ``model``; every tensor must fit. Nothing happens if empty.
    """

    def __init__(self, network: torch.nn.Module, path: str) -> None:
        self.network, self.path = network, path

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        if self.path:
            engine.add_event_handler(Events.STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            load_weights(unwrapped(self.network), Path(self.path), "this training's config")


class TrainingLog:
    """Every loss term (unweighted), gradient norm and learning rate of each iteration, to a CSV file and TensorBoard.

    Args:
        folder: gets ``training.csv`` and TensorBoard's events.
        optimizers: name -> optimiser, whose learning rate is the column ``lr_<name>``.
        is_writer: whether this process writes; one of several does.

    Raises:
        FloatingPointError: in a training whose loss is no longer a number; what it would go on to write is worthless.
    """

    def __init__(self, folder: str, optimizers: dict[str, Optimizer], is_writer: bool = True) -> None:
        self.path = Path(folder) / "training.csv"
        self.optimizers = optimizers
        self.is_writer = is_writer
        self.board: SummaryWriter | None = None
        self.waiting = 0.0
        self.working = 0.0
        self.since = 0.0

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        if self.is_writer:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._wait)
            engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._work)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
            engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Engine) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._forget_after(engine.state.iteration)
        self.board = SummaryWriter(str(self.path.parent), purge_step=engine.state.iteration + 1)
        self.since = time.perf_counter()

    def _forget_after(self, iteration: int) -> None:
        """Remove rows that a killed run wrote after the checkpoint it is resumed from: they will be written again.

        What a training from scratch finds is put aside: only the rows of a resumed one are known to come again.
        """
        if not self.path.is_file():
            return
        if iteration == 0:
            others = (self.path.with_name(f"training_{number}.csv") for number in count(1))
            other = next(path for path in others if not path.exists())
            self.path.rename(other)
            logger.warning("%s: the log of an earlier training is now %s", self.path, other.name)
            return
        with self.path.open(newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
        kept = [row for row in rows if len(row) == len(header) and int(row[1]) <= iteration]
        if header:
            write_csv(self.path, header, kept)
        else:
            self.path.unlink()

    def _wait(self, engine: Engine) -> None:
        self.since = time.perf_counter()

    def _work(self, engine: Engine) -> None:
        now = time.perf_counter()
        self.waiting, self.since = now - self.since, now

    def _write(self, engine: Engine) -> None:
        self.working = time.perf_counter() - self.since
        # Postprocessing turns the output into a list of items, each with the batch's losses.
        state = engine.state
        output: dict[str, Any] = state.output[0] if isinstance(state.output, list) else state.output
        names = [name for name in output if str(name).startswith(("loss", "grad_norm"))]
        values = {name: float(output[name]) for name in names}
        values |= {f"lr_{name}": optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        values |= {"seconds": self.waiting + self.working, "seconds_waiting_for_data": self.waiting}
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if is_new:
                writer.writerow(["epoch", "iteration", *values])
            writer.writerow([state.epoch, state.iteration, *(f"{value:.6g}" for value in values.values())])
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"training/{name}", value, state.iteration)
        if not math.isfinite(values.get("loss", 0.0)):
            # Before the next checkpoint: the one before it is still good.
            raise FloatingPointError(
                f"the loss is {values['loss']} at step {state.iteration}: train with a lower --learning_rate"
            )

    def _close(self, engine: Engine) -> None:
        if self.board is not None:
            self.board.close()


class BestModel:
    """Keeps the network with the best validation metric as a plain state dict under ``model``.

    It has a state, so that a resumed training does not overwrite the best model by the first one it validates.

    Args:
        network: what to keep; of an average of networks, the average.
        path: of the file.
        metric: name of a metric of the evaluator; larger is better.
        is_writer: whether this process writes; one of several does.
    """

    def __init__(self, network: torch.nn.Module, path: str, metric: str = "val_dice", is_writer: bool = True) -> None:
        self.network, self.path, self.metric, self.is_writer = network, Path(path), metric, is_writer
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Called by MONAI; belongs to the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """For checkpoints."""
        self.best = float(state_dict["best"])

    def _keep(self, engine: Engine) -> None:
        value = float(engine.state.metrics[self.metric])
        if value > self.best:
            self.best = value
            if self.is_writer:
                save_network(self.network, self.path)


class FinalModel:
    """Writes the network when the training is complete.

    Args:
        network: what to write.
        path: of the file.
        is_writer: whether this process writes; one of several does.
    """

    def __init__(self, network: torch.nn.Module, path: str, is_writer: bool = True) -> None:
        self.network, self.path, self.is_writer = network, Path(path), is_writer

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        if self.is_writer:
            engine.add_event_handler(Events.COMPLETED, lambda _: save_network(self.network, self.path))


def save_network(network: torch.nn.Module, path: Path) -> None:
    """``{"model": state dict}`` in one step, as MONAI's `CheckpointLoader` reads it."""
    save_weights(unwrapped(network).state_dict(), path)


def save_weights(state: dict[str, Any], path: Path) -> None:
    """`save_network` of a network's state dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A stream: of a path torch would store the name, which is another one each time.
    with atomic_path(path) as work, work.open("wb") as stream:
        torch.save({"model": state}, stream)
