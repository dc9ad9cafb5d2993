"""After Swin-X2S (Liu 2025): one 2D Swin encoder for both views, lifted at each scale, joined by cross-attention."""

from __future__ import annotations

import torch
from monai.networks.blocks import CrossAttentionBlock, UnetrUpBlock
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from scripts.reconstruction.networks.baselines.blocks import ap_channels_as_depth, lat_channels_as_depth


class SwinLift(nn.Module):
    """2D Swin features of both views, each scale's channels spread into depth by a 1x1 convolution.

    Args:
        in_channels: of each view.
        size: of the patches, a multiple of 32.
        features: of the Swin transformer's first scale; it doubles at each.
        widths: channels of the lifted scales, N/2 to N/32.
    """

    def __init__(
        self, in_channels: int, size: int, features: int = 24, widths: tuple[int, ...] = (16, 24, 32, 48, 96)
    ) -> None:
        super().__init__()
        window, patch = (8, 8), (2, 2)
        self.swin = SwinTransformer(in_channels, features, window, patch, (2, 2, 2, 2), (3, 6, 12, 24), spatial_dims=2)
        depths = [size // 2 ** (k + 1) for k in range(len(widths))]
        self.ap, self.lat = (
            nn.ModuleList(
                nn.Conv2d(features * 2**k, w * d, 1) for k, (w, d) in enumerate(zip(widths, depths, strict=True))
            )
            for _ in range(2)
        )

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Views (B, C, N, N) -> pairs (AP, LAT) of (B, width, n, n, n), n from N/2 to N/32."""
        pairs = []
        scales = zip(self.ap, self.lat, self.swin(ap), self.swin(lat), strict=True)
        for spread_ap, spread_lat, seen_ap, seen_lat in scales:
            depth = seen_ap.shape[-1]
            ap_volume = ap_channels_as_depth(spread_ap(seen_ap), depth)
            pairs.append((ap_volume, lat_channels_as_depth(spread_lat(seen_lat), depth)))
        return pairs


class CrossViewAttention(nn.Module):
    """Each voxel of a view's volume asks all voxels of the other's.

    Args:
        channels: of each volume.
        tokens: voxels.
        heads: of the attention.
    """

    def __init__(self, channels: int, tokens: int, heads: int = 4) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.ask = CrossAttentionBlock(channels, heads, use_flash_attention=True)

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, n, n, n) each -> the same."""
        a, b = (self.norm(view.flatten(2).transpose(1, 2) + self.position) for view in (ap, lat))
        there, back = self.ask(a, b), self.ask(b, a)
        return ap + there.transpose(1, 2).view_as(ap), lat + back.transpose(1, 2).view_as(lat)


class SwinX2SDecoder(nn.Module):
    """Cross-attention at the two coarsest scales, then MONAI's UNETR blocks.

    Args:
        size: of the patches.
        widths: channels of the lifted scales, N/2 to N/32.
    """

    def __init__(self, size: int, widths: tuple[int, ...] = (16, 24, 32, 48, 96)) -> None:
        super().__init__()
        coarsest = len(widths)
        self.attention = nn.ModuleList(
            CrossViewAttention(widths[k], (size // 2 ** (k + 1)) ** 3) for k in range(coarsest - 2, coarsest)
        )
        steps = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(UnetrUpBlock(3, 2 * i, 2 * o, 3, 2, "instance", res_block=True) for i, o in steps)
        self.head = nn.ConvTranspose3d(2 * widths[0], 1, 4, 2, 1)

    def forward(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Lifted features of AP and LAT at each scale -> logits (B, 1, N, N, N)."""
        plain = len(pairs) - len(self.attention)
        pairs = pairs[:plain] + [ask(*pair) for ask, pair in zip(self.attention, pairs[plain:], strict=True)]
        volumes = [torch.cat(pair, dim=1) for pair in pairs]
        x = volumes.pop()
        for up, skip in zip(self.up, reversed(volumes), strict=True):
            x = up(x, skip)
        return self.head(x)
