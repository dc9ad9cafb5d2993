"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import ROOT

EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "scripts").rglob("*.py")
    if "\n    >>> " in path.read_text()
)


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
