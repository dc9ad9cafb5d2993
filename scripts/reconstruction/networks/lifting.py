"""From two images to one volume (the paper's 2D-3D transformation module)."""

from __future__ import annotations

import torch
from torch import nn


class ReplicateLift(nn.Module):
    """Repeat each view along the axis it does not see, in the common frame ``IPL``, and concatenate.

    AP shows (I, L) and is repeated along P; LAT shows (I, P) and is repeated along L. In this frame nothing needs to be
    rotated: it is what the paper's rotation brings about. The result lies channels-last in memory, which halves the
    time of the convolutions that follow on a CPU.
    """

    def forward(self, ap: torch.Tensor, lat: torch.Tensor) -> torch.Tensor:
        """AP (B, C, N, N) and LAT (B, C', N, N) -> (B, C + C', N, N, N)."""
        return lifted(ap, lat, [])


def lifted(ap: torch.Tensor, lat: torch.Tensor, volumes: list[torch.Tensor]) -> torch.Tensor:
    """Each view repeated along the axis that it does not see, and volumes behind them, channels-last in memory.

    Args:
        ap: (B, C, N, N).
        lat: (B, C', N, N).
        volumes: (B, C'', N, N, N) each.

    Returns:
        (B, C + C' + ..., N, N, N).
    """
    # With the channels as the last axis from the start nothing is written twice.
    frontal, lateral = ap.permute(0, 2, 3, 1).contiguous(), lat.permute(0, 2, 3, 1).contiguous()
    size = ap.shape[-1]
    parts = [frontal.unsqueeze(2).expand(-1, -1, size, -1, -1), lateral.unsqueeze(3).expand(-1, -1, -1, size, -1)]
    for volume in volumes:
        parts.append(volume.permute(0, 2, 3, 4, 1))
    return torch.cat(parts, dim=4).permute(0, 4, 1, 2, 3)
