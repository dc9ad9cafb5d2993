"""A generator that knows the vertebra's level: the level's average vertebra goes into its trunk beside the films."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scripts.networks.encoding import EncodedLift

# VerSe numbers are places in the table; 0 is an unknown level.
LEVELS = 29
UNKNOWN = 0


class LevelPrior(nn.Module):
    """The average vertebra of each level as a volume; a table that comes with the weights.

    Values are signed distances, -1 and 1 at some 12 mm inside and outside. An unknown level gets the mean of all.

    Args:
        size: of the volumes that it gives.
        stored: of the table's volumes.
    """

    def __init__(self, size: int = 60, stored: int = 40) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("table", torch.zeros(LEVELS, stored, stored, stored, dtype=torch.int8))

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """VerSe numbers (B,) -> (B, 1, size, size, size)."""
        volumes = self.table[level.clamp(0, self.table.shape[0] - 1)].float() / 127
        size = (self.size, self.size, self.size)
        return F.interpolate(volumes[:, None], size=size, mode="trilinear", align_corners=False)


class LevelGenerator(nn.Module):
    """Two patches with their centroid masks, and the level if it is known, to one vertebra.

    Its parts are those of `scripts.networks.generator.Generator`, whose weights it can begin with, and two more.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: a `scripts.networks.encoding.EncodedLift` without rays.
        prior: VerSe numbers (B,) -> (B, 1, M, M, M).
        backbone: a `FineBackbone`.
    """

    # Known of networks from TorchScript too.
    __constants__ = ("takes_level",)

    def __init__(self, fusion: nn.Module, lift: EncodedLift, prior: nn.Module, backbone: FineBackbone) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.prior = prior
        self.backbone = backbone
        self.takes_level = True

    def forward(self, image: torch.Tensor, level: torch.Tensor | None = None) -> torch.Tensor:
        """Image (B, 4, N, N), and VerSe numbers (B,) int64 with 0 for unknown, -> logits (B, 1, N, N, N) in ``IPL``."""
        if level is None:
            level = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
        ap, lat = self.fusion(image)
        ap, lat = self.lift.encode(ap, lat)
        return self.backbone(ap, lat, self.prior(level).to(ap.dtype))


class FineBackbone(nn.Module):
    """A trunk on a coarse grid, corrected voxel by voxel on the lift's own grid.

    Processes are four to eight millimetres thick, as much as two voxels of the trunk's finest features, while what
    the films show of a voxel is known twice as finely. So each voxel of the lift's grid is judged once more by what
    the trunk saw there, what both films show of it, the prior, and where it lies. What the films show is added up in
    2D, so that it costs little.

    Args:
        backbone: (B, 2 F + 1, M, M, M) -> (B, 1 + width, M, M, M): coarse logits, then what it saw.
        view_features: F, of each view.
        size: M.
        width: of the layers that correct.
        factor: of the final interpolation.
    """

    def __init__(
        self, backbone: nn.Module, view_features: int = 16, size: int = 60, width: int = 15, factor: int = 2
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor
        self.from_ap = nn.Conv2d(view_features, width, 1)
        self.from_lat = nn.Conv2d(view_features, width, 1)
        self.from_prior = nn.Conv3d(1, width, 1)
        self.from_place = nn.ParameterList(nn.Parameter(torch.zeros(width, size)) for _ in range(3))
        self.correct = nn.Sequential(nn.ReLU(), nn.Conv3d(width, 16, 1), nn.ReLU(), nn.Conv3d(16, 1, 1))
        nn.init.zeros_(self.correct[-1].weight)
        nn.init.zeros_(self.correct[-1].bias)

    def forward(self, ap: torch.Tensor, lat: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """AP and LAT features (B, F, M, M), prior (B, 1, M, M, M) -> logits (B, 1, factor M, ...)."""
        size = ap.shape[-1]
        ap_volume = ap.unsqueeze(3).expand(-1, -1, -1, size, -1)
        lat_volume = lat.unsqueeze(4).expand(-1, -1, -1, -1, size)
        lifted = torch.cat([ap_volume, lat_volume, prior], dim=1)
        seen = self.backbone(lifted.contiguous(memory_format=torch.channels_last_3d))
        down, back, left = self.from_place[0], self.from_place[1], self.from_place[2]
        frontal = self.from_ap(ap) + (down[:, :, None] + left[:, None, :]).to(ap.dtype)
        lateral = self.from_lat(lat) + back[:, None, :].to(lat.dtype)
        known = seen[:, 1:] + frontal.unsqueeze(3) + lateral.unsqueeze(4) + self.from_prior(prior)
        corrected = seen[:, :1] + self.correct(known)
        return F.interpolate(corrected.float(), scale_factor=float(self.factor), mode="trilinear", align_corners=False)
