"""Words of the command line become what a signature names."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from scripts.__main__ import VERBS
from scripts.command import options_of, run_command, to_type
from scripts.errors import UserError
from scripts.levels import Level
from tests.conftest import ROOT
from tests.test_documents import module_commands


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Paint:
    """How to paint.

    Args:
        colour: of the paint.
        layers: how many.
    """

    colour: Colour = Colour.RED
    layers: int = 1


SEEN: list[tuple[Any, ...]] = []


def paint(house: str, paint: Paint, doors: tuple[int, ...] = (1, 2), list_: str = "", dry: bool = False) -> None:
    """Paint a house.

    Args:
        house: which one.
        paint: how.
        doors: numbers, comma-separated.
        list_: of the painters.
        dry: wait for it to dry.
    """
    SEEN.append((house, paint, doors, list_, dry))


@pytest.mark.parametrize(
    ("word", "kind", "value"),
    [
        ("007", str, "007"),
        ("3", int, 3),
        ("1e-3", float, 0.001),
        ("True", bool, True),
        ("false", bool, False),
        ("a/b", Path, Path("a/b")),
        ("blue", Colour, Colour.BLUE),
        ("None", Path | None, None),
        ("", Path | None, None),
        ("007, 8", tuple[str, ...], ("007", "8")),
        ("", tuple[str, ...] | None, ()),
        ("l1,T13", tuple[Level, ...], (20, 28)),
        ("0.14", tuple[float, float] | None, (0.14, 0.14)),
        ("1,2,3", tuple[int, int, int], (1, 2, 3)),
        ('{"a": [true, null], b: 2}', dict[str, Any], {"a": [True, None], "b": 2}),
    ],
)
def test_a_word_becomes_the_type(word: str, kind: Any, value: Any) -> None:
    assert to_type(word, kind, "option") == value


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("x", int, "--an-option takes a whole number, not 'x'"),
        ("1,x", tuple[float, ...], "--an-option takes a number, not 'x'"),
        ("maybe", bool, "true or false"),
        ("green", Colour, "red or blue, not 'green'"),
        ("1,2,3", tuple[float, float], "2 values"),
        ("", tuple[float, float], "2 values"),
        ("3", dict[str, Any], "is a dictionary"),
        ("Q1", tuple[Level, ...], "unknown vertebra level 'Q1'"),
    ],
)
def test_a_word_of_another_type_gets_one_line(word: str, kind: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        to_type(word, kind, "an_option")


def test_options_of_a_group_are_flat() -> None:
    assert list(options_of(paint)) == ["house", "colour", "layers", "doors", "list", "dry"]
    assert (
        run_command(paint, ["--house=007", "--layers", "2", "--colour=blue", "--doors=3", "--list", "a", "--dry"]) == 0
    )
    assert run_command({"paint": paint}, ["paint", "mine", "--nodry"]) == 0
    assert SEEN[-2:] == [
        ("007", Paint(Colour.BLUE, 2), (3,), "a", True),
        ("mine", Paint(Colour.RED, 1), (1, 2), "", False),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs --house"),
        (["--house=a", "--roof=b"], "has no option --roof; it has --house, --colour, --layers, --doors, --list, --dry"),
        (["--house=a", "--layers=two"], "--layers takes a whole number, not 'two'"),
    ],
)
def test_what_is_wrong_is_refused_before_any_work(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(SEEN)
    assert run_command(paint, words) == 1
    assert capsys.readouterr().err == f"error: {message}\n" and len(SEEN) == before
    with pytest.raises(UserError):
        run_command(paint, [*words, "--debug"])


def test_the_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command({"paint": paint}, ["paint", "--help"])
    shown = "".join(capsys.readouterr())
    assert "FIRE" not in shown and "Default: 'red'" in shown and "Default: '1,2'" in shown
    assert all(text in shown for text in ("which one.", "of the paint.", "how many.", "of the painters."))


def test_the_help_spells_options_with_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(VERBS, ["reconstruct", "--help"])
    shown = "".join(capsys.readouterr())
    assert "--mesh-formats" in shown and "--batch-size" in shown and not re.search(r"--[a-z]+_", shown)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_every_option(verb: str) -> None:
    assert [name for name, option in options_of(VERBS[verb]).items() if not option.meaning] == []


def test_every_module_that_is_a_command_has_types_for_its_words() -> None:
    found = [c for p in (ROOT / "scripts").rglob("*.py") for c in module_commands(p.with_suffix(""))]
    assert len(found) > 30 and all(options_of(command) for command in found)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As in ``python -m scripts ... | head -1``."""
    code = "from scripts.command import run_module\ndef say() -> None:\n    [print('line') for _ in range(100000)]\n"
    program = subprocess.Popen(
        [sys.executable, "-c", f"{code}run_module(say)"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None and program.stderr is not None
    assert program.stdout.readline() == "line\n"
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait() == 141


def test_a_path_of_any_bytes_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that takes UTF-8 only would otherwise end a finished job with an error."""

    def show(output: Path) -> None:
        """Print it."""
        print(output)

    name, printed = b"Erg\xe4bnis", io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8", "strict"))
    assert run_command(show, [f"--output={os.fsdecode(name)}"]) == 0
    sys.stdout.flush()
    assert printed.getvalue().strip() == name
