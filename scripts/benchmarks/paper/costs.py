"""What a network costs, whatever it was trained on: parameters, FLOPs, memory.

python -m scripts.benchmarks.paper.costs --output BENCHMARK --model NAME
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks.paper.models import MODELS, Model
from scripts.benchmarks.paper.plan import Plan, read_plan
from scripts.command import run_module
from scripts.io.documents import write_json
from scripts.paths import BUNDLE_ROOT


def measure(output: Path, model: str) -> None:
    """Print one line of JSON: parameters, FLOPs of one vertebra, peak memory of one forward pass beyond the weights.

    Memory is torch's count on a GPU, on a CPU what the process needs more than before the pass.

    Args:
        output: folder of a benchmark that was started.
        model: name.
    """
    parser = read_plan(output).parser(MODELS[model])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = parser.get_parsed_content("network_def").eval()
    size = int(parser.get_parsed_content("patch_size"))
    parameters = sum(p.numel() for p in network.parameters())
    network = network.to(device)
    with torch.inference_mode():
        image = torch.rand(1, 4, size, size, device=device)
        before, peak = _now(device), _Peak(device)
        with peak:
            network(image)
    # On the device that computes shapes only: no time, and the same operations on all machines.
    network, image = network.to("meta"), torch.empty(1, 4, size, size, device="meta")
    with torch.inference_mode(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(image)
    facts = {
        "parameters": parameters,
        "gflop": round(counter.get_total_flops() / 1e9, 2),
        "inference_memory_mib": round((peak.value - before) / 2**20),
        "device": device.type,
        "patch_size": size,
    }
    print(json.dumps(facts))


class _Peak:
    """Largest memory while the block runs; on a CPU looked at every few ms, since the process's own peak is older."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.value, self.running = device, 0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.running = False
        if self.device.type == "cuda":
            self.value = torch.cuda.max_memory_allocated()
        else:
            self.thread.join()

    def _watch(self) -> None:
        while self.running:
            self.value = max(self.value, _now(self.device))
            time.sleep(0.002)


def _now(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # no /proc: the peak so far is all there is
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_costs(output: Path, plan: Plan, model: Model) -> dict[str, float | str]:
    """The facts of `measure`, from a process of its own, kept in ``costs/<model>.json``; ``failed`` with a reason."""
    path = output / "costs" / f"{model.name}.json"
    if path.is_file():
        stored: dict[str, float | str] = json.loads(path.read_text())
        return stored
    plan.parser(model)
    command = [sys.executable, "-m", "scripts.benchmarks.paper.costs", "--output", str(output), "--model", model.name]
    run = subprocess.run(command, cwd=BUNDLE_ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit status {run.returncode}"}
    facts: dict[str, float | str] = json.loads(run.stdout.strip().splitlines()[-1])
    path.parent.mkdir(exist_ok=True)
    write_json(path, facts, indent=None)
    return facts


if __name__ == "__main__":
    run_module(measure)
