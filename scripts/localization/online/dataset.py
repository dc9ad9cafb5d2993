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
        batches: an epoch, of which the engine knows no end.
        seed: of everything.
        ahead: see `FreshBatches`.
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
        """Batch ``number``, here and now; see `make_film_samples`."""
        rng = np.random.default_rng([self.seed, int(number)])
        patients = [self.pool.pick_patient(rng) for _ in range(self.batch_size)]
        return make_film_samples(patients, self.options, int(rng.integers(2**62)), self.pool.device)
