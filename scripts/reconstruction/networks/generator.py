"""The generator: fuse, lift, decode. Each part is a module of its own, so a variant is a composition in a config."""

from __future__ import annotations

import torch
from torch import nn


class Generator(nn.Module):
    """Two patches and their centroid masks to one vertebra.

    In ``configs/train.json`` the parts are `CentroidFusion`, `ReplicateLift` and `ResUNet`, with the choices that the
    paper leaves open explained there. Two channels a view are lifted: the fused patch and the fused mask.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: AP features, LAT features -> (B, C, N, N, N).
        backbone: (B, C, N, N, N) -> (B, 1, N, N, N).
    """

    def __init__(self, fusion: nn.Module, lift: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """AP patch, AP mask, LAT patch, LAT mask (B, 4, N, N) -> logits (B, 1, N, N, N) in ``IPL``."""
        ap, lat = self.fusion(image)
        return self.backbone(self.lift(ap, lat))
