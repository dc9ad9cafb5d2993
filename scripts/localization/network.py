"""The network that looks at both films: one detector with shared weights.

A view's maps say, at every second pixel, whether a vertebra's centroid lies there, where exactly, where its four
corners and its two neighbours are, and which level it is. The views know nothing of each other, so one may be missing;
attention between their rows was tried and brought nothing (docs/training.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from scripts.localization.levels import END_NAMES, LEVELS, REGION_NAMES

STRIDE = 2
# Lengths of corners and neighbours are learned in this unit, about half a body.
UNIT_PX = 10.0
# Name -> channels of the maps, in their order.
HEADS: dict[str, int] = {
    "heat": 1,
    "offset": 2,
    "corners": 8,
    "spread": 4,
    "neighbours": 4,
    "level": LEVELS,
    "region": len(REGION_NAMES),
    "end": len(END_NAMES),
}
CHANNELS = sum(HEADS.values())
# Input channels of a view: film, its local contrast, what it is (AP -1, LAT 1), and where there is film at all.
INPUTS = 4
COARSEST = 32


class SpineLocalizer(nn.Module):
    """A U-Net on each view with heads at every second pixel.

    Args:
        channels: of the stages at strides 2, 4, 8, 16 and 32.
        head_channels: of the layer before the heads.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48, 96, 128, 160),
        head_channels: int = 64,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(INPUTS, channels[0], 2), _conv(channels[0], channels[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b, 2), Residual(b), *([Residual(b)] if i else []))
            for i, (a, b) in enumerate(itertools.pairwise(channels))
        )
        self.up = nn.ModuleList(
            _conv(a + b, b) for a, b in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True)
        )
        where = HEADS["heat"] + HEADS["offset"] + HEADS["corners"] + HEADS["spread"] + HEADS["neighbours"]
        self.where = nn.Sequential(_conv(channels[0], head_channels), nn.Conv2d(head_channels, where, 1))
        # Which level it is needs to see far and no fine grain.
        self.which = nn.Sequential(
            _conv(channels[1], 2 * head_channels), nn.Conv2d(2 * head_channels, CHANNELS - where, 1)
        )
        # A map that begins with few vertebrae does not have to unlearn many.
        bias = self.where[1].bias
        assert isinstance(bias, torch.Tensor)
        nn.init.constant_(bias[:1], -4.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps of both views.

        Args:
            image: (B, 2, 4, H, W), H and W multiples of 32; views AP, LAT; a view that is missing is all zeros.

        Returns:
            (B, 2, CHANNELS, H / 2, W / 2): the heads in the order of ``HEADS``. ``heat`` and the last three are
            logits; ``offset`` is in cells of the map, ``corners`` (superior left, superior right, inferior right,
            inferior left; row, column) and ``neighbours`` (upper, lower) in units of `UNIT_PX` pixels from the
            centroid, ``spread`` the logarithm of each corner's expected error in the same unit.
        """
        pairs = image.shape[0]
        x = self.stem(image.flatten(0, 1))
        skips = [x]
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        coarse = x
        for i, stage in enumerate(self.up):
            coarse = x
            x = stage(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips[-2 - i]], 1))
        which = F.interpolate(self.which(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.cat([self.where(x), which], 1).unflatten(0, (pairs, 2))


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in and out."""
        return F.relu(x + self.body(x))


def _conv(inputs: int, outputs: int, stride: int = 1, act: bool = True) -> Convolution:
    return Convolution(2, inputs, outputs, strides=stride, norm="BATCH", act="RELU" if act else None, bias=False)


def split_heads(maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Maps (..., CHANNELS, H, W) by the name of their head."""
    return dict(zip(HEADS, maps.split(list(HEADS.values()), dim=-3), strict=True))
