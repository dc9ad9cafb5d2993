"""What a measurement took of memory."""

from __future__ import annotations

import resource

import torch


def peak_mb(device: str) -> float:
    """The most that was in use so far, in MiB: of the GPU, or by this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
