"""The ResUNet: in 3D it turns the lifted views into a vertebra, in 2D it can look at a view before it is lifted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from monai.networks.layers.factories import Conv
from torch import nn


class ResEncoder(nn.Module):
    """The first half of a `ResUNet`, down to the bottleneck.

    Args:
        in_channels: of the view or volume.
        channels: of the levels, finest first, and last of the bottleneck; one more than ``strides``.
        strides: of the first convolution of each level.
        convolutions: of each residual block.
        dimensions: 3, or 2 for a view.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int] = (2, 2, 2),
        convolutions: int = 2,
        *,
        dimensions: int,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) + 1:
            raise ValueError(f"{len(strides)} strides need {len(strides) + 1} channels, not {len(channels)}")
        self.features = channels[-1]
        block = partial(residual_block, dimensions, convolutions)
        inputs = (in_channels, *channels[:-2])
        self.encoder = nn.ModuleList(block(i, o, s) for i, o, s in zip(inputs, channels[:-1], strides, strict=True))
        self.bottleneck = block(channels[-2], channels[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, N, ...) -> (B, channels[-1], N / product of the strides, ...)."""
        for block in self.encoder:
            x = block(x)
        return self.bottleneck(x)


def residual_block(dimensions: int, convolutions: int, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """MONAI's residual unit with batch normalisation and ReLU."""
    return ResidualUnit(dimensions, inputs, outputs, stride, subunits=convolutions, act="RELU", norm="BATCH")


class ResUNet(ResEncoder):
    """Residual blocks with batch normalisation and ReLU, halvings by strided convolutions, skips (Xu 2019).

    MONAI's own residual ``UNet`` is the same family, but its last stage squeezes everything through one normalised,
    rectified channel, which learned an order of magnitude slower on our data. Here the head is a plain transposed
    convolution on all the features of the finest level.

    Widths are not given in the paper; 16-32-64-128 with two convolutions a block make 1.6 M parameters. 120 = 2^3 x 15
    allows three halvings. The first is in the first block, so that the widest layers run at 60^3; a first block at
    120^3 (``strides=(1, 2, 2)``, or ``(1, 2, 2, 2)`` with one more width) costs several times as much.

    Args:
        in_channels: of the lifted volume (or of a view).
        out_channels: logits (or features).
        channels: of the levels, finest first, and last of the bottleneck; one more than ``strides``.
        strides: of the first convolution of each level.
        convolutions: a residual block.
        foreground_share: the head's bias starts where an untrained network predicts this share of foreground; without
            it the Dice term first spends its time on pushing the background down.
        dimensions: 3, or 2 for a view.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int] = (2, 2, 2),
        convolutions: int = 2,
        foreground_share: float = 0.03,
        dimensions: int = 3,
    ) -> None:
        super().__init__(in_channels, channels, strides, convolutions, dimensions=dimensions)
        block = partial(residual_block, dimensions, convolutions)
        # Coarse to fine: join with the skip of the level, then go up to the next.
        coming = [channels[-1], *reversed(channels[:-2])]
        self.decoder = nn.ModuleList(block(c + s, s) for c, s in zip(coming, reversed(channels[:-1]), strict=True))
        self.up = nn.ModuleList(
            Convolution(dimensions, s, n, stride, kernel_size=3, is_transposed=True, act="RELU", norm="BATCH")
            for s, n, stride in zip(
                reversed(channels[1:-1]), reversed(channels[:-2]), reversed(strides[1:]), strict=True
            )
        )
        self.up.append(nn.Identity())  # from the finest level the head goes up
        if strides[0] == 1:
            self.head: nn.Module = Conv[Conv.CONV, dimensions](channels[0], out_channels, 1)
        else:
            transposed = Conv[Conv.CONVTRANS, dimensions]
            self.head = transposed(channels[0], out_channels, 2 * strides[0], strides[0], strides[0] // 2)
        nn.init.constant_(self.head.bias, math.log(foreground_share / (1 - foreground_share)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, N, N, N) -> logits (B, out_channels, N, N, N); N a multiple of the product of the strides."""
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x = self.bottleneck(x)
        level = len(skips)
        for block, up in zip(self.decoder, self.up):  # noqa: B905 - TorchScript knows no strict
            level -= 1
            x = up(block(torch.cat([x, skips[level]], dim=1)))
        return self.head(x)
