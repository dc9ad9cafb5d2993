"""Where a vertebra lies, how it is turned and how large it is, read off both films: nine numbers of the mean shape.

Place, turn and stretches decide most of an overlap: the mean shape of the level with nine right numbers has a Dice of
0.86 where a network that draws the vertebra voxel by voxel has 0.73, and axial turn, which no line of marks shows, is
most of the difference (docs/training-log.md). Nine numbers are learned from fewer samples than a volume takes.
"""

from __future__ import annotations

import torch
from torch import nn

from scripts.anatomy.placement import NUMBERS, by_kind
from scripts.levels import TABLE_SIZE
from scripts.reconstruction.networks.resunet import ResEncoder

# Of the layer that weighs levels.
LEVEL_WIDTH = 64
# What one unit of the network's answer is: mm, degrees, logarithm.
UNITS = by_kind(2.0, 8.0, 0.1)


class PoseReader(nn.Module):
    """Two patches with their centroid masks, level and tilt, to nine numbers.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        ap_encoder: AP features -> (B, F, N / 8, N / 8).
        lat_encoder: LAT features -> (B, F, N / 8, N / 8).
        size: N / 8.
        width: of the layers that look at the encoders' features.
        hidden: of the layers that bring both views together.
        dropout: of the first of them.
    """

    def __init__(
        self,
        fusion: nn.Module,
        ap_encoder: ResEncoder,
        lat_encoder: ResEncoder,
        size: int = 15,
        width: int = 64,
        hidden: int = 256,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.ap_encoder, self.lat_encoder = ap_encoder, lat_encoder
        self.ap_look, self.lat_look = _head(ap_encoder.features, width), _head(lat_encoder.features, width)
        self.level = nn.Embedding(TABLE_SIZE, 32)
        seen = 2 * 32 * ((size + 1) // 2) ** 2
        self.numbers = nn.Sequential(
            nn.Linear(seen + 32 + 1, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, NUMBERS),
        )
        nn.init.zeros_(self.numbers[-1].weight)
        nn.init.zeros_(self.numbers[-1].bias)
        self.levels = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(seen, LEVEL_WIDTH), nn.ReLU(), nn.Linear(LEVEL_WIDTH, TABLE_SIZE)
        )
        self.register_buffer("unit", torch.tensor(UNITS), persistent=False)

    def forward(self, image: torch.Tensor, level: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
        """What it reads.

        Args:
            image: (B, 4, N, N) AP patch, AP centroid mask, LAT patch, LAT centroid mask.
            level: (B,) int64 VerSe numbers, 0 where unknown.
            tilt: (B,) degrees by which each vertebra leans in the sagittal plane of its cube.

        Returns:
            (B, 9) float32: place (mm), turn (degrees) and log stretches of each mean shape.
        """
        return self.numbers_of(self.see(image), level, tilt)

    @torch.jit.export
    def numbers_of(self, seen: torch.Tensor, level: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
        """The same, of what it sees in the films: (B, seen) instead of an image."""
        known = torch.cat([seen, self.level(level), tilt.float()[:, None] / 20], 1)
        return self.numbers(known).float() * self.unit

    @torch.jit.export
    def level_logits(self, image: torch.Tensor) -> torch.Tensor:
        """What level it takes each vertebra for, where nobody says: (B, 4, N, N) -> (B, `TABLE_SIZE`) float32.

        Learned by itself, from what the reader sees: `scripts.reconstruction.training.levels.LevelClassifier`.
        """
        return self.levels(self.see(image).detach()).float()

    @torch.jit.export
    def see(self, image: torch.Tensor) -> torch.Tensor:
        """Both views' features, (B, seen)."""
        ap, lat = self._fused(image)
        return torch.cat([self._see_ap(ap), self._see_lat(lat)], 1)

    @torch.jit.export
    def see_mirrored(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What it sees in the films, and in those of the patient whose left and right are exchanged: (B, seen) each.

        The mirrored patient has the same lateral film. Pixels are fused by what they show, not by where they lie, so
        that a mirrored film fused is the fused film mirrored.
        """
        ap, lat = self._fused(image)
        beside = self._see_lat(lat)
        return torch.cat([self._see_ap(ap), beside], 1), torch.cat([self._see_ap(ap.flip(3)), beside], 1)

    def _fused(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ap, lat = self.fusion(image)
        # The fusion stays as the generator's training left it: its gradients would cost as much as all the rest.
        return ap.detach(), lat.detach()

    def _see_ap(self, ap: torch.Tensor) -> torch.Tensor:
        return self.ap_look(self.ap_encoder(ap)).flatten(1).float()

    def _see_lat(self, lat: torch.Tensor) -> torch.Tensor:
        return self.lat_look(self.lat_encoder(lat)).flatten(1).float()


def _head(features: int, width: int) -> nn.Sequential:
    """(B, F, n, n) -> (B, 32, n / 2, n / 2)."""
    return nn.Sequential(
        nn.BatchNorm2d(features),
        nn.Conv2d(features, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 32, 1),
    )
