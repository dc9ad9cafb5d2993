"""OneDConcat (Chen and Fang 2020): both views squeezed into one vector, a volume grown out of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import convolution


class VectorLift(nn.Module):
    """Strided 2D convolutions of each view, then one vector for both, as ``OneDConcat`` of xrayto3D-benchmark.

    The vector is batch-normalised, so that training needs two vertebrae a batch.

    Args:
        in_channels: of each view.
        size: of the patches, a multiple of 2 to the number of widths.
        features: of the vector.
        widths: of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        features: int = 256,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__()
        shrink = 2 ** len(widths)
        if size % shrink:
            raise ValueError(f"patches have a size that is a multiple of {shrink}, not {size}")
        self.encode_ap, self.encode_lat = (_encoder(in_channels, widths) for _ in range(2))
        pixels = (size // shrink) ** 2
        self.fuse = nn.Sequential(
            nn.Linear(2 * widths[-1] * pixels, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()
        )

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> torch.Tensor:
        """Views (B, C, N, N) -> (B, features, 1, 1, 1)."""
        both = torch.cat([self.encode_ap(ap).flatten(1), self.encode_lat(lat).flatten(1)], dim=1)
        return self.fuse(both)[:, :, None, None, None]


def _encoder(in_channels: int, widths: Sequence[int]) -> nn.Module:
    steps = zip((in_channels, *widths[:-1]), widths, strict=True)
    return nn.Sequential(*[convolution(2, i, o, 2) for i, o in steps])
