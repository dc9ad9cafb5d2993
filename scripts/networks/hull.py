"""Flat heads beside a 3D backbone: what a view says of a pixel, it says of every voxel behind it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class HullBackbone(nn.Module):
    """The logits of a 3D backbone, and to them the logits of the shadow that each view sees.

    A spinous process is a few hundredths of a vertebra's voxels; a network that has once settled on leaving it out gets
    next to no gradient from Dice. In a lateral film it is a fifth of the shadow, and a 2D network finds it in a few
    hundred steps. Its word comes in here without a detour through 3D convolutions, which then have only to cut the
    visual hull to shape. `scripts.training.silhouettes` teaches encoders and heads the shadows.

    The heads begin with nothing to say, and weights of a network without them load: they leave its answer as it is.

    Args:
        backbone: (B, 2 C, N, N, N) -> logits (B, 1, N, N, N).
        view_channels: C, of each view in the lifted volume, AP first.
    """

    def __init__(self, backbone: nn.Module, view_channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.ap_head = nn.Conv2d(view_channels, 1, 1)
        self.lat_head = nn.Conv2d(view_channels, 1, 1)
        for parameter in (*self.ap_head.parameters(), *self.lat_head.parameters()):
            nn.init.zeros_(parameter)
        self.register_load_state_dict_pre_hook(_accept_plain)

    def forward(self, lifted: torch.Tensor) -> torch.Tensor:
        """(B, 2 C, N, N, N) -> logits (B, 1, N, N, N)."""
        # The heads of single pixels, on whatever pixel the lift has put at a voxel.
        weight = torch.cat([self.ap_head.weight, self.lat_head.weight], dim=1).unsqueeze(-1)
        ap_bias, lat_bias = self.ap_head.bias, self.lat_head.bias
        assert ap_bias is not None and lat_bias is not None  # for TorchScript
        return self.backbone(lifted) + F.conv3d(lifted, weight, ap_bias + lat_bias)


def _accept_plain(module: nn.Module, state: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
    """Weights of the backbone alone, in place, as those of a `HullBackbone` whose heads say nothing."""
    own = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    plain = [name for name in state if name.startswith(prefix)]
    if any(name in own for name in plain):
        return
    for name in plain:
        state[f"{prefix}backbone.{name.removeprefix(prefix)}"] = state.pop(name)
    for name, value in own.items():
        if "_head." in name:
            state[name] = torch.zeros_like(value)
