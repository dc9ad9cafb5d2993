"""Parts that several baselines share."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import nn


def convolution(
    dims: int, inputs: int, outputs: int, stride: int = 1, kernel: int = 3, norm: str = "BATCH"
) -> nn.Module:
    """Convolution, normalisation, ReLU."""
    return Convolution(dims, inputs, outputs, stride, kernel, act="RELU", norm=norm, bias=norm == "INSTANCE")


def upconvolution(
    inputs: int, outputs: int, stride: int | tuple[int, int, int] = 2, kernel: int = 3, norm: str = "BATCH"
) -> nn.Module:
    """Transposed 3D convolution that multiplies the size by its stride, normalisation, ReLU."""
    strides = (stride,) * 3 if isinstance(stride, int) else stride
    padding = (kernel - 1) // 2
    return Convolution(
        3,
        inputs,
        outputs,
        strides,
        kernel,
        act="RELU",
        norm=norm,
        bias=norm == "INSTANCE",
        is_transposed=True,
        padding=padding,
        output_padding=tuple(s + 2 * padding - kernel for s in strides),
    )


def along_p(ap: torch.Tensor, depth: int = 1) -> torch.Tensor:
    """An AP map (B, C, I, L), repeated along the axis it does not see -> (B, C, I, depth, L)."""
    return ap.unsqueeze(3).expand(-1, -1, -1, depth, -1)


def along_l(lat: torch.Tensor, depth: int = 1) -> torch.Tensor:
    """A LAT map (B, C, I, P) repeated along the axis that the view misses -> (B, C, I, P, depth)."""
    return lat.unsqueeze(4).expand(-1, -1, -1, -1, depth)


def ap_channels_as_depth(ap: torch.Tensor, depth: int) -> torch.Tensor:
    """An AP map (B, C P, I, L) whose channels hold the depth -> (B, C, I, P, L)."""
    return ap.unflatten(1, (-1, depth)).permute(0, 1, 3, 2, 4)


def lat_channels_as_depth(lat: torch.Tensor, depth: int) -> torch.Tensor:
    """A LAT map (B, C L, I, P) whose channels hold the depth -> (B, C, I, P, L)."""
    return lat.unflatten(1, (-1, depth)).permute(0, 1, 3, 4, 2)
