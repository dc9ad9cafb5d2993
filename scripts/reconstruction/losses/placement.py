"""How far a reading of place, turn and size is off."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scripts.reconstruction.networks.pose import UNITS


class PlacementLoss(nn.Module):
    """Smooth L1 of the nine numbers (`scripts.anatomy.placement`) in the units in which a reader answers.

    Samples whose numbers are not known do not count.

    Args:
        axial_weight: of axial turn, against 1 of each other number: it is what costs most where it is not read.
    """

    def __init__(self, axial_weight: float = 2.5) -> None:
        super().__init__()
        self.register_buffer("unit", torch.tensor(UNITS), persistent=False)
        weights = torch.ones(9)
        weights[3] = axial_weight
        self.register_buffer("weights", weights / weights.mean(), persistent=False)

    def forward(self, read: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Read and true numbers (B, 9), NaN where unknown -> a scalar."""
        unit, weights = self.unit.to(read.device), self.weights.to(read.device)
        known = torch.isfinite(numbers).all(1)
        wanted = torch.where(known[:, None], numbers, read.detach())
        error = F.smooth_l1_loss(read / unit, wanted / unit, reduction="none")
        return (error * weights * known[:, None]).mean()
