"""Look at each view before it is lifted: outlines and processes are found in 2D, where a network is cheap."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scripts.reconstruction.networks.lifting import ReplicateLift


class EncodedLift(nn.Module):
    """A 2D network for each view, at the patches' full resolution; its features are pooled and lifted.

    The paper lifts the fused patch itself, so that all recognition is left to 3D convolutions, which see the same pixel
    N times over. Features learned in 2D cost a fiftieth of that.

    Args:
        ap_encoder: (B, C, N, N) -> (B, F, N, N).
        lat_encoder: the same for the lateral view.
        factor: of pooling; 2 lifts to N / 2.
    """

    def __init__(self, ap_encoder: nn.Module, lat_encoder: nn.Module, factor: int = 2) -> None:
        super().__init__()
        self.ap_encoder = ap_encoder
        self.lat_encoder = lat_encoder
        self.lift = ReplicateLift()
        self.factor = factor

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> torch.Tensor:
        """AP and LAT (B, C, N, N) -> (B, 2 F, N / factor, N / factor, N / factor)."""
        ap, lat = self.encode(ap, lat)
        return self.lift(ap, lat)

    @torch.jit.export
    def encode(self, ap: torch.Tensor, lat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """AP and LAT (B, C, N, N) -> features of each, (B, F, N / factor, N / factor), that are lifted then."""
        pooled_ap = F.avg_pool2d(self.ap_encoder(ap), self.factor)
        return pooled_ap, F.avg_pool2d(self.lat_encoder(lat), self.factor)
