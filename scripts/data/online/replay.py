"""Fresh samples with older ones beside them, for networks that learn faster than a processor makes samples."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.data.online.dataset import OnlineBatches


class ReplayedBatches(Dataset):
    """Each batch is a fresh one and some samples of batches before it, without labels.

    Args:
        fresh: where samples come from.
        replayed: older samples a batch, as many as there are at first.
        room: samples that are remembered, 115 kB each; a new one takes the place of any.
        seed: of which are drawn.
    """

    def __init__(self, fresh: OnlineBatches, replayed: int = 32, room: int = 6000, seed: int = 0) -> None:
        self.fresh, self.replayed, self.room = fresh, replayed, room
        self.rng = np.random.default_rng([seed, 1])
        self.memory: list[dict[str, torch.Tensor]] = []

    def __len__(self) -> int:
        return len(self.fresh)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        batch = {key: values for key, values in self.fresh[number].items() if key != "label"}
        drawn = self.rng.permutation(len(self.memory))[: self.replayed]
        older = [self.memory[i] for i in drawn]
        for i in range(len(batch["image"])):
            sample = {key: values[i].clone() for key, values in batch.items()}
            sample["image"] = sample["image"].half()
            if len(self.memory) < self.room:
                self.memory.append(sample)
            else:
                self.memory[self.rng.integers(self.room)] = sample
        return {
            key: torch.cat([values, *(sample[key][None].to(values.dtype) for sample in older)])
            for key, values in batch.items()
        }
