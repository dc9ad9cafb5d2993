"""Lift and backbone on a coarser grid than the patches: what a CPU can train in an hour and run in a moment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CoarseBackbone(nn.Module):
    """A backbone whose logits are interpolated to the patches' grid.

    Thresholding interpolated logits places the surface between coarse voxels, so little is lost but what is thinner
    than one of them. Losses and metrics see the full grid.

    Args:
        backbone: (B, C, N / factor, N / factor, N / factor) -> (B, 1, N / factor, N / factor, N / factor).
        factor: 2 for a lift that leaves 60 of 120.
    """

    def __init__(self, backbone: nn.Module, factor: int = 2) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor

    def forward(self, lifted: torch.Tensor) -> torch.Tensor:
        """(B, C, N / factor, ...) -> logits (B, 1, N, N, N)."""
        logits = self.backbone(lifted)
        return F.interpolate(logits.float(), scale_factor=float(self.factor), mode="trilinear", align_corners=False)
