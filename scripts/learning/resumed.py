"""Whether a training is resumed with the options it was begun with, where another value would not count or do harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from scripts.errors import UserError

# What stays as it is in the state of a schedule and of an optimiser while they go on, and the option that sets it.
# The state of a checkpoint takes the place of what the option says.
OPTIONS = {
    "base_lrs": "--learning_rate",
    "T_max": "--max_epochs",
    "total_steps": "--max_epochs",
    "step_size": "--lr_step_epochs",
    "gamma": "--lr_decay",
    "weight_decay": "--weight_decay",
}


def refuse_changes(path: Path, stored: dict[str, Any], state: dict[str, Any], engine: Engine, seed: int) -> None:
    """Refuse to go on with a training in another way than it was begun, before anything is changed.

    More epochs are no other way, unless the learning rate follows their number.

    Args:
        path: of the checkpoint, for messages.
        stored: what it holds.
        state: name -> what is to be put back to it, as the options have made it.
        engine: the trainer.
        seed: of the training.

    Raises:
        UserError: it was trained with other steps an epoch, another seed or another schedule.
    """
    change = next(_changes(stored, state, engine, seed), None)
    if change is not None:
        raise UserError(
            f"{path}: {change}; go on with the options that it was begun with, or begin another training "
            "(--init_weights, another --output_dir)"
        )


def _changes(stored: dict[str, Any], state: dict[str, Any], engine: Engine, seed: int) -> Iterator[str]:
    steps, now = stored["iteration"] / stored["epoch"], engine.state.epoch_length
    if now not in (None, steps):
        # The engine counts epochs by steps: the next one would be cut short, or the training begun anew.
        reason = "other data, --batch_size or number of processes"
        yield f"was trained with {steps:g} steps an epoch, this is {now} ({reason})"
    if stored.get("seed", seed) != seed:
        yield f"was trained with --seed {stored['seed']}, this is {seed}"
    for name, part in state.items():
        before, after = _fixed(part, stored[name]), _fixed(part, part.state_dict())
        for key, value in after.items():
            if before[key] != value:
                yield f"its {name} was made with {key} {before[key]}, this is {value} ({OPTIONS[key]})"


def _fixed(part: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The part of a state that options set and training does not change; nothing of networks."""
    if isinstance(part, Optimizer):
        return {"weight_decay": [group.get("weight_decay") for group in state["param_groups"]]}
    return {key: state.get(key) for key in OPTIONS} if isinstance(part, LRScheduler) else {}
