"""Config values for all models of a benchmark, refused where they would change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from monai.bundle import ConfigParser

from scripts.benchmarks.paper.models import MODELS
from scripts.benchmarks.paper.plan import Plan
from scripts.errors import UserError

# What each training gets from the benchmark.
RESERVED = {
    "seed": "give --seeds",
    "resume": "a training always goes on where it was",
    "dataset_dir": "give --dataset",
    "output_dir": "give --output",
    "bundle_root": "it is this bundle's folder",
    "val_interval": "a benchmark does not validate",
    "validate": "a benchmark does not validate",
}


def check_overrides(plan: Plan) -> None:
    """Refuse overrides that the benchmark sets itself, and those that no config of its models contains.

    All models count and not the chosen ones alone, since others may be added to a benchmark later.

    Raises:
        UserError: there is one.
    """
    if not plan.overrides:
        return
    bare = replace(plan, overrides={})
    parsers = [bare.parser(model) for model in MODELS.values()]
    for key in plan.overrides:
        parts = key.replace("::", "#").split("#")
        if parts[0] in RESERVED:
            raise UserError(f"--overrides: '{key}' cannot be set here: {RESERVED[parts[0]]}")
        if not any(_has_place(parser, parts) for parser in parsers):
            near = get_close_matches(key, [name for parser in parsers for name in _beside(parser, parts)], n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"--overrides: no config of the benchmark has '{key}'{hint}")


def _has_place(parser: ConfigParser, parts: Sequence[str]) -> bool:
    """Whether a config contains a value, or an object that may take it and otherwise says so itself."""
    *above, name = parts
    parent: Any = parser["#".join(above)] if above and "#".join(above) in parser else None
    return bool(name) and ("#".join(parts) in parser or (isinstance(parent, dict) and "_target_" in parent))


def _beside(parser: ConfigParser, parts: Sequence[str]) -> list[str]:
    """Full names of what a config has at the first place where it lacks a part of a name."""
    known = next(n for n in range(len(parts), -1, -1) if n == 0 or "#".join(parts[:n]) in parser)
    place = parser["#".join(parts[:known])]
    return ["#".join((*parts[:known], name)) for name in place] if isinstance(place, dict) else []
