"""Corrupted inputs of every kind for all readers; each has to be read or refused in one line, in time.

    python -m scripts.benchmarks.fuzz --count 20000 --seed 0
    python -m scripts.benchmarks.fuzz --only film_plain --count 500 --output FOUND

DICOM, NIfTI, PNG, JPEG, TIFF, JSON and YAML files are corrupted in their bytes or in one field of their structure
(`scripts.benchmarks.fuzz.mutations`) and read in a process of their own with limited memory. A fault is any other
exception than a `UserError`, an error of several lines or without the file's name, a value that is not finite, a file
left behind, the death of the process, or no answer in time. Input k of a seed is always the same; ``--output`` keeps
those that brought a fault about. The exit code is 1 if there was one.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scripts.benchmarks.fuzz.mutations import mutate
from scripts.benchmarks.fuzz.originals import Original, originals
from scripts.benchmarks.fuzz.process import Reader
from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.tables import markdown_table

FAULT = "fault"


@dataclass
class Tally:
    """What became of the inputs of one original: answers, the longest time, and the faults by number of the input."""

    answers: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(count: int, seed: int, limit_s: float, only: str = "", keep: Path | None = None) -> dict[str, Tally]:
    """Give ``count`` corrupted inputs to the readers, each original in turn.

    Args:
        count: of all inputs.
        seed: of the mutations.
        limit_s: in which each has to be read or refused.
        only: name of an original, or its beginning; all if empty.
        keep: folder for inputs that brought a fault about; they are dropped if None.

    Raises:
        UserError: no original has such a name.
    """
    sources = [original for original in originals() if original.name.startswith(only)]
    if not sources:
        raise UserError(f"--only {only}: none of {', '.join(original.name for original in originals())}")
    tallies = {original.name: Tally() for original in sources}
    reader = Reader(limit_s)
    try:
        for number in range(count):
            original = sources[number % len(sources)]
            _try_one(original, number, seed, reader, tallies[original.name], keep)
    finally:
        reader.stop()
    return tallies


def main(count: int = 20000, seed: int = 0, limit_s: float = 10.0, only: str = "", output: Path | None = None) -> None:
    """Give corrupted inputs to all readers and print the results.

    Args:
        count: of inputs, all kinds together.
        seed: of the mutations.
        limit_s: in which each input has to be read or refused.
        only: name of an original, or its beginning, e.g. film.tif; all if empty.
        output: folder for the inputs that brought a fault about; they are dropped if not given.
    """
    start = time.monotonic()
    tallies = fuzz(count, seed, limit_s, only, output)
    rows = [
        (
            name,
            tally.answers.total(),
            tally.answers["read"],
            tally.answers["refused"],
            len(tally.faults),
            f"{tally.longest_s:.1f}",
        )
        for name, tally in tallies.items()
    ]
    print("\n".join(markdown_table(("input", "inputs", "read", "refused", "faults", "longest s"), rows)))
    faults = [(name, number, fault) for name, tally in tallies.items() for number, fault in tally.faults.items()]
    for name, number, fault in faults:
        print(f"\n{name}, input {number}: {fault}")
    print(f"\n{count} inputs, {len(faults)} faults, {time.monotonic() - start:.0f} s")
    if faults:
        raise SystemExit(1)


def _try_one(original: Original, number: int, seed: int, reader: Reader, tally: Tally, keep: Path | None) -> None:
    content = mutate(original.content, original.kind, np.random.default_rng((seed, number)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.name
        path.write_bytes(content)
        start = time.monotonic()
        answer = reader.ask(path)
    tally.longest_s = max(tally.longest_s, time.monotonic() - start)
    known = answer in ("read", "refused")
    tally.answers[answer if known else FAULT] += 1
    if not known:
        tally.faults[number] = answer
        if keep is not None:
            (keep / str(number)).mkdir(parents=True, exist_ok=True)
            (keep / str(number) / original.name).write_bytes(content)


if __name__ == "__main__":
    run_module(main)
