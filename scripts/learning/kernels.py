"""Which of cuDNN's kernels a GPU computes with."""

from __future__ import annotations

import torch


def choose_kernels(deterministic: bool) -> None:
    """The fastest kernels, unless the same bits are asked for.

    cuDNN tries its kernels at the first step, which pays in a training, whose batches are all of one shape. MONAI's
    `set_determinism` forbids it wherever a seed is set, so this comes after it.

    Args:
        deterministic: the same bits in every run.
    """
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
