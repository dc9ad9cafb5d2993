"""A generator that knows the vertebra's level: the level's average vertebra goes into its trunk beside the films."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

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

    The parts are those of `scripts.networks.generator.Generator`, which is this without ``prior``.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: AP features, LAT features -> (B, C, M, M, M).
        prior: VerSe numbers (B,) -> (B, 1, M, M, M).
        backbone: (B, C + 1, M, M, M) -> (B, 1, N, N, N).
    """

    def __init__(self, fusion: nn.Module, lift: nn.Module, prior: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.prior = prior
        self.backbone = backbone

    def forward(self, image: torch.Tensor, level: torch.Tensor | None = None) -> torch.Tensor:
        """Image (B, 4, N, N), and VerSe numbers (B,) int64 with 0 for unknown, -> logits (B, 1, N, N, N) in ``IPL``."""
        if level is None:
            level = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
        ap, lat = self.fusion(image)
        lifted = self.lift(ap, lat)
        return self.backbone(torch.cat([lifted, self.prior(level).to(lifted.dtype)], dim=1))


class FineBackbone(nn.Module):
    """A trunk on a coarse grid, and a few channels on the lift's own grid that correct it.

    Processes are four to eight millimetres thick, as much as two voxels of the trunk's finest features.

    Args:
        backbone: (B, C, M, M, M) -> (B, 1 + features, M, M, M): coarse logits, then what it saw.
        in_channels: C.
        features: of the trunk.
        reduced: channels to which the lifted volume is reduced.
        width: of the convolutions that correct.
        factor: of the final interpolation.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: int = 33,
        features: int = 7,
        reduced: int = 8,
        width: int = 16,
        factor: int = 2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor
        self.reduce = nn.Conv3d(in_channels, reduced, 1)
        last = nn.Conv3d(width, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        first = nn.Conv3d(1 + features + reduced, width, 3, padding=1, bias=False)
        self.correct = nn.Sequential(first, nn.BatchNorm3d(width), nn.ReLU(), last)

    def forward(self, lifted: torch.Tensor) -> torch.Tensor:
        """(B, C, M, M, M) -> logits (B, 1, factor M, ...)."""
        seen = self.backbone(lifted)
        corrected = seen[:, :1] + self.correct(torch.cat([seen, self.reduce(lifted)], dim=1))
        return F.interpolate(corrected.float(), scale_factor=float(self.factor), mode="trilinear", align_corners=False)
