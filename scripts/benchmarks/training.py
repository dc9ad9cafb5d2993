"""What makes training fast, each beside the plain way in one run.

    python -m scripts.benchmarks.training [--device cuda] [--output FILE.md]

Seconds are wall time, the least of the repeats; memory is what a process of its own needs at its peak on top of what
it needed before (on a GPU: torch's own count).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.losses import HausdorffDTLoss
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from scripts.benchmarks.memory import peak_mb
from scripts.command import run_module
from scripts.io.tables import markdown_table
from scripts.reconstruction.losses.distance import HausdorffLoss
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.networks.fusion import NonLocalBlock

SIZE = 120
Case = tuple[Callable[[], object], Callable[[], object]]


def blobs(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 1, 120, 120, 120) masks about as large and as rough as vertebrae."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1.7, 1.7, SIZE)] * 3, indexing="ij")
    ball = 1 - sum(axis**2 for axis in axes)
    noise = [ndimage.gaussian_filter(rng.standard_normal((SIZE,) * 3), 3) for _ in range(count)]
    return torch.from_numpy(np.stack([ball + 12 * n > 0.5 for n in noise]))[:, None]


def hausdorff(device: str) -> Case:
    """Forward and backward at (2, 1, 120, 120, 120): MONAI's, ours."""
    target = blobs(2).float().to(device)
    logits = 8 * blobs(2, seed=1).float().to(device) - 4

    def step(loss: torch.nn.Module) -> None:
        leaf = logits.clone().requires_grad_()
        loss(leaf, target).backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    both = (kind(alpha=2.0, sigmoid=True, include_background=True) for kind in (HausdorffDTLoss, HausdorffLoss))
    plain, ours = both
    return lambda: step(plain), lambda: step(ours)


def literal_non_local(block: NonLocalBlock, x: torch.Tensor) -> torch.Tensor:
    """Equation (1) as it is printed, x + alpha (softmax(theta(x)^T phi(x)) sigma(x)^T), the whole map in memory."""
    theta, phi, sigma = (layer(x).flatten(2) for layer in (block.theta, block.phi, block.sigma))
    attention = torch.softmax(theta.transpose(1, 2) @ phi, dim=-1)
    return x + block.alpha * (attention @ sigma.transpose(1, 2)).transpose(1, 2).reshape(x.shape)


def non_local(device: str) -> Case:
    """Forward and backward of one view at 120x120: as printed, ours."""
    torch.manual_seed(0)
    block = NonLocalBlock(2).to(device)
    x = torch.rand(1, 2, SIZE, SIZE, device=device)

    def step(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        forward(x.clone().requires_grad_()).sum().backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return lambda: step(lambda y: literal_non_local(block, y)), lambda: step(block)


def metrics(device: str) -> Case:
    """HD95, ASSD and NSD of one vertebra: MONAI's three functions, ours."""
    a, b = blobs(2, seed=2)
    one, two = a[None].float(), b[None].float()

    def plain() -> None:
        compute_hausdorff_distance(one, two, include_background=True, percentile=95)
        compute_average_surface_distance(one, two, include_background=True, symmetric=True)
        compute_surface_dice(one, two, [1.0], include_background=True)

    return plain, lambda: vertebra_metrics(a[0].numpy(), b[0].numpy())


CASES: dict[str, tuple[str, Callable[[str], Case]]] = {
    "hausdorff": ("Hausdorff term, forward + backward, 2 x 120³", hausdorff),
    "non_local": ("non-local block, forward + backward, 120²", non_local),
    "metrics": ("HD95 + ASSD + NSD of a vertebra", metrics),
}


def measure(case: str, which: int, device: str, repeats: int) -> dict[str, float]:
    """One way of one case, in this process."""
    run = CASES[case][1](device)[which]
    before = peak_mb(device)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "mb": peak_mb(device) - before}


def compare(device: str = "cpu", repeats: int = 5, output: Path | None = None, case: str = "", which: int = -1) -> None:
    """Print what each way to train faster saves in time and memory.

    Args:
        device: cpu or cuda.
        repeats: of each.
        output: Markdown file to write as well.
        case: what to measure; used by the processes that measure.
        which: which way of the case to measure; used by the processes that measure.
    """
    if case:
        print(json.dumps(measure(case, which, device, repeats)))
        return
    table = []
    for name, (title, _) in CASES.items():
        rows = []
        for number in (0, 1):
            options = ["--device", device, "--repeats", str(repeats), "--case", name, "--which", str(number)]
            command = [sys.executable, "-m", "scripts.benchmarks.training", *options]
            rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        plain, ours = rows
        seconds = [f"{plain['seconds']:.3g}", f"{ours['seconds']:.3g}", f"{plain['seconds'] / ours['seconds']:.1f}"]
        table.append([title, *seconds, f"{plain['mb']:.0f}", f"{ours['mb']:.0f}"])
    how = f"{device}, {torch.get_num_threads()} threads, `python -m scripts.benchmarks.training --device {device}`"
    columns = ["what", "plain s", "ours s", "faster", "plain MB", "ours MB"]
    text = "\n".join([how, "", *markdown_table(columns, table), ""])
    print(text)
    if output:
        output.write_text(text)


if __name__ == "__main__":
    run_module(compare)
