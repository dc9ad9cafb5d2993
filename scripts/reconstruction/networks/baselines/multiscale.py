"""MultiScale2DPermuteConcat of xrayto3D-benchmark (after FracReconNet): 2D all the way, fused in 3D at each scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets.densenet import _DenseBlock
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import ap_channels_as_depth, convolution, lat_channels_as_depth


class MultiScaleView(nn.Module):
    """2D dense encoder and decoder of one view; at each scale the decoder's channels are the depth of a volume.

    Args:
        in_channels: of the view.
        size: of the patches, a multiple of 16.
        channels: of the encoder's levels, N/2 first.
        read: `ap_channels_as_depth` or `lat_channels_as_depth`.
        volumes: channels of the volume at each scale.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        channels: Sequence[int],
        read: Callable[[torch.Tensor, int], torch.Tensor],
        volumes: int = 2,
    ) -> None:
        super().__init__()
        self.read, self.volumes = read, volumes
        inputs = (in_channels, *channels[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                convolution(2, i, o, 2), _DenseBlock(2, 3, o, 2, o // 3, 0.0), nn.Conv2d(o + o // 3 * 3, o, 1)
            )
            for i, o in zip(inputs, channels, strict=True)
        )
        # Coarse to fine; the finest scale is the patch's own.
        depths = [volumes * size // 2**k for k in range(len(channels), -1, -1)]
        skips = [*reversed(channels), in_channels]
        coming = [0, *depths[:-1]]
        self.decode = nn.ModuleList(
            nn.Sequential(convolution(2, c + s, d), convolution(2, d, d))
            for c, s, d in zip(coming, skips, depths, strict=True)
        )

    def forward(self, view: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, N, N) -> volumes (B, V, n, n, n), n from N/16 to N."""
        features = [view]
        for down in self.down:
            features.append(down(features[-1]))
        volumes: list[torch.Tensor] = []
        x = features[-1]
        for index, (decode, skip) in enumerate(zip(self.decode, reversed(features), strict=True)):
            x = decode(torch.cat([F.interpolate(x, scale_factor=2.0), skip], dim=1) if index else skip)
            volumes.append(self.read(x, x.shape[-1]))
        return volumes


class MultiScaleLift(nn.Module):
    """Both views' volumes at each scale.

    Args:
        in_channels: of each view.
        size: of the patches.
        channels: of the encoder's levels, N/2 first.
    """

    def __init__(self, in_channels: int, size: int, channels: Sequence[int] = (24, 48, 96, 192)) -> None:
        super().__init__()
        self.ap = MultiScaleView(in_channels, size, channels, ap_channels_as_depth)
        self.lat = MultiScaleView(in_channels, size, channels, lat_channels_as_depth)

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> list[torch.Tensor]:
        """Views (B, C, N, N) -> (B, 2 V, n, n, n) a scale, coarse to fine."""
        return [torch.cat(pair, dim=1) for pair in zip(self.ap(ap), self.lat(lat), strict=True)]


class MultiScaleFusion(nn.Module):
    """3D convolutions from the coarsest scale to the finest.

    Args:
        in_channels: of each scale's volume.
        channels: of each scale, coarse to fine.
    """

    def __init__(self, in_channels: int = 4, channels: Sequence[int] = (32, 32, 32, 16, 8)) -> None:
        super().__init__()
        coming = (0, *channels[:-1])
        self.fuse = nn.ModuleList(
            nn.Sequential(convolution(3, c + in_channels, o), convolution(3, o, o))
            for c, o in zip(coming, channels, strict=True)
        )
        self.head = nn.Conv3d(channels[-1], 1, 1)

    def forward(self, volumes: list[torch.Tensor]) -> torch.Tensor:
        """Volumes of both views at each scale -> logits (B, 1, N, N, N)."""
        x = volumes[0]
        for index, (fuse, volume) in enumerate(zip(self.fuse, volumes, strict=True)):
            x = fuse(torch.cat([F.interpolate(x, scale_factor=2.0), volume], dim=1) if index else volume)
        return self.head(x)
