"""Half resolution first, then full: most of what a network learns, it learns at an eighth of the cost.

    python -m scripts.training.staged --half HALF/model.pt --output init.pt [--config_file configs/train.json]

The U-Net's coarser levels do at 60, 30 and 15 voxels what a U-Net for half-resolution patches
(``configs/half_resolution.json``) does with one level less. Their weights are taken over; the finest level starts
untrained. Train on with ``--init_weights init.pt``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.networks.utils import copy_model_state

from scripts.command import run_module
from scripts.errors import UserError
from scripts.training.handlers import save_network

ENCODER = re.compile(r"backbone\.encoder\.(\d+)\.(.*)")


def grow(full: torch.nn.Module, half: dict[str, torch.Tensor]) -> list[str]:
    """Give a full-resolution generator the weights of one for half the resolution.

    Encoder levels move one place inwards; decoder levels are counted from the coarsest and stay. What has another
    shape (the first convolution of the level that now has another one before it, the head) stays untrained.

    Args:
        full: a `scripts.networks.generator.Generator` with one more level than the half-resolution one.
        half: state dict of the latter.

    Returns:
        the names that were taken over, as the full-resolution network calls them.
    """
    moved = {ENCODER.sub(_one_level_in, name): value for name, value in half.items() if ".head." not in name}
    shapes = {name: value.shape for name, value in full.state_dict().items()}
    fitting = {name: value for name, value in moved.items() if shapes.get(name) == value.shape}
    copy_model_state(full, fitting)
    return sorted(fitting)


def _one_level_in(match: re.Match[str]) -> str:
    return f"backbone.encoder.{int(match[1]) + 1}.{match[2]}"


def main(half: str, output: str, config_file: Any = "configs/train.json") -> None:
    """Write the grown weights; see the module.

    Args:
        half: weights of the half-resolution training.
        output: file for ``--init_weights``.
        config_file: the full-resolution training's config, or a list of them.
    """
    parser = ConfigParser()
    parser.read_config(config_file if isinstance(config_file, str) else list(config_file))
    full = parser.get_parsed_content("network_def")
    state = torch.load(half, map_location="cpu", weights_only=True)
    taken = grow(full, state.get("model", state))
    if not any("bottleneck" in name for name in taken):
        raise UserError(f"{half}: its bottleneck does not fit the network of {config_file}")
    save_network(full, Path(output))
    print(f"{len(taken)} of {len(full.state_dict())} tensors taken over")


if __name__ == "__main__":
    run_module(main)
