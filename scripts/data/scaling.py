"""What preparing costs, measured: seconds and peak memory a CT and a vertebra, with one worker and with several.

    python -m scripts.data.scaling --source SOURCE [--workers 1,2] [--copies 1,3] [--output FILE.md]
    python -m scripts.data.scaling --source SOURCE --bookkeep 100000

The first runs ``prepare`` anew for each number of workers, and of copies of every CT, which shows what grows with the
data, and projects to 374 CTs (VerSe) and 100 000 CTs. The second measures what the first cannot show: what the one
process that hands out the cases and writes ``dataset.json`` needs for very many. Linux only.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.command import run_module
from scripts.data.building import STAMP_FILE, stamp_of
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.datalist import ALL_LISTS, LISTS_FILE, read_document
from scripts.data.vertebrae import CASE_FILE, PrepareOptions, prepare_case
from scripts.errors import UserError
from scripts.io.atomic import write_text
from scripts.io.documents import write_json
from scripts.io.tables import markdown_table

LARGE = (374, 100_000)


@dataclass(frozen=True)
class Cost:
    """What one build took.

    Args:
        workers: processes.
        copies: of each CT.
        cases: CTs that were prepared.
        vertebrae: written.
        wall_s: from start to end.
        cpu_s: of all processes, start-up of Python included.
        worker_mb: largest peak memory of one process.
        total_mb: largest sum over all processes at one time.
    """

    workers: int
    copies: int
    cases: int
    vertebrae: int
    wall_s: float
    cpu_s: float
    worker_mb: float
    total_mb: float


def measure(source: str, workers: int, copies: int = 1) -> Cost:
    """Prepare ``source`` into a temporary folder.

    Raises:
        UserError: prepare failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = _copied(find_cases(source), copies, Path(folder) / "cases.json")
        run = _watched(["prepare", "--source", str(manifest), "--output", f"{folder}/dataset"], workers)
        if run.status:
            raise UserError(f"prepare --source {source} failed; run it to see why")
        document = read_document(Path(folder) / "dataset")
        items = [item for name in ALL_LISTS for item in document[name]]
        prepared = len({item["case"] for item in items})
        return Cost(workers, copies, prepared, len(items), run.wall_s, run.cpu_s, run.largest_mb, run.total_mb)


@dataclass(frozen=True)
class Run:
    """One run of a verb: exit status, seconds, and memory of its largest process and of all together at a time."""

    status: int
    wall_s: float
    cpu_s: float
    largest_mb: float
    total_mb: float


def _watched(words: list[str], workers: int) -> Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", *words, "--workers", str(workers)],
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
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(process.returncode, wall, cpu, largest, total)


def _copied(cases: list[CaseFiles], copies: int, manifest: Path) -> Path:
    """A manifest that names each case ``copies`` times, as as many patients."""
    rows = []
    for case in cases:
        row = {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in asdict(case).items() if k != "release"}
        rows += [{**row, "subject": f"{case.subject}-{number}"} for number in range(copies)]
    write_json(manifest, rows, indent=None)
    return manifest


def measure_bookkeeping(source: str, count: int) -> str:
    """What the parent needs for very many cases: ``prepare`` on a dataset that is there already.

    The dataset is one prepared case of ``source`` under ``count`` names, with nothing in its folders but what a build
    that goes on reads.
    """
    with tempfile.TemporaryDirectory() as name:
        output, manifest = Path(name) / "dataset", Path(name) / "cases.json"
        first = find_cases(source)[:1]
        options = PrepareOptions()
        with tempfile.TemporaryDirectory() as work:
            prepared = asdict(prepare_case(first[0], Path(work), options))
        for case in find_cases(_copied(first, count, manifest)):
            folder = output / "cases" / case.key
            folder.mkdir(parents=True)
            prepared["spine"] |= {"case": case.key, "subject": case.subject}
            items = [{**item, "subject": case.subject} for item in prepared["items"]]
            write_json(folder / CASE_FILE, {**prepared, "items": items})
            (folder / STAMP_FILE).write_text(stamp_of(case, options))
        run = _watched(["prepare", "--source", str(manifest), "--output", str(output)], workers=2)
        size = (output / LISTS_FILE).stat().st_size / 1e6
    columns = ["cases", "rows of dataset.json", "its MB", "s", "CPU-s", "MB of the largest process"]
    numbers = (f"{v:.0f}" for v in (size, run.wall_s, run.cpu_s, run.largest_mb))
    return "\n".join(markdown_table(columns, [[count, count * len(items), *numbers]])) + "\n"


def report(costs: list[Cost]) -> str:
    """Markdown: what was measured, and what it means for many CTs."""
    measured = []
    for c in costs:
        seconds = [f"{c.wall_s / c.cases:.1f}", f"{c.wall_s / c.vertebrae:.2f}", f"{c.cpu_s / c.cases:.1f}"]
        measured.append(
            [c.workers, c.copies, c.cases, c.vertebrae, *seconds, f"{c.worker_mb:.0f}", f"{c.total_mb:.0f}"]
        )
    columns = ["workers", "copies", "CTs", "vertebrae", "s a CT", "s a vertebra", "CPU-s a CT", "MB a process"]
    lines = [*markdown_table([*columns, "MB in all"], measured), ""]
    hours = {count: count * costs[0].cpu_s / costs[0].cases / 3600 for count in LARGE}
    projected = ([count, f"{h:.1f}", f"{h / 2:.1f}", f"{h / 64:.2f}"] for count, h in hours.items())
    lines += markdown_table(["CTs", "core-hours", "hours on 2 cores", "hours on 64 cores"], projected)
    return "\n".join(lines) + "\n"


def measure_scaling(
    source: str,
    workers: tuple[int, ...] = (1, 2),
    copies: tuple[int, ...] = (1,),
    output: Path | None = None,
    bookkeep: int = 0,
) -> None:
    """Print, or write, seconds and peak memory that preparing takes.

    Args:
        source: folder of CTs with labelmaps, manifest (.json), or several with commas between them.
        workers: numbers of processes to try, comma-separated.
        copies: numbers of copies of each CT to try, comma-separated.
        output: Markdown file to write as well.
        bookkeep: instead, measure the bookkeeping of so many cases.
    """
    if bookkeep:
        text = measure_bookkeeping(source, bookkeep)
    else:
        trials = [(w, c) for c in copies for w in workers]
        text = report([measure(source, *trial) for trial in trials])
    print(text)
    if output:
        write_text(output, text)


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
    run_module(measure_scaling)
