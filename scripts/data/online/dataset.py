"""The online engine as a dataset of whole batches, for `torch.utils.data.DataLoader` with ``batch_size=None``."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.data.online.pool import CasePool
from scripts.data.online.samples import SampleOptions, make_samples


class OnlineBatches(Dataset):
    """Batch ``k`` of a seed, made when it is asked for; the same number gives the same batch.

    Args:
        pool: the patients; batches are made on its device.
        options: how samples are made.
        batch_size: samples.
        batches: an epoch, of which the engine knows no end.
        seed: of everything.
    """

    def __init__(
        self,
        pool: CasePool,
        options: SampleOptions | None = None,
        batch_size: int = 4,
        batches: int = 500,
        seed: int = 0,
    ) -> None:
        self.pool, self.options, self.seed = pool, options or SampleOptions(), seed
        self.batch_size, self.batches = batch_size, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, int(number)])
        picks = [self.pool.pick(rng) for _ in range(self.batch_size)]
        generator = torch.Generator(self.pool.device).manual_seed(int(rng.integers(2**62)))
        return make_samples(picks, self.options, generator)
