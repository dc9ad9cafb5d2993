"""Centroid fusion: tell the network which of the vertebrae in a patch is meant (the paper's first module)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class NonLocalBlock(nn.Module):
    """Self-attention over all pixels of an image, equation (1) of the paper.

    ``output = x + alpha * (softmax(theta(x)^T phi(x)) sigma(x)^T)``, with 1x1 convolutions theta, phi and sigma; after
    Wang 2018, doi 10.1109/CVPR.2018.00813. The (H W) x (H W) map (829 MB for one view at 120x120) is never stored:
    torch's fused attention walks over it in tiles, on CPU and GPU, in training too.

    What the paper leaves open: its convolutions map "to one dimension", which read as one channel would make the
    answer at a pixel depend on a single number there. So theta and phi have ``attention_channels``; sigma keeps the
    channels of x, which the sum requires. alpha is a learnable scalar that starts at 0, so that training starts from
    the plain network.

    Args:
        channels: of x.
        attention_channels: of theta(x) and phi(x). With the two channels patch and mask, theta^T phi has rank 3 at
            most (two channels and a bias), hence the default of 4 loses nothing.
        key_stride: average-pool what phi and sigma see by this factor, the saving that Wang 2018 proposes; 1 is
            equation (1) to the letter.
    """

    def __init__(self, channels: int, attention_channels: int = 4, key_stride: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, attention_channels, 1)
        self.phi = nn.Conv2d(channels, attention_channels, 1)
        self.sigma = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.key_stride = key_stride
        # Fused kernels want one width for query, key and value; zeros change neither product.
        width = max(channels, attention_channels)
        self.pad_query = width - attention_channels
        self.pad_value = width - channels
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        keys = F.avg_pool2d(x, self.key_stride) if self.key_stride > 1 else x
        query = F.pad(_tokens(self.theta(x)), (0, self.pad_query))
        key = F.pad(_tokens(self.phi(keys)), (0, self.pad_query))
        value = F.pad(_tokens(self.sigma(keys)), (0, self.pad_value))
        # Equation (1) does not scale the product, torch would by default.
        response = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        response = response[:, 0, :, : self.channels].transpose(1, 2).reshape(x.shape)
        return x + self.alpha * response


def _tokens(feature: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, 1, H W, C), unit last stride: with any other the fused kernel silently falls back."""
    return feature.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()


class CentroidFusion(nn.Module):
    """Patch and centroid mask of each view, fused by a non-local block of the view's own.

    Args:
        attention_channels: of the non-local blocks' theta and phi.
        key_stride: average-pool what phi and sigma see by this factor; 1 is the paper's equation (1).
        non_local: False only concatenates (the paper's ablation "Non-Local (w/o)").
    """

    out_channels = 2

    def __init__(self, attention_channels: int = 4, key_stride: int = 1, non_local: bool = True) -> None:
        super().__init__()
        self.ap = NonLocalBlock(2, attention_channels, key_stride) if non_local else nn.Identity()
        self.lat = NonLocalBlock(2, attention_channels, key_stride) if non_local else nn.Identity()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 4, H, W) -> the two views' features, (B, 2, H, W) each."""
        return self.ap(image[:, 0:2]), self.lat(image[:, 2:4])


class PatchOnly(nn.Module):
    """The patches without their centroid masks (the paper's ablation "Fusion of centroid (w/o)")."""

    out_channels = 1

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 4, H, W) -> the two patches, (B, 1, H, W) each."""
        return image[:, 0:1], image[:, 2:3]
