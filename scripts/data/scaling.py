"""What preparing costs, measured: seconds and peak memory a CT and a vertebra, with one worker and with several.

    python -m scripts.data.scaling --source SOURCE [--workers 1,2] [--output FILE.md]

Runs ``prepare`` anew for each number of workers and projects to 374 CTs (VerSe) and 100 000 CTs. Linux only.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire

from scripts.errors import UserError
from scripts.io.atomic import write_text

LARGE = (374, 100_000)


@dataclass(frozen=True)
class Cost:
    """Of one build.

    Args:
        workers: processes.
        cases: CTs that were prepared.
        vertebrae: written.
        wall_s: from start to end.
        cpu_s: of all processes, start-up of Python included.
        worker_mb: largest peak memory of one process.
        total_mb: largest sum over all processes at one time.
    """

    workers: int
    cases: int
    vertebrae: int
    wall_s: float
    cpu_s: float
    worker_mb: float
    total_mb: float


def measure(source: str, workers: int) -> Cost:
    """Prepare ``source`` into a temporary folder.

    Raises:
        UserError: prepare failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "scripts", "prepare", "--source", source, "--output", f"{folder}/dataset"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        largest, total = 0.0, 0.0
        while process.poll() is None:
            sizes = [_memory_mb(pid) for pid in _family(process.pid)]
            largest = max([largest, *(peak for _, peak in sizes)])
            total = max(total, sum(now for now, _ in sizes))
            time.sleep(0.1)
        wall = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            raise UserError(f"prepare --source {source} failed; run it to see why")
        document = json.loads(Path(f"{folder}/dataset/dataset.json").read_text())
        items = [item for name in ("training", "validation", "test", "excluded") for item in document[name]]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(workers, len({item["case"] for item in items}), len(items), wall, cpu, largest, total)


def report(costs: list[Cost]) -> str:
    """Markdown: what was measured, and what it means for many CTs."""
    lines = [
        "| workers | CTs | vertebrae | s a CT | s a vertebra | CPU-s a CT | MB a process | MB in all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in costs:
        per_case, per_vertebra = c.wall_s / c.cases, c.wall_s / c.vertebrae
        lines.append(
            f"| {c.workers} | {c.cases} | {c.vertebrae} | {per_case:.1f} | {per_vertebra:.2f} | "
            f"{c.cpu_s / c.cases:.1f} | {c.worker_mb:.0f} | {c.total_mb:.0f} |"
        )
    cpu = costs[0].cpu_s / costs[0].cases
    lines += ["", "| CTs | core-hours | hours on 2 cores | hours on 64 cores |", "| --- | --- | --- | --- |"]
    for count in LARGE:
        hours = count * cpu / 3600
        lines.append(f"| {count} | {hours:.1f} | {hours / 2:.1f} | {hours / 64:.2f} |")
    return "\n".join(lines) + "\n"


def scaling(source: str, workers: Any = (1, 2), output: str = "") -> None:
    """Measure and print; see the module.

    Args:
        source: as of prepare.
        workers: numbers of processes to try, comma-separated.
        output: Markdown file to write as well.
    """
    counts = workers if isinstance(workers, (list, tuple)) else [workers]
    text = report([measure(str(source), int(count)) for count in counts])
    print(text)
    if output:
        write_text(Path(output), text)


def _family(parent: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue  # it ended meanwhile
    family = [parent]
    for pid in family:
        family += [child for child, its_parent in parents.items() if its_parent == pid]
    return family


def _memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory now and at its peak."""
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    sizes = {row.split(":")[0]: float(row.split()[1]) / 1024 for row in rows if row.startswith(("VmRSS", "VmHWM"))}
    return sizes.get("VmRSS", 0.0), sizes.get("VmHWM", 0.0)


if __name__ == "__main__":
    try:
        fire.Fire(scaling)
    except UserError as error:
        sys.exit(f"error: {error}")
