"""Begin a training from the weights of another network, and fill in what comes from the library."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.anatomy.mean_shapes import mean_shapes, to_bytes
from scripts.errors import UserError
from scripts.learning.distributed import unwrapped
from scripts.learning.loading import read_weights
from scripts.levels import LEVEL_ORDER
from scripts.reconstruction.networks.level import UNKNOWN, LevelPrior


class WarmStart:
    """Begins a training from another network's weights and the mean shapes; one that is resumed is left alone.

    Args:
        network: to fill in.
        path: weights, a state dict, alone or under ``model``; tensors that fit in whole or in part are copied.
    """

    def __init__(self, network: nn.Module, path: str) -> None:
        self.network, self.path = network, path

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            network = unwrapped(self.network)
            load_matching(network, self.path)
            fill_prior(network)


class FrozenStatistics:
    """Batch normalisation goes on with the means and variances that it has, as it does when the network is used.

    For going on in small batches, whose own statistics are noise, with weights that large ones have trained.

    Args:
        network: whose layers are frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, lambda _: freeze_statistics(self.network))


class Frozen:
    """A part of a network that is used as it is while the rest learns: no gradients, no dropout.

    Args:
        part: of the network.
    """

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, self._freeze)

    def _freeze(self, engine: Engine) -> None:
        self.part.requires_grad_(False)
        self.part.eval()
        # The trainer asks for training mode at each step.
        self.part.train = partial(_stays, self.part)  # type: ignore[method-assign]


def load_matching(network: nn.Module, path: str) -> int:
    """Copy the weights that fit; of wider layers the part that fits.

    What a wider convolution sees in addition counts nothing at first, so that the network begins as the narrower one.

    Args:
        network: to fill in.
        path: a state dict, alone or under ``model``.

    Returns:
        how many tensors were copied, in whole or in part.

    Raises:
        UserError: the file is missing or damaged, or nothing in it fits.
    """
    stored = read_weights(Path(path))
    own, copied = network.state_dict(), 0
    modules = dict(network.named_modules())
    with torch.no_grad():
        for name, values in stored.items():
            mine = own.get(name)
            if mine is None or mine.dim() != values.dim():
                continue
            # A table of another resolution is another table.
            if not mine.is_floating_point() and mine.shape != values.shape:
                continue
            part = tuple(slice(0, min(a, b)) for a, b in zip(mine.shape, values.shape, strict=True))
            module = modules.get(name.rpartition(".")[0])
            widened = mine.dim() > 1 and mine.shape[1] > values.shape[1]
            if widened and isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.groups == 1:
                mine[:, values.shape[1] :] = 0
            mine[part] = values[part].to(mine)
            copied += 1
    if not copied:
        raise UserError(f"{path}: weights of another network, nothing in it fits")
    return copied


def fill_prior(network: nn.Module) -> None:
    """Write the mean shapes into the network's `LevelPrior`, where it is empty.

    Shapes that came with weights stay, as the network was trained with them.

    Args:
        network: with a `LevelPrior`; one without is left alone.
    """
    for module in network.modules():
        if isinstance(module, LevelPrior) and not module.table.any():
            shapes = mean_shapes().clone()
            shapes[UNKNOWN] = shapes[list(LEVEL_ORDER)].mean(0)
            module.table.copy_(to_bytes(shapes))


def freeze_statistics(network: nn.Module) -> None:
    """Keep batch normalisation in evaluation mode, whatever mode the network is put in."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            # The trainer asks for training mode at each step.
            module.train = partial(_stays, module)  # type: ignore[method-assign]


def _stays(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
