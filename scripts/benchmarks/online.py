"""How fast fresh samples are made, and how fast the networks learn from them.

    python -m scripts.benchmarks.online --cases CASES [--device cuda] [--batch-sizes 4] [--pixel-mm 2] [--seconds 20]
        [--networks generator,level]

Prints a line for the engine alone and one for each network's training step (bfloat16) at each batch size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.bundle import ConfigParser

from scripts.command import run_module
from scripts.data.online.dataset import OnlineBatches
from scripts.data.online.pool import CasePool, load_cases
from scripts.data.online.samples import SampleOptions
from scripts.learning.gpu import CONFIGS
from scripts.learning.kernels import choose_kernels
from scripts.paths import BUNDLE_ROOT


def seconds_each(work: Callable[[int], Any], device: torch.device, seconds: float) -> float:
    """Mean time of a call, after two that do not count."""
    for number in range(2):
        work(number)
    _wait(device)
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or calls < 3:
        work(calls + 2)
        calls += 1
        _wait(device)
    return (time.perf_counter() - start) / calls


def training_step(name: str, device: torch.device) -> Callable[[dict[str, torch.Tensor]], None]:
    """One step of a generator of `CONFIGS` as its configs describe it."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE_ROOT / "configs" / f"{config}.json") for config in CONFIGS[name]])
    parser["device"] = device
    network, loss_function = parser.get_parsed_content("network").train(), parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")
    told = ("level", "tilt") if getattr(network, "takes_level", False) else ()

    def step(batch: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(batch["image"], *(batch[key] for key in told))
        loss_function(logits, batch["label"])["total"].backward()
        optimizer.step()

    return step


def main(
    cases: tuple[str, ...],
    device: str = "cpu",
    batch_sizes: tuple[int, ...] = (4,),
    pixel_mm: tuple[float, ...] = (2.0,),
    seconds: float = 20.0,
    networks: tuple[str, ...] = ("generator",),
) -> None:
    """Print how fast samples are made, and how fast networks learn from them.

    Args:
        cases: folders of online cases, with commas.
        device: of engine and networks.
        batch_sizes: one, or several with commas.
        pixel_mm: of films and labels; one, or several with commas.
        seconds: of each measurement.
        networks: generators of `scripts.learning.gpu`; one, or several with commas.
    """
    place = torch.device(device)
    if place.type == "cpu":
        torch.set_num_threads(1)
    else:
        choose_kernels(deterministic=False)
    pool = CasePool(load_cases(cases), device=place)
    for size in batch_sizes:
        for pixel in pixel_mm:
            options = SampleOptions(pixel_mm=pixel, voxel_mm=pixel)
            data = OnlineBatches(pool, options, batch_size=size)
            each = seconds_each(data.make, place, seconds) / size
            print(f"engine, {pixel} mm, batches of {size}: {1000 * each:.1f} ms a sample, {1 / each:.0f} a second")
        batch = data.make(0)
        for name in networks:
            step = training_step(name, place)
            each = seconds_each(partial(_again, step, batch), place, seconds) / size
            print(f"{name}, training step of {size}: {1000 * each:.1f} ms a sample, {1 / each:.0f} a second")
    if place.type == "cuda":
        print(f"{torch.cuda.get_device_name()}: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most")


def _again(step: Callable[[dict[str, torch.Tensor]], None], batch: dict[str, torch.Tensor], number: int) -> None:
    step(batch)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run_module(main)
