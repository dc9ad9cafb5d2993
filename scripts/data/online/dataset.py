"""The online engine as a dataset of whole batches, for `torch.utils.data.DataLoader` with ``batch_size=None``."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.data.online.pool import CasePool
from scripts.data.online.samples import SampleOptions, make_samples


class FreshBatches(Dataset):
    """Batch ``k`` is made when it is asked for.

    Args:
        device: where batches are made.
        batches: an epoch, of which the engine knows no end.
        ahead: make the next batch, in a thread and a stream of its own, while the last one is used; for a GPU in this
            process. Of several processes each asks for every n-th batch, so the next one is as far on as the last.
    """

    def __init__(self, device: torch.device, batches: int, ahead: bool) -> None:
        self.device, self.batches = device, batches
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._stream = torch.cuda.Stream(device) if ahead and device.type == "cuda" else None
        self._coming: dict[int, Future[dict[str, torch.Tensor]]] = {}
        self._last: int | None = None

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        if self._thread is None:
            return self.make(number)
        job = self._coming.pop(number, None) or self._thread.submit(self._make_in_stream, number)
        following = number + (1 if self._last is None else max(number - self._last, 1))
        self._last = number
        self._coming = {following: self._thread.submit(self._make_in_stream, following)}
        batch = job.result()
        if self._stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            for tensor in batch.values():
                tensor.record_stream(current)
        return batch

    def make(self, number: int) -> dict[str, torch.Tensor]:
        """Batch ``number``, here and now."""
        raise NotImplementedError

    def _make_in_stream(self, number: int) -> dict[str, torch.Tensor]:
        with torch.no_grad(), torch.cuda.stream(self._stream):
            batch = self.make(number)
            if self._stream is not None:
                # The thread, not the training, waits until the batch is there.
                self._stream.synchronize()
            return batch


class OnlineBatches(FreshBatches):
    """Batches of a generator's samples; the same number of a seed gives the same batch.

    Args:
        pool: the patients; batches are made on its device.
        options: how samples are made.
        batch_size: samples.
        batches: number of batches that count as an epoch.
        seed: of everything.
        ahead: make the next batch in a thread while the last one is used; for a GPU in this process.
    """

    def __init__(
        self,
        pool: CasePool,
        options: SampleOptions,
        batch_size: int = 4,
        batches: int = 500,
        seed: int = 0,
        ahead: bool = False,
    ) -> None:
        super().__init__(pool.device, batches, ahead)
        self.pool, self.options = pool, options
        self.batch_size, self.seed = batch_size, seed

    def make(self, number: int) -> dict[str, torch.Tensor]:
        """Batch ``number``, made here and now: ``image``, ``label`` and what else a training reads, by name."""
        rng = np.random.default_rng([self.seed, int(number)])
        picks = [self.pool.pick(rng) for _ in range(self.batch_size)]
        generator = torch.Generator(self.pool.device).manual_seed(int(rng.integers(2**62)))
        return make_samples(picks, self.options, generator)
