"""What a baseline is shown, and the grid it can work on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from scripts.reconstruction.networks.fusion import CentroidFusion, PatchOnly


class Views(nn.Module):
    """The two views, untouched.

    Args:
        centroids: with each view's centroid mask as its second channel, as the paper gives them to all; False is what
            the baselines were published with.
    """

    def __init__(self, centroids: bool = True) -> None:
        super().__init__()
        self.views = CentroidFusion(non_local=False) if centroids else PatchOnly()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 4, N, N) -> AP and LAT, (B, 2 or 1, N, N) each."""
        return self.views(image)


class PaddedGenerator(nn.Module):
    """A generator that needs a size of its own, between patches and cubes of any smaller even size.

    Patches get a black margin, the cube loses its margin again: 120 = 2^3 x 15 becomes 128, 60 becomes 64.

    Args:
        generator: (B, 4, size, size) -> (B, 1, size, size, size).
        size: what it takes.
    """

    def __init__(self, generator: nn.Module, size: int) -> None:
        super().__init__()
        self.generator = generator
        self.size = size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 4, N, N) -> logits (B, 1, N, N, N).

        Raises:
            ValueError: N is odd or larger than ``size``.
        """
        count = image.shape[-1]
        margin = (self.size - count) // 2
        if margin < 0 or count + 2 * margin != self.size:
            raise ValueError(f"patches of {count} cannot be padded evenly to {self.size}")
        logits = self.generator(F.pad(image, (margin, margin, margin, margin)))
        inside = slice(margin, margin + count)
        return logits[:, :, inside, inside, inside]
