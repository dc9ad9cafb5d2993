"""The network that looks at both films: one detector with shared weights, and what the views tell each other.

A view's maps say, at every second pixel, whether a vertebra's centroid lies there, where exactly, where its four
corners and its two neighbours are, and which level it is. With ``attention`` the rows of one view look at the rows of
the other before that; it assumes no common height, and a view that is missing is legal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from scripts.levels import LEVEL_ORDER

STRIDE = 2
LEVELS = len(LEVEL_ORDER) + 1
REGION_NAMES = ("cervical", "thoracic", "lumbar", "sacral")
# What a vertebra is in its region; VERIDAH (2026) shows how much such ends help to find anomalies.
END_NAMES = (
    "none",
    "first cervical",
    "last cervical",
    "first thoracic",
    "last thoracic",
    "first lumbar",
    "last lumbar",
)
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
        attention: rows of both views attend to each other at stride 32.
        attention_heads: of that.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48, 96, 128, 160),
        head_channels: int = 64,
        attention: bool = False,
        attention_heads: int = 4,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(INPUTS, channels[0], 2), _conv(channels[0], channels[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b, 2), Residual(b), *([Residual(b)] if i else []))
            for i, (a, b) in enumerate(itertools.pairwise(channels))
        )
        self.rows = RowAttention(channels[-1], attention_heads) if attention else EachAlone()
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
        x = self.rows(x.unflatten(0, (pairs, 2)), image[:, :, -1].amax((-2, -1))).flatten(0, 1)
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


class EachAlone(nn.Module):
    """In place of `RowAttention`: the views know nothing of each other."""

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, 2, C, H, W) as it is."""
        return x


class RowAttention(nn.Module):
    """Each row of a view looks at all rows of both; what it learns is added over its width.

    A row's place is told by sines of its height; which view it is of by a learned vector. A missing view is masked.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.channels = channels
        self.read = nn.Linear(2 * channels, channels)
        self.view = nn.Parameter(torch.zeros(2, channels))
        self.null = nn.Parameter(torch.zeros(1, 1, channels))
        self.attend = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)
        last = nn.Linear(channels, channels)
        # Training starts from the views alone, also from weights that were trained so.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.write = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, 2, C, H, W) and which views are there (B, 2), 0 or 1."""
        pairs, _, _, rows, _ = x.shape
        token = self.read(torch.cat([x.mean(-1), x.amax(-1)], 2).transpose(2, 3))  # (B, 2, H, C)
        half = self.channels // 2
        rate = torch.exp(torch.arange(half, device=x.device) * (-4.0 / half))
        angle = torch.arange(rows, device=x.device)[:, None] * rate
        place = torch.cat([angle.sin(), angle.cos()], 1)
        token = (token + place + self.view[:, None]).flatten(1, 2)
        keys = torch.cat([self.null.expand(pairs, 1, self.channels).to(token.dtype), token], 1)
        hidden = torch.cat([present.new_zeros(pairs, 1), 1 - present.repeat_interleave(rows, 1)], 1) > 0.5
        seen, _ = self.attend(token, keys, keys, key_padding_mask=hidden, need_weights=False)
        added = self.write(self.norm(token + seen)).unflatten(1, (2, rows))
        return x + added.transpose(2, 3)[..., None]


def _conv(inputs: int, outputs: int, stride: int = 1, act: bool = True) -> Convolution:
    return Convolution(2, inputs, outputs, strides=stride, norm="BATCH", act="RELU" if act else None, bias=False)


def split_heads(maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Maps (..., CHANNELS, H, W) by the name of their head."""
    return dict(zip(HEADS, maps.split(list(HEADS.values()), dim=-3), strict=True))
