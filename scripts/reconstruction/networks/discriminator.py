"""The discriminator: does this look like a vertebra, everywhere?"""

from __future__ import annotations

import torch
from monai.networks.nets import PatchDiscriminator


class VertebraDiscriminator(PatchDiscriminator):
    """MONAI's PatchGAN (Isola 2017, doi 10.1109/CVPR.2017.632) in 3D, returning its scores only.

    The parent returns the list of all feature maps; a loss that averages over that list raises no error and is wrong.
    Arguments are the parent's.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Mask or probability (B, 1, N, N, N) -> one unbounded score a patch, (B, 1, n, n, n)."""
        return super().forward(x)[-1]
