"""Processes of this machine that make a training's batches, for a GPU that one process cannot keep busy.

Making a fresh sample launches hundreds of small operations on the GPU, and a process needs longer to launch them than
the GPU to do them. Several processes launch several times as many.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import queue
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch.utils.data import Dataset

from scripts.errors import UserError
from scripts.jobs import end_with_parent

# A producer's seed is the training's times this and its own number, so that no two trainings share one.
SEEDS_A_TRAINING = 1000
# How often it is looked whether all producers live, while a batch is waited for.
LOOK_SECONDS = 5.0
# Producers that have not ended by then are ended.
CLOSING_SECONDS = 20.0


class ProducedBatches(Dataset):
    """Batches of a bundle's ``fresh`` dataset, made by several processes, in the order in which they come.

    No two trainings are therefore alike. Each process reads the configuration anew, with a seed and a folder of its
    own, and with its share of the processes that simulate patients.

    Args:
        config_files: of the training, which define ``fresh`` (``make(number)``) and ``pool`` (``close()``).
        overrides: of them.
        producers: processes.
        workers: processes that simulate patients, of all producers together.
        seed: of the training.
        folder: for the producers' own folders.
        batches: that count as an epoch.
        device: where batches are handed out.

    Raises:
        UserError: a producer failed before the first batch.
    """

    def __init__(
        self,
        config_files: Sequence[str],
        overrides: dict[str, Any],
        producers: int,
        workers: int,
        seed: int,
        folder: str,
        batches: int,
        device: torch.device,
    ) -> None:
        self.batches, self.device = batches, device
        context = multiprocessing.get_context("spawn")
        self._made = context.Queue(2 * producers)
        self._stop = context.Event()
        self._producers: list[multiprocessing.process.BaseProcess] = []
        # Of a training that fails, nobody calls `close`, and Python waits for its processes when it ends. They are no
        # daemons, which may not have the processes that simulate.
        atexit.register(self.close)
        for number in range(producers):
            own = {
                "seed": seed * SEEDS_A_TRAINING + number,
                "output_dir": f"{folder}/producer{number}",
                "workers": max(workers // producers, 1),
            }
            arguments = (list(config_files), {**overrides, **own}, self._made, self._stop, os.getpid())
            process = context.Process(target=produce, args=arguments)
            process.start()
            self._producers.append(process)
        # A training's time begins when there is something to learn from.
        self._first: dict[str, np.ndarray] | None = self._next()

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """The next batch, whatever its number.

        Raises:
            UserError: a producer failed.
        """
        made, self._first = self._first or self._next(), None
        return unpack(made, self.device)

    def close(self) -> None:
        """No more batches."""
        atexit.unregister(self.close)
        self._stop.set()
        end = time.monotonic() + CLOSING_SECONDS
        while any(process.is_alive() for process in self._producers) and time.monotonic() < end:
            with suppress(queue.Empty):
                self._made.get(timeout=0.1)
        for process in self._producers:
            process.terminate()
            process.join()

    def _next(self) -> dict[str, np.ndarray]:
        while True:
            try:
                made = self._made.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                made = "it ended" if any(not process.is_alive() for process in self._producers) else None
            if isinstance(made, str):
                self.close()
                raise UserError(f"a process that makes samples failed: {made}")
            if made is not None:
                return made


def pack(batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A batch for the way to another process: images in half precision, labels as single bits."""
    packed = {key: values.cpu() for key, values in batch.items() if key not in ("image", "label")}
    packed["image"] = batch["image"].half().cpu()
    arrays = {key: values.numpy() for key, values in packed.items()}
    if "label" in batch:
        arrays["label"] = np.packbits((batch["label"] > 0.5).cpu().numpy(), axis=-1)
    return arrays


def unpack(arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """The batch that was packed, on a device."""
    batch = {key: torch.from_numpy(values).to(device) for key, values in arrays.items()}
    batch["image"] = batch["image"].float()
    if "label" in batch:
        places = torch.arange(7, -1, -1, device=device, dtype=torch.uint8)
        batch["label"] = ((batch["label"][..., None] >> places) & 1).flatten(-2).float()
    return batch


def produce(config_files: list[str], overrides: dict[str, Any], made: Any, stop: Any, training: int) -> None:
    """Make batches until ``stop`` is set or the training has been killed; a failure is handed on as a text.

    Args:
        config_files: that define ``fresh`` and ``pool``.
        overrides: of them.
        made: queue for the batches.
        stop: event.
        training: number of its process, which started this one.
    """
    end_with_parent(training)
    torch.set_num_threads(1)
    try:
        parser = ConfigParser()
        parser.read_config(config_files)
        parser.update(overrides)
        fresh, pool = parser.get_parsed_content("fresh"), parser.get_parsed_content("pool")
        number = 0
        with torch.no_grad():
            while not stop.is_set():
                made.put(pack(fresh.make(number)))
                number += 1
        pool.close()
    except Exception as error:
        made.put(f"{error}" if isinstance(error, UserError) else traceback.format_exc())
    finally:
        # A simulation takes longer than the end of a training may.
        for simulating in multiprocessing.active_children():
            simulating.terminate()
