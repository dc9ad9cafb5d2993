"""Models x seeds, one process each, on as many GPUs as there are; what is done stays done."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from scripts.benchmarks.paper.clinical import FILE as CLINICAL_FILE
from scripts.benchmarks.paper.disturbances import CURVES
from scripts.benchmarks.paper.models import Model
from scripts.benchmarks.paper.plan import failure, read_plan, run_folder
from scripts.io.atomic import write_text
from scripts.io.locks import only_writer
from scripts.paths import BUNDLE_ROOT


def run_matrix(output: Path, models: Sequence[Model], seeds: Sequence[int], gpus: Sequence[str]) -> dict[str, str]:
    """Train and score every model with every seed; seeds outermost, so that a stopped matrix compares all models.

    A job that fails leaves its reason in ``failed.txt`` and its output in ``job.log`` and stops no other; the next call
    tries it again. Curves are made for the first seed.

    Args:
        output: folder of the benchmark, with its plan.
        models: rows.
        seeds: columns.
        gpus: ids for ``CUDA_VISIBLE_DEVICES``, one job at a time on each; one job on the CPU if empty.

    Returns:
        what failed: ``model, seed`` -> reason.
    """
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for gpu in gpus or (None,):
        free.put(gpu)
    jobs = [(model, seed) for seed in seeds for model in models]
    bar = tqdm(total=len(jobs), desc="trainings", unit="training")

    def work(model: Model, seed: int) -> None:
        gpu = free.get()
        try:
            _run_job(output, model, seed, gpu, curves=seed == seeds[0])
        finally:
            free.put(gpu)
            bar.update()

    (output / "runs").mkdir(exist_ok=True)
    with only_writer(output / "runs"), ThreadPoolExecutor(max(len(gpus), 1)) as pool, bar:
        for future in [pool.submit(work, *job) for job in jobs]:
            future.result()
    reasons = {f"{m.name}, seed {s}": failure(output, m.name, [s]) for m, s in jobs}
    return {name: reason for name, reason in reasons.items() if reason}


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [word for word in given.split(",") if word]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _run_job(output: Path, model: Model, seed: int, gpu: str | None, curves: bool) -> None:
    folder = run_folder(output, model.name, seed)
    (folder / "failed.txt").unlink(missing_ok=True)
    wanted = ["plain", *(d.name for d in CURVES if curves and (d.kind != "angle" or read_plan(output).source))]
    files = [folder / name / "metrics.csv" for name in wanted] + [folder / "plain" / CLINICAL_FILE]
    if all(path.is_file() for path in files):
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scripts.benchmarks.paper.job", "--output", str(output), "--model", model.name]
    command += ["--seed", str(seed)] + (["--curves"] if curves else [])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu or ""}
    log = folder / "job.log"
    with log.open("a") as stream:
        run = subprocess.run(
            command, cwd=BUNDLE_ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    # Who is killed, or cannot start, has noted no reason.
    if run.returncode and not (folder / "failed.txt").is_file():
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        # A progress bar says nothing of why.
        last = next((line for line in reversed(lines) if line and "%|" not in line), "")
        killed = f"killed by signal {-run.returncode}" if run.returncode < 0 else f"exit status {run.returncode}"
        write_text(folder / "failed.txt", f"{killed}: {last[:200]}\n" if last else f"{killed}\n")
