"""Readers under spoilt inputs: that the fuzzer sees faults, and some inputs of each kind."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.fuzz import readers
from scripts.benchmarks.fuzz.__main__ import fuzz
from scripts.benchmarks.fuzz.mutations import mutate
from scripts.benchmarks.fuzz.originals import Original, originals
from scripts.benchmarks.fuzz.process import Reader
from scripts.benchmarks.fuzz.readers import WrongError, try_input
from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.pair import read_radiograph


@pytest.mark.parametrize("original", originals(), ids=lambda original: original.name)
def test_what_is_to_be_spoilt_is_read(original: Original, tmp_path: Path) -> None:
    path = tmp_path / original.name
    path.write_bytes(original.content)
    assert try_input(path) == "read"


def test_no_reader_fails_on_some_spoilt_inputs() -> None:
    tallies = fuzz(180, seed=20, limit_s=60.0)
    assert [fault for tally in tallies.values() for fault in tally.faults.values()] == []
    answers = sum((tally.answers for tally in tallies.values()), Counter())
    assert answers.total() == 180 and min(answers["read"], answers["refused"]) > 20


def test_inputs_are_the_same_for_the_same_seed() -> None:
    spoilt = [[mutate(o.content, o.kind, np.random.default_rng(n)) for n, o in enumerate(originals())] for _ in "ab"]
    assert spoilt[0] == spoilt[1]
    assert all(content != original.content for content, original in zip(spoilt[0], originals(), strict=True))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("a.json: one\ntwo"), "of 2 lines"),
        (UserError("it is bad"), "without the file's name"),
        (ValueError("a.json"), "a.json"),
    ],
)
def test_what_is_no_line_for_the_user_is_a_fault(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> None:
        raise error

    monkeypatch.setitem(readers.READERS, "a", read)
    with pytest.raises((WrongError, ValueError), match=words):
        try_input(tmp_path / "a.json")


def test_files_left_behind_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readers.READERS, "a", lambda path: path.with_name("b").touch())
    with pytest.raises(WrongError, match="left behind: b"):
        try_input(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("what", "words"), [("hang", "no answer in 2 s"), ("die", "process died"), ("eat", "MemoryError"), ("", "read")]
)
def test_a_process_that_hangs_or_dies_is_replaced(what: str, words: str, tmp_path: Path) -> None:
    reader = Reader(2.0, function=misbehave)
    try:
        (tmp_path / what).mkdir(exist_ok=True)
        assert words in reader.ask(tmp_path / what)
        assert reader.ask(tmp_path) == "read"
    finally:
        reader.stop()


def misbehave(path: Path) -> str:
    """A reader with a fault."""
    if path.name == "hang":
        time.sleep(60)
    if path.name == "die":
        os.abort()
    return str(len(bytearray(2**34))) if path.name == "eat" else "read"


@pytest.mark.parametrize(
    ("number", "words"),
    [(6984, "it has no pixels"), (25562, "it has no pixels"), (34956, "TransferSyntaxUID cannot be read")],
)
def test_inputs_that_once_were_faults(number: int, words: str, tmp_path: Path) -> None:
    """By their numbers of seed 7: pixels that are a number, pixels of no known kind, a transfer syntax that is text."""
    original = originals()[number % len(originals())]
    path = tmp_path / original.name
    path.write_bytes(mutate(original.content, original.kind, np.random.default_rng((7, number))))
    with pytest.raises(UserError, match=words):
        read_radiograph(path, Projection.FRONTAL)
