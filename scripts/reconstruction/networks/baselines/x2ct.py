"""The dual-view generator of X2CT-GAN (Ying 2019), as Saravi 2023 used it for vertebrae."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.utils import get_norm_layer
from monai.networks.nets.densenet import _DenseBlock
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import along_l, along_p, convolution, upconvolution

GROWTH = 32
Expand = Callable[[torch.Tensor, int], torch.Tensor]


class ViewEncoder(nn.Module):
    """2D dense encoder of one view: a stem, and stages that halve.

    Args:
        in_channels: of the view.
        layers: of each stage's dense block.
        norm: MONAI's name of the normalisation.
    """

    def __init__(self, in_channels: int, layers: Sequence[int], norm: str) -> None:
        super().__init__()
        channels = 64
        normalised = partial(get_norm_layer, norm, 2)
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7), normalised(channels), nn.ReLU()
        )
        stages: list[nn.Module] = []
        self.skip_channels = [channels]
        for index, count in enumerate(layers):
            dense = channels + count * GROWTH
            parts = [
                nn.Sequential(normalised(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, stride=2, padding=1)),
                _DenseBlock(2, count, channels, 4, GROWTH, 0.0, norm=norm),
            ]
            channels = dense
            if index < len(layers) - 1:
                channels = dense // 2
                parts.append(nn.Sequential(normalised(dense), nn.ReLU(), nn.Conv2d(dense, channels, 1)))
                self.skip_channels.append(channels)
            stages.append(nn.Sequential(*parts))
        self.stages = nn.ModuleList(stages)
        self.out_channels = channels

    def forward(self, view: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(B, C, N, N) -> the pooled vector, and the features of the stem and of all stages but the last."""
        features = [self.stem(view)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features.pop().mean(dim=(2, 3)), features


class ViewLift(nn.Module):
    """An encoder, its vector turned into a small volume, its skips repeated along the axis that the view misses.

    Args:
        in_channels: of the view.
        size: of the patches.
        layers: of each stage's dense block.
        widths: of the decoder, coarse to fine; one more than stages.
        expand: `along_p` or `along_l`.
        norm: MONAI's name of the normalisation.
    """

    def __init__(
        self, in_channels: int, size: int, layers: Sequence[int], widths: Sequence[int], expand: Expand, norm: str
    ) -> None:
        super().__init__()
        self.encoder = ViewEncoder(in_channels, layers, norm)
        self.start, self.width = size // 2 ** len(layers), widths[0]
        self.expand = expand
        self.connect = nn.Sequential(
            nn.Linear(self.encoder.out_channels, self.width * self.start**3), nn.Dropout(0.5), nn.ReLU()
        )
        self.flat, self.deep = nn.ModuleList(), nn.ModuleList()
        for channels, width in zip(self.encoder.skip_channels, reversed(widths[1:]), strict=True):
            self.flat.append(convolution(2, channels, width, kernel=1, norm="INSTANCE"))
            self.deep.append(convolution(3, width, width, norm="INSTANCE"))

    def forward(self, view: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(B, C, N, N) -> the starting volume (B, width, n, n, n), and the lifted skips, coarse to fine."""
        vector, features = self.encoder(view)
        start = self.connect(vector).unflatten(1, (self.width, self.start, self.start, self.start))
        lifted = [
            deep(self.expand(flat(feature), feature.shape[-1]))
            for flat, deep, feature in zip(self.flat, self.deep, features, strict=True)
        ]
        return start, lifted[::-1]


class X2CTLift(nn.Module):
    """Both views' lifts.

    Args:
        in_channels: of each view.
        size: of the patches, a multiple of 2 to the number of stages.
        layers: of each stage's dense block.
        widths: of the decoder, coarse to fine; one more than stages.
        norm: MONAI's name of the normalisation; the published one needs more than one pixel in the last stage, so
            patches of 64.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        layers: Sequence[int] = (6, 12, 24, 16, 6),
        widths: Sequence[int] = (256, 128, 64, 32, 16, 16),
        norm: str = "instance",
    ) -> None:
        super().__init__()
        self.ap = ViewLift(in_channels, size, layers, widths, along_p, norm)
        self.lat = ViewLift(in_channels, size, layers, widths, along_l, norm)

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Views (B, C, N, N) -> pairs of volumes (AP, LAT), coarse to fine."""
        (ap_start, ap_skips), (lat_start, lat_skips) = self.ap(ap), self.lat(lat)
        return [(ap_start, lat_start), *zip(ap_skips, lat_skips, strict=True)]


class X2CTDecoder(nn.Module):
    """Three decoders side by side: one a view, and one of their average, which at each level replaces both.

    The published network has a ReLU at its end and two more outputs for the views; here it ends in logits.

    Args:
        widths: of the levels, coarse to fine; one more than stages.
    """

    def __init__(self, widths: Sequence[int] = (256, 128, 64, 32, 16, 16)) -> None:
        super().__init__()
        self.join_ap, self.join_lat = (nn.ModuleList(_join(w) for w in widths[1:]) for _ in range(2))
        ups = list(pairwise(widths))
        self.up_ap, self.up_lat = (
            nn.ModuleList(_up(i, o, first=level == 0) for level, (i, o) in enumerate(ups)) for _ in range(2)
        )
        self.up_fused = nn.ModuleList(_up(i, o, first=level == 0) for level, (i, o) in enumerate(ups))
        self.join_fused = nn.ModuleList(_join(w) for w in widths[1:])
        self.head = nn.Conv3d(widths[-1], 1, 7, padding=3)

    def forward(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Lifted features of AP and LAT at each scale -> logits (B, 1, N, N, N)."""
        mean = fused = (pairs[0][0] + pairs[0][1]) / 2
        for level, (ap_skip, lat_skip) in enumerate(pairs[1:]):
            ap = self.join_ap[level](torch.cat([self.up_ap[level](mean), ap_skip], dim=1))
            lat = self.join_lat[level](torch.cat([self.up_lat[level](mean), lat_skip], dim=1))
            mean = (ap + lat) / 2
            fused = self.join_fused[level](torch.cat([mean, self.up_fused[level](fused)], dim=1))
        return self.head(fused)


def _join(width: int) -> nn.Module:
    return convolution(3, 2 * width, width, norm="INSTANCE")


def _up(inputs: int, outputs: int, first: bool) -> nn.Module:
    """Two convolutions (none at the start) and a doubling."""
    before = [] if first else [convolution(3, inputs, inputs, norm="INSTANCE") for _ in range(2)]
    return nn.Sequential(*before, upconvolution(inputs, outputs, 2, norm="INSTANCE"))
