"""Hands a batch's levels, and how its vertebrae lean, to a network that makes use of them."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch, default_prepare_batch
from monai.inferers import SimpleInferer

from scripts.levels import level_number


class PrepareLevel(PrepareBatch):
    """``prepare_batch`` of MONAI's engines for `scripts.networks.level.LevelGenerator`.

    Batches of a prepared dataset name levels (``L1``), fresh samples number them and know how the vertebrae lean;
    what a batch lacks is left to the network's default.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, torch.Tensor]]:
        """Image, label, nothing, and ``level`` (B,) and ``tilt`` (B,) where the batch has them."""
        prepared = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
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


class AutocastInferer(SimpleInferer):
    """The network under autocast on any device; MONAI's own trainer knows CUDA only.

    Args:
        dtype: of what autocast lowers.
        enabled: whether it does.
    """

    def __init__(self, dtype: torch.dtype = torch.bfloat16, enabled: bool = True) -> None:
        super().__init__()
        self.dtype, self.enabled = dtype, enabled

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """See `monai.inferers.Inferer`."""
        with torch.autocast(inputs.device.type, self.dtype, enabled=self.enabled):
            return super().__call__(inputs, network, *args, **kwargs)


class PrepareNumbers(PrepareLevel):
    """``prepare_batch`` for `scripts.networks.pose.PoseReader`: what is to be read takes the label's place."""

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, torch.Tensor]]:
        """Image, numbers, nothing, and ``level`` and ``tilt``."""
        told = {**batchdata, "label": batchdata["numbers"]}
        return super().__call__(told, device, non_blocking, **kwargs)
