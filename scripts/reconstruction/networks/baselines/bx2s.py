"""BX2S-Net (Chen 2023): a small 3D U-Net whose skips come from every scale and pass a channel gate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import convolution, upconvolution


class FullScaleSkips(nn.Module):
    """All encoder levels at one level's size, weighted channel by channel by a gate that also sees the decoder.

    Args:
        encoder: channels of the encoder's levels, finest first.
        level: whose size is wanted.
        reduction: of the gate's hidden layer.
    """

    def __init__(self, encoder: Sequence[int], level: int, reduction: int = 4) -> None:
        super().__init__()
        channels = encoder[level]
        self.level = level
        self.branches = nn.ModuleList(convolution(3, c, channels // len(encoder)) for c in encoder)
        stack = channels // len(encoder) * len(encoder)
        self.squeeze = convolution(3, stack + channels, stack)
        self.gate = nn.Sequential(
            nn.Linear(stack, max(stack // reduction, 1), bias=False),
            nn.ReLU(),
            nn.Linear(max(stack // reduction, 1), stack, bias=False),
            nn.Sigmoid(),
        )
        self.aggregate = convolution(3, stack + channels, channels)

    def forward(self, skips: list[torch.Tensor], up: torch.Tensor) -> torch.Tensor:
        """Encoder features (finest first) and the decoder's (B, C, n, n, n) -> (B, C, n, n, n)."""
        size = up.shape[2:]
        scaled = []
        for index, (branch, skip) in enumerate(zip(self.branches, skips, strict=True)):
            # Finer levels are pooled before their convolution, coarser ones enlarged after it.
            feature = branch(F.adaptive_max_pool3d(skip, size) if index < self.level else skip)
            scaled.append(F.interpolate(feature, size) if index > self.level else feature)
        stack = torch.cat(scaled, dim=1)
        weights = self.gate(self.squeeze(torch.cat([stack, up], dim=1)).mean(dim=(2, 3, 4)))
        return self.aggregate(torch.cat([stack * weights[:, :, None, None, None], up], dim=1))


class BX2SUNet(nn.Module):
    """The 3D network of BX2S-Net behind its replicated views; widths of NBU-CVMI/bx2s-net.

    It had two classes with softmax; here it has one logit, as all have.

    Args:
        in_channels: of the lifted views.
        channels: of the levels, finest first, and last of the bottleneck.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (8, 16, 32, 64, 128)) -> None:
        super().__init__()
        self.first = convolution(3, in_channels, channels[0])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Sequential(convolution(3, i, o, 2), convolution(3, o, o)) for i, o in pairs)
        self.up = nn.ModuleList(
            nn.Sequential(upconvolution(o, i, 2, kernel=2), convolution(3, i, i)) for i, o in reversed(pairs)
        )
        self.skips = nn.ModuleList(FullScaleSkips(channels[:-1], level) for level in reversed(range(len(pairs))))
        self.head = nn.Conv3d(channels[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, N, N, N) -> logits (B, 1, N, N, N); N a multiple of 16."""
        features = [self.first(x)]
        for down in self.down:
            features.append(down(features[-1]))
        x = features.pop()
        for up, skip in zip(self.up, self.skips, strict=True):
            x = skip(features, up(x))
        return self.head(x)
