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
        return torch.cat(replicated(ap, lat), dim=1).contiguous(memory_format=torch.channels_last_3d)


def replicated(ap: torch.Tensor, lat: torch.Tensor) -> list[torch.Tensor]:
    """AP (B, C, N, N) and LAT (B, C', N, N), each repeated along the axis it does not see; nothing is copied."""
    size = ap.shape[-1]
    return [ap.unsqueeze(3).expand(-1, -1, -1, size, -1), lat.unsqueeze(4).expand(-1, -1, -1, -1, size)]
