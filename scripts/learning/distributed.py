"""Several processes that train one network."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
MISSING: Any = object()
THREADS_LET_GO_S = 0.5


def local_device() -> torch.device:
    """This process's GPU under ``torchrun``; the CPU on a machine without one."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def start() -> None:
    """Join the other processes of ``torchrun``: over NCCL on GPUs, over gloo on CPUs."""
    device = local_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave them."""
    if torch.distributed.is_initialized():
        # gloo's threads drop the tensors of their last work when it is done, for which they need Python's lock. One
        # that asks for it when the interpreter already ends aborts the process (seen in one run of five, PyTorch
        # 2.13), and nothing joins these threads while a DistributedDataParallel lives: sleeping gives them the lock.
        torch.distributed.barrier()
        time.sleep(THREADS_LET_GO_S)
        torch.distributed.destroy_process_group()


def world_size() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def gathered(share: list[T]) -> list[T]:
    """What all processes have together, in the order of the data they shared in turn (`DistributedSampler`)."""
    if world_size() == 1:
        return share
    shares: list[list[T]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(shares, share)
    turns = zip_longest(*shares, fillvalue=MISSING)
    return [item for turn in turns for item in turn if item is not MISSING]


def parallel(network: nn.Module, device: torch.device, apart: Sequence[str] = ()) -> DistributedDataParallel:
    """A network whose gradients are averaged over all processes.

    Batch statistics are those of all processes together on GPUs; PyTorch has no such layer for CPUs, where each
    process keeps to its own batch.

    Args:
        network: the same in every process.
        device: of this process.
        apart: parts of it that do not learn in this training; gradients of all others are waited for.
    """
    network = network.to(device)
    for part in apart:
        network.get_submodule(part).requires_grad_(False)
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    # Two passes of the discriminator precede one backward pass: buffers must not be sent round in between.
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, whose weights one process can read too."""
    return network.module if isinstance(network, DistributedDataParallel) else network
