"""Autocast for MONAI's supervised trainer, on any device."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SimpleInferer


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
        """What ``network(inputs, *args, **kwargs)`` returns."""
        with torch.autocast(inputs.device.type, self.dtype, enabled=self.enabled):
            return super().__call__(inputs, network, *args, **kwargs)
