"""Batches that other processes make: they arrive as they were made, and a failure is heard of."""

from __future__ import annotations

import atexit
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.data.online import memory
from scripts.errors import UserError
from scripts.learning import producers
from scripts.learning.producers import ProducedBatches, pack, unpack

CPU = torch.device("cpu")


class Numbered:
    """Batch k of a seed has the number k; the fourth cannot be made."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make(self, number: int) -> dict[str, torch.Tensor]:
        if number == 3:
            raise UserError("no fourth batch")
        return {"image": torch.full((1, 2), number / 4), "level": torch.tensor([self.seed])}


class Pool:
    """Nothing to close."""

    def close(self) -> None:
        return


@pytest.fixture
def produced(tmp_path: Path):
    config = {
        "seed": 0,
        "fresh": {"_target_": "tests.test_producers.Numbered", "seed": "@seed"},
        "pool": {"_target_": "tests.test_producers.Pool"},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))

    def make(producers: int, seed: int) -> ProducedBatches:
        return ProducedBatches([str(path)], {}, producers, 2, seed, str(tmp_path), 10, CPU)

    return make


def test_every_producer_has_a_seed_of_its_own_and_a_failure_is_told(produced) -> None:
    batches = produced(2, 5)
    seen = []
    with pytest.raises(UserError, match="no fourth batch"):
        for number in range(20):
            batch = batches[number]
            seen.append((int(batch["level"]), float(batch["image"][0, 0])))
    assert {seed for seed, _ in seen} <= {5000, 5001}
    for seed in (5000, 5001):
        of_one = [number for own, number in seen if own == seed]
        assert of_one == [0.0, 0.25, 0.5][: len(of_one)]
    # One of the two has made all three before it failed.
    assert max(number for _, number in seen) == 0.5


def test_a_training_that_fails_leaves_no_process(produced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody closes them then, and Python waited for them for ever."""
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    batches = produced(1, 1)
    assert batches[0]["image"].dtype == torch.float32
    assert all(process.is_alive() for process in batches._producers)
    (end,) = at_exit
    end()
    assert not any(process.is_alive() for process in batches._producers)


def test_a_killed_training_ends_its_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watched: list[int] = []
    monkeypatch.setattr(producers, "end_with_parent", watched.append)
    monkeypatch.setattr(memory, "end_with_parent", watched.append)
    monkeypatch.setattr(memory.os, "nice", watched.append)
    made: queue.Queue[Any] = queue.Queue()
    producers.produce([str(tmp_path / "none.json")], {}, made, threading.Event(), 17)
    memory._give_way(18)
    assert watched == [17, 10, 18]


def test_a_batch_arrives_as_it_was_made() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.rand(2, 4, 8, 8, generator=generator),
        "label": (torch.rand(2, 1, 3, 5, 16, generator=generator) > 0.5).float(),
        "numbers": torch.tensor([[1.5, float("nan")]]),
    }
    arrived = unpack(pack(batch), CPU)
    torch.testing.assert_close(arrived["image"], batch["image"], atol=5e-4, rtol=0)
    torch.testing.assert_close(arrived["label"], batch["label"])
    torch.testing.assert_close(arrived["numbers"], batch["numbers"], equal_nan=True)
