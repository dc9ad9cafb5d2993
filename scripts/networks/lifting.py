"""From two images to one volume (the paper's 2D-3D transformation module)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


class UnprojectLift(nn.Module):
    """Each voxel takes what each view shows of it: the same as `ReplicateLift` for parallel rays, exact for others.

    Args of ``forward`` are those of `ReplicateLift`, with ``rays`` (B, 4, K, K, K) from
    `scripts.geometry.unprojection.ray_positions`; without them it repeats.
    """

    __constants__ = ("unprojects",)

    def __init__(self) -> None:
        super().__init__()
        self.replicate = ReplicateLift()
        self.unprojects = True

    def forward(self, ap: torch.Tensor, lat: torch.Tensor, rays: torch.Tensor | None = None) -> torch.Tensor:
        """AP (B, C, N, N) and LAT (B, C', N, N) -> (B, C + C', N, N, N)."""
        if rays is None:
            return self.replicate(ap, lat)
        volumes = [unproject(ap, rays[:, :2]), unproject(lat, rays[:, 2:])]
        return torch.cat(volumes, dim=1).contiguous(memory_format=torch.channels_last_3d)


def unproject(view: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A volume of what a view shows at each voxel.

    Args:
        view: (B, C, N, N).
        positions: (B, 2, K, K, K) of knots that reach from border to border of the volume: row and column, -1 to 1
            from border to border of the view.

    Returns:
        (B, C, N, N, N).
    """
    size, knots = view.shape[-1], positions.shape[-1]
    voxel = (torch.arange(size, device=view.device) + 0.5) * ((knots - 1) / size)
    hats = (1 - (voxel[:, None] - torch.arange(knots, device=view.device)).abs()).clamp(min=0)
    where = positions.float().flip(1).permute(0, 2, 3, 4, 1)
    where = torch.einsum("bxyzc,ix,jy,kz->bijkc", where, hats, hats, hats).reshape(-1, size, size * size, 2)
    sampled = F.grid_sample(view.float(), where, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.reshape(view.shape[0], view.shape[1], size, size, size).to(view.dtype)


def takes_rays(network: nn.Module) -> bool:
    """Whether a lift, or a network with one, makes use of rays; networks from TorchScript know it too."""
    return bool(getattr(network, "unprojects", False))
