"""A generator at a coarser grid than its patches: what a CPU can train in an hour and run in a tenth of a second."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CoarseGenerator(nn.Module):
    """Pools the patches, runs a generator on them and interpolates its logits back to the patches' grid.

    Thresholding interpolated logits places the surface between coarse voxels, so little is lost but what is thinner
    than one of them. Losses and metrics see the full grid.

    Args:
        generator: (B, 4, N / factor, N / factor) -> (B, 1, N / factor, N / factor, N / factor).
        factor: of pooling; 2 makes 60 of 120.
    """

    def __init__(self, generator: nn.Module, factor: int = 2) -> None:
        super().__init__()
        self.generator = generator
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 4, N, N) -> logits (B, 1, N, N, N)."""
        logits = self.generator(F.avg_pool2d(image, self.factor))
        return F.interpolate(logits.float(), scale_factor=float(self.factor), mode="trilinear", align_corners=False)
