"""How a module that is run by itself takes options and shows errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import fire

from scripts.errors import UserError


def run_module(function: Callable[..., Any]) -> None:
    """Run a function with the options of the command line, as ``python -m scripts.data.mixing`` does."""
    try:
        fire.Fire(function)
    except UserError as error:
        sys.exit(f"error: {error}")
