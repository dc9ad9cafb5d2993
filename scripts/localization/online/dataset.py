"""Whole films as a dataset of batches, for `torch.utils.data.DataLoader` with ``batch_size=None``."""

from __future__ import annotations

import numpy as np
import torch

from scripts.data.online.dataset import FreshBatches
from scripts.localization.online.pool import PatientPool
from scripts.localization.online.samples import FilmSampleOptions, make_film_samples


class FilmBatches(FreshBatches):
    """Batch ``k`` of a seed, made when it is asked for; the same number gives the same batch of a pool.

    Args:
        pool: the patients; batches are made on its device.
        options: how items are made.
        batch_size: items.
        batches: number of batches that count as an epoch.
        seed: of everything.
        ahead: make the next batch in a thread while the last one is used; for a GPU in this process.
    """

    def __init__(
        self,
        pool: PatientPool,
        options: FilmSampleOptions,
        batch_size: int = 8,
        batches: int = 100,
        seed: int = 0,
        ahead: bool = False,
    ) -> None:
        super().__init__(pool.device, batches, ahead)
        self.pool, self.options = pool, options
        self.batch_size, self.seed = batch_size, seed

    def make(self, number: int) -> dict[str, torch.Tensor]:
        """Batch ``number``: ``image`` (B, 2, 4, H, W) and what the loss compares with."""
        rng = np.random.default_rng([self.seed, int(number)])
        patients = [self.pool.pick_patient(rng) for _ in range(self.batch_size)]
        return make_film_samples(patients, self.options, int(rng.integers(2**62)), self.pool.device)
