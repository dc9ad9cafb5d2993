"""The generator: fuse, lift, decode. Each part is a module of its own, so a variant is a composition in a config."""

from __future__ import annotations

import torch
from torch import nn

from scripts.networks.lifting import takes_rays


class Generator(nn.Module):
    """Two patches and their centroid masks to one vertebra.

    In ``configs/train.json`` the parts are `CentroidFusion`, `ReplicateLift` and `ResUNet`, with the choices that the
    paper leaves open explained there. Two channels a view are lifted: the fused patch and the fused mask.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: AP features, LAT features -> (B, C, N, N, N); also given the rays if its ``unprojects`` is true.
        backbone: (B, C, N, N, N) -> (B, 1, N, N, N).
    """

    # TorchScript compiles only the call that fits the lift.
    __constants__ = ("unprojects",)

    def __init__(self, fusion: nn.Module, lift: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.backbone = backbone
        self.unprojects = takes_rays(lift)

    def forward(self, image: torch.Tensor, rays: torch.Tensor | None = None) -> torch.Tensor:
        """Image (B, 4, N, N), see `scripts.geometry.cropping.network_input` -> logits (B, 1, N, N, N) in ``IPL``.

        Rays are `scripts.geometry.unprojection.ray_positions` (B, 4, K, K, K), of use where ``unprojects`` is true.
        """
        ap, lat = self.fusion(image)
        if self.unprojects:
            return self.backbone(self.lift(ap, lat, rays))
        return self.backbone(self.lift(ap, lat))
