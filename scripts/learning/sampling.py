"""Data whose order and random transforms depend on seed, epoch and item only.

Not on how many workers load them, nor on what was loaded before: a training that is resumed at an epoch, or run with
another number of workers, sees the same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from monai.data import CacheDataset, DistributedSampler
from monai.transforms import Compose


class ReproducibleSampler(DistributedSampler):
    """Indices that carry their epoch: ``epoch * len(dataset) + index``; for one process or several.

    MONAI's trainers tell it the epoch.

    Args:
        dataset: a `ReproducibleDataset`.
        shuffle: anew in each epoch.
        seed: of the order.
        num_replicas: processes; 1 without ``torchrun``.
        rank: of this process.
        even_divisible: repeat some items so that all processes get equally many (for training), or not (for metrics).
    """

    def __init__(
        self,
        dataset: ReproducibleDataset,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        even_divisible: bool = True,
    ) -> None:
        super().__init__(dataset, even_divisible, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[int]:
        return iter([self.epoch * len(self.dataset) + index for index in super().__iter__()])


class ReproducibleDataset(CacheDataset):
    """MONAI's `CacheDataset` with random transforms seeded per epoch and item.

    Args:
        data: items.
        transform: what is done to each; the part before the first random one is cached.
        seed: of the random transforms.
        cache_rate: share of the items to keep in memory.
        num_workers: threads that fill the cache.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Compose,
        seed: int = 0,
        cache_rate: float = 0.0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=False)
        self.seed = seed

    def __iter__(self) -> Iterator[Any]:
        """The items of the first epoch; Python's own loop over indices would go on through all epochs for ever."""
        return (self[index] for index in range(len(self)))

    def _transform(self, index: int) -> Any:
        epoch, place = divmod(index, len(self))
        state = np.random.SeedSequence([self.seed, epoch, place]).generate_state(1)[0]
        self.transform.set_random_state(seed=int(state))
        return super()._transform(place)
