"""TransVert (Bayat 2020): 2D encoders, a learned expansion of each view along its missing axis, a 3D decoder."""

from __future__ import annotations

import torch
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import along_l, along_p, convolution, upconvolution


class ExpandingLift(nn.Module):
    """Encodes each view to a quarter of its size and expands it step by step along the axis it does not see.

    As ``TwoDPermuteConcat`` of xrayto3D-benchmark: six convolutions of width 7, the first two of stride 2; then
    log2(size) - 2 transposed convolutions that double one axis each.

    Args:
        in_channels: of each view.
        size: of the patches, a power of two.
        features: of each view's volume.
    """

    def __init__(self, in_channels: int, size: int, features: int = 32) -> None:
        super().__init__()
        doublings = size.bit_length() - 3
        if 2 ** (doublings + 2) != size:
            raise ValueError(f"patches have a size that is a power of two, not {size}")
        self.encode_ap, self.encode_lat = (_encoder(in_channels, features) for _ in range(2))
        self.expand_ap = nn.Sequential(*[upconvolution(features, features, (1, 2, 1)) for _ in range(doublings)])
        self.expand_lat = nn.Sequential(*[upconvolution(features, features, (1, 1, 2)) for _ in range(doublings)])

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> torch.Tensor:
        """Views (B, C, N, N) -> (B, 2 features, N/4, N/4, N/4)."""
        ap_volume = self.expand_ap(along_p(self.encode_ap(ap)))
        return torch.cat([ap_volume, self.expand_lat(along_l(self.encode_lat(lat)))], dim=1)


class TransposedDecoder(nn.Sequential):
    """A row of transposed convolutions; the last gives logits.

    Args:
        in_channels: of the volume.
        channels: of each.
        strides: of each.
        last_kernel: width of the last, the others have 3.
    """

    def __init__(
        self, in_channels: int, channels: tuple[int, ...], strides: tuple[int, ...], last_kernel: int = 3
    ) -> None:
        steps = list(zip((in_channels, *channels[:-1]), channels, strides, strict=True))
        layers = [upconvolution(*step) for step in steps[:-1]]
        inputs, outputs, stride = steps[-1]
        padding = (last_kernel - 1) // 2
        layers.append(nn.ConvTranspose3d(inputs, outputs, last_kernel, stride, padding, stride - 1))
        super().__init__(*layers)


def _encoder(in_channels: int, features: int) -> nn.Module:
    first = [convolution(2, in_channels, features // 2, 2, 7), convolution(2, features // 2, features, 2, 7)]
    return nn.Sequential(*first, *[convolution(2, features, features, 1, 7) for _ in range(4)])
