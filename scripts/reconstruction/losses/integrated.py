"""Equation (2): ``lambda Dice + alpha Hausdorff + beta Focal + gamma LSGAN``.

Conventions where the paper or MONAI leave room:

* Dice (5): one value a sample over its single foreground channel, smoothed by 1e-5.
* Hausdorff (6): MONAI's `HausdorffDTLoss`, its distances computed by `losses.distance`, to the power 2 (Karimi
  2019, doi 10.1109/TMI.2019.2930068; the paper does not say). ``include_background=True`` because there is one channel
  only, and it is the foreground. At the printed weight of 1e-4 the term is a thousandth of the others; it is kept as
  printed.
* Focal (7): the paper's alpha_t = 0.2 is one factor for every voxel. MONAI's ``FocalLoss(alpha=0.2)`` would mean
  something else: 0.2 on the vertebra and 0.8 on the background, against the purpose the paper gives. So MONAI's loss
  runs without alpha and is multiplied by 0.2; ``focal_class_weight`` turns the other reading on.
* LSGAN (3), (4): `PatchAdversarialLoss` with ``no_activation_leastsq=True``; by default it puts a leaky ReLU on the
  scores, which is not a least-squares GAN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss, PatchAdversarialLoss
from torch import nn

from scripts.reconstruction.losses.distance import HausdorffLoss


class IntegratedLoss(nn.Module):
    """The generator's loss, term by term. A term of weight 0 is not computed.

    Args:
        dice_weight: lambda.
        hausdorff_weight: alpha.
        focal_weight: beta.
        adversarial_weight: gamma.
        cross_entropy_weight: of binary cross-entropy, summed and divided by the vertebra's own volume; not in the
            paper. It has a gradient where the network is wrongly sure, which Dice and focal term have not.
        focal_alpha: alpha_t, one factor for every voxel.
        focal_gamma: exponent of the focal term.
        focal_class_weight: weight of the foreground (background 1 minus it) inside the focal term; None for neither.
        hausdorff_power: exponent of the distances.
    """

    def __init__(
        self,
        dice_weight: float = 10.0,
        hausdorff_weight: float = 1e-4,
        focal_weight: float = 10.0,
        adversarial_weight: float = 0.1,
        cross_entropy_weight: float = 0.0,
        focal_alpha: float = 0.2,
        focal_gamma: float = 5.0,
        focal_class_weight: float | None = None,
        hausdorff_power: float = 2.0,
    ) -> None:
        super().__init__()
        self.weights = {
            "dice": dice_weight,
            "hausdorff": hausdorff_weight,
            "focal": focal_weight,
            "adversarial": adversarial_weight,
            "cross_entropy": cross_entropy_weight,
        }
        self.focal_alpha = focal_alpha
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)
        self.hausdorff = HausdorffLoss(alpha=hausdorff_power, sigmoid=True, include_background=True)
        self.focal = FocalLoss(gamma=focal_gamma, alpha=focal_class_weight)
        self.least_squares = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    @property
    def is_adversarial(self) -> bool:
        """Whether a discriminator is needed."""
        return self.weights["adversarial"] > 0

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, fake_scores: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """The unweighted terms, and their weighted sum under ``total``.

        Args:
            logits: (B, 1, N, N, N).
            target: (B, 1, N, N, N), 0 or 1.
            fake_scores: of the discriminator for the generated masks; needed if ``is_adversarial``.
        """
        logits, target = logits.float(), target.float()
        terms: dict[str, torch.Tensor] = {}
        if self.weights["dice"] > 0:
            terms["dice"] = self.dice(logits, target)
        if self.weights["hausdorff"] > 0:
            terms["hausdorff"] = self.hausdorff(logits, target)
        if self.weights["focal"] > 0:
            terms["focal"] = self.focal_alpha * self.focal(logits, target)
        if self.weights["cross_entropy"] > 0:
            terms["cross_entropy"] = volume_cross_entropy(logits, target)
        if self.is_adversarial:
            if fake_scores is None:
                raise ValueError("the adversarial term needs the discriminator's scores")
            terms["adversarial"] = self.least_squares(fake_scores.float(), target_is_real=True, for_discriminator=False)
        total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        return {**terms, "total": total}


def volume_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, summed over a sample and divided by the voxels of its vertebra; mean over samples.

    A mean over all voxels would make it vanish: a vertebra fills some three hundredths of its cube.

    Args:
        logits: (B, 1, N, N, N).
        target: (B, 1, N, N, N), 0 or 1.
    """
    total = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((1, 2, 3, 4))
    return (total / target.sum((1, 2, 3, 4)).clamp(min=1.0)).mean()


class DiscriminatorLoss(nn.Module):
    """Equation (4): true masks towards 1, generated ones towards 0."""

    def __init__(self) -> None:
        super().__init__()
        self.least_squares = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def forward(self, real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
        """Scores of any shape -> scalar."""
        real = self.least_squares(real_scores.float(), target_is_real=True, for_discriminator=True)
        fake = self.least_squares(fake_scores.float(), target_is_real=False, for_discriminator=True)
        return real + fake
