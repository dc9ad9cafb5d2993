"""How fast fresh windows of whole films are made, and how fast the annotation network learns from them.

    python -m scripts.benchmarks.online_films --patients PATIENTS [--device cuda] [--batch-sizes 8] [--seconds 20]

Prints a line for the engine alone, one for the training step (bfloat16) and one for both one after the other, at each
batch size.
"""

from __future__ import annotations

import torch
from monai.bundle import ConfigParser

from scripts.benchmarks.online import seconds_each
from scripts.command import run_module
from scripts.learning.kernels import choose_kernels
from scripts.localization.online.dataset import FilmBatches
from scripts.localization.online.pool import PatientPool, load_patients
from scripts.paths import BUNDLE_ROOT


def main(
    patients: tuple[str, ...], device: str = "cpu", batch_sizes: tuple[int, ...] = (8,), seconds: float = 20.0
) -> None:
    """Print how fast windows of films are made, and how fast the annotation network learns from them.

    Args:
        patients: folders of patients or online cases, with commas.
        device: of engine and network.
        batch_sizes: one, or several with commas.
        seconds: of each measurement.
    """
    place = torch.device(device)
    if place.type == "cpu":
        torch.set_num_threads(1)
    else:
        choose_kernels(deterministic=False)
    parser = ConfigParser()
    parser.read_config(str(BUNDLE_ROOT / "configs" / "train_localization.json"))
    parser["device"] = place
    pool = PatientPool(load_patients(patients), device=place)
    network, loss = parser.get_parsed_content("network").train(), parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")

    def step(batch: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(place.type, torch.bfloat16):
            maps = network(batch["image"])
        loss(maps, batch).backward()
        optimizer.step()

    for size in batch_sizes:
        data = FilmBatches(pool, parser.get_parsed_content("samples"), batch_size=size)
        batch = data.make(0)

        def again(_: int, batch: dict[str, torch.Tensor] = batch) -> None:
            step(batch)

        def both(number: int, data: FilmBatches = data) -> None:
            step(data.make(number))

        for name, work in (("engine", data.make), ("training step", again), ("both", both)):
            each = seconds_each(work, place, seconds) / size
            print(f"{name}, batches of {size}: {1000 * each:.1f} ms a pair of windows, {1 / each:.1f} a second")
    if place.type == "cuda":
        print(f"{torch.cuda.get_device_name()}: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most")


if __name__ == "__main__":
    run_module(main)
