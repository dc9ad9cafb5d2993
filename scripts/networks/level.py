"""A generator that knows the vertebra's level: the level's average vertebra goes into its trunk beside the films."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scripts.geometry.cropping import CUBE_POSTERIOR_OFFSET_MM, CUBE_SIZE
from scripts.networks.encoding import EncodedLift
from scripts.networks.lifting import replicated

# VerSe numbers are places in the table; 0 is an unknown level.
LEVELS = 29
UNKNOWN = 0
# Signed distances of averages end here.
REACH_MM = 12.0


class LevelPrior(nn.Module):
    """The average vertebra of each level as a volume; a table that comes with the weights.

    Values are signed distances, -1 and 1 at `REACH_MM` inside and outside. An unknown level gets the mean of all.

    Args:
        size: of the volumes that it gives.
        stored: of the table's volumes.
    """

    def __init__(self, size: int = 60, stored: int = 40) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("table", torch.zeros(LEVELS, stored, stored, stored, dtype=torch.int8))
        # The body's centroid in a cube that reaches from -1 to 1 along (Inferior, Posterior).
        self.pivot = (0.0, -2 * CUBE_POSTERIOR_OFFSET_MM / CUBE_SIZE)

    def forward(self, level: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
        """Average vertebrae at their places in their cubes.

        Args:
            level: (B,) VerSe numbers.
            tilt: (B,) degrees by which each leans in the sagittal plane of its cube, feet towards the back.

        Returns:
            (B, 1, size, size, size).
        """
        volumes = self.table[level.clamp(0, self.table.shape[0] - 1)].float() / 127
        angle = torch.deg2rad(tilt.float())
        cos, sin = torch.cos(angle), torch.sin(angle)
        down, back = self.pivot
        theta = torch.zeros(level.shape[0], 3, 4, device=volumes.device)
        # Rows and columns count from the last axis: Left, Posterior, Inferior.
        theta[:, 0, 0] = 1.0
        theta[:, 1, 1], theta[:, 1, 2] = cos, -sin
        theta[:, 2, 1], theta[:, 2, 2] = sin, cos
        theta[:, 1, 3] = back - (cos * back - sin * down)
        theta[:, 2, 3] = down - (sin * back + cos * down)
        size = self.size
        grid = F.affine_grid(theta, [level.shape[0], 1, size, size, size], align_corners=False)
        return F.grid_sample(volumes[:, None], grid, padding_mode="border", align_corners=False)


class LevelGenerator(nn.Module):
    """Two patches with their centroid masks, and the level if it is known, to one vertebra.

    Its parts are those of `scripts.networks.generator.Generator`, whose weights it can begin with, and two more.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: a `scripts.networks.encoding.EncodedLift` without rays.
        prior: a `LevelPrior` for volumes of M.
        backbone: a `FineBackbone`.
        prior_gain: what a millimetre of the prior's signed distance adds to the logits of a known level. A film shows
            some vertebrae badly, and then the average vertebra is the better guess.
    """

    # Known of networks from TorchScript too.
    __constants__ = ("takes_level",)

    def __init__(
        self,
        fusion: nn.Module,
        lift: EncodedLift,
        prior: LevelPrior,
        backbone: FineBackbone,
        prior_gain: float = 0.0,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.prior = prior
        self.backbone = backbone
        self.takes_level = True
        self.prior_logit = prior_gain * REACH_MM

    def forward(
        self, image: torch.Tensor, level: torch.Tensor | None = None, tilt: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits of vertebrae in their cubes.

        Args:
            image: (B, 4, N, N), see `scripts.geometry.cropping.network_input`.
            level: (B,) int64 VerSe numbers, 0 where unknown; all unknown if None.
            tilt: (B,) degrees, see `LevelPrior`; 0 if None.

        Returns:
            (B, 1, N, N, N) in ``IPL``.
        """
        if level is None:
            level = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
        if tilt is None:
            tilt = torch.zeros(image.shape[0], device=image.device)
        prior = self.prior(level, tilt)
        ap, lat = self.fusion(image)
        ap, lat = self.lift.encode(ap, lat)
        known = (level > 0).to(prior.dtype)[:, None, None, None, None]
        expected = prior * (-self.prior_logit) * known
        return self.backbone(ap, lat, prior.to(ap.dtype), expected)


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

    def forward(self, ap: torch.Tensor, lat: torch.Tensor, prior: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """AP and LAT features (B, F, M, M), prior and logits to begin with (B, 1, M, ...) -> (B, 1, factor M, ...)."""
        lifted = torch.cat(replicated(ap, lat) + [prior], dim=1)
        seen = self.backbone(lifted.contiguous(memory_format=torch.channels_last_3d))
        down, back, left = self.from_place[0], self.from_place[1], self.from_place[2]
        frontal = self.from_ap(ap) + (down[:, :, None] + left[:, None, :]).to(ap.dtype)
        lateral = self.from_lat(lat) + back[:, None, :].to(lat.dtype)
        known = seen[:, 1:] + frontal.unsqueeze(3) + lateral.unsqueeze(4) + self.from_prior(prior)
        corrected = seen[:, :1].float() + self.correct(known).float() + expected
        return F.interpolate(corrected, scale_factor=float(self.factor), mode="trilinear", align_corners=False)
