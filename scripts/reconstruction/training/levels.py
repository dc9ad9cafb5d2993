"""Hands a batch's levels, and how its vertebrae lean, to a network that makes use of them."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch, default_prepare_batch
from torch import nn

from scripts.levels import level_number
from scripts.reconstruction.networks.pose import PoseReader


class LevelClassifier(nn.Module):
    """A reader as a network that says levels, for training that part of it alone.

    Args:
        reader: whose `levels` learn.
    """

    def __init__(self, reader: PoseReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, image: torch.Tensor, level: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
        """(B, 4, N, N) -> (B, `TABLE_SIZE`) logits; level and tilt are what is to be learned, and not looked at."""
        return self.reader.level_logits(image)


class PrepareLevel(PrepareBatch):
    """``prepare_batch`` of MONAI's engines for `scripts.reconstruction.networks.level.LevelGenerator`.

    Batches of a prepared dataset name levels (``L1``), fresh samples number them and know how the vertebrae lean;
    what a batch lacks is left to the network's default.

    Args:
        label: key of what is to be learned; ``numbers`` for `scripts.reconstruction.networks.pose.PoseReader`.
    """

    def __init__(self, label: str = "label") -> None:
        super().__init__()
        self.label = label

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, torch.Tensor]]:
        """Image, label, nothing, and ``level`` (B,) and ``tilt`` (B,) where the batch has them."""
        told = batchdata if self.label == "label" else {**batchdata, "label": batchdata[self.label]}
        prepared = default_prepare_batch(told, device, non_blocking, **kwargs)
        image, label = prepared if isinstance(prepared, tuple) else (prepared, None)
        extras = {}
        if "level" in batchdata:
            levels = batchdata["level"]
            if not isinstance(levels, torch.Tensor):
                levels = torch.tensor([level_number(name) if isinstance(name, str) else int(name) for name in levels])
            extras["level"] = levels.to(device)
        if "tilt" in batchdata:
            extras["tilt"] = torch.as_tensor(batchdata["tilt"]).to(device)
        return image, label, (), extras
