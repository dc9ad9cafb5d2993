"""Checkpoints that a training can be resumed from exactly, whatever moment it is killed at."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.errors import UserError
from scripts.io.atomic import atomic_path
from scripts.io.checksums import sha256
from scripts.learning.distributed import unwrapped
from scripts.learning.resumed import refuse_changes

logger = logging.getLogger(__name__)
NAME = re.compile(r"checkpoint_(\d+)\.pt")


class Stateful(Protocol):
    """What networks, optimisers, schedulers and some handlers are."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """The inverse."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one step, with its digest beside it.

    A process that is killed on the way leaves the older checkpoints and at most a file that `load_checkpoint` refuses.

    Args:
        path: of the file; ``<path>.sha256`` is written before it.
        state: tensors and plain values, nested.
    """
    with atomic_path(path) as work:
        with work.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        digest_path(path).write_text(sha256(work) + "\n")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote; nothing in the file is executed.

    Raises:
        ValueError: the file is not what was written, or not readable.
    """
    try:
        whole = digest_path(path).read_text().strip() == sha256(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not whole:
        raise ValueError(f"{path}: not what was written; truncated or damaged")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def digest_path(path: Path) -> Path:
    """Where a checkpoint's digest lies."""
    return path.with_name(path.name + ".sha256")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint_*.pt") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def refuse_checkpoints(folder: Path) -> None:
    """Refuse to start from scratch beside another training's checkpoints, from which its own could not be told.

    Raises:
        UserError: the folder holds checkpoints.
    """
    if checkpoints(folder):
        raise UserError(
            f"{folder} holds checkpoints of another training: go on with it (--resume True), "
            "or choose another --output_dir"
        )


class CheckpointKeeper:
    """Saves everything that a training is made of at the end of each epoch, and restores it.

    Attach it after the handlers whose work belongs to the epoch (learning rates, validation, best model). A training
    that starts from scratch in a folder with checkpoints is refused (`refuse_checkpoints`).

    Args:
        folder: for ``checkpoint_<epoch>.pt``.
        state: name -> what has a state.
        interval: epochs between two.
        keep: how many to keep.
        is_writer: whether this process writes; one of several does.
        seed: of the training, which is resumed with the same.
    """

    def __init__(
        self,
        folder: str,
        state: dict[str, Stateful | None],
        interval: int = 1,
        keep: int = 2,
        is_writer: bool = True,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.state = {
            name: unwrapped(part) if isinstance(part, nn.Module) else part
            for name, part in state.items()
            if part is not None
        }
        self.interval, self.keep, self.is_writer, self.seed = interval, keep, is_writer, seed

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def resume(self, engine: Engine) -> int:
        """Put everything back to where the newest sound checkpoint was taken; a damaged one is named and skipped.

        Args:
            engine: the trainer, which then goes on with the next epoch.

        Returns:
            the epoch that was complete; 0 if there is no checkpoint.

        Raises:
            UserError: the checkpoints are of another training or of one with other options, or all are damaged.
        """
        found = checkpoints(self.folder)
        if not found:
            logger.warning("%s: no checkpoint to resume from, the training starts from scratch", self.folder)
            return 0
        for path in found:
            try:
                stored = load_checkpoint(path)
            except ValueError as error:
                logger.warning("%s; trying the one before", error)
                continue
            missing = sorted(self.state.keys() ^ (stored.keys() - {"epoch", "iteration", "seed"}))
            if missing:
                raise UserError(f"{path}: is of another training, {', '.join(missing)} differ")
            refuse_changes(path, stored, self.state, engine, self.seed)
            for name, part in self.state.items():
                part.load_state_dict(stored[name])
            engine.state.epoch, engine.state.iteration = stored["epoch"], stored["iteration"]
            logger.info("resumed from %s, epoch %d", path, stored["epoch"])
            return int(stored["epoch"])
        raise UserError(f"{self.folder}: none of its checkpoints can be read; remove them to start from scratch")

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            refuse_checkpoints(self.folder)

    def _save(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if not self.is_writer or (epoch % self.interval and epoch != engine.state.max_epochs):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.state.items()}
        place = {"epoch": epoch, "iteration": engine.state.iteration, "seed": self.seed}
        save_checkpoint(self.folder / f"checkpoint_{epoch}.pt", {**state, **place})
        for old in checkpoints(self.folder)[self.keep :]:
            old.unlink()
            digest_path(old).unlink(missing_ok=True)
