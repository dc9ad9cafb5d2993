"""Options of a workflow that nothing would read: MONAI adds what no config has to the config, without a word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from inspect import currentframe, signature
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver, create_workflow, run
from monai.bundle.scripts import update_kwargs

from scripts.errors import UserError

# Entries of a config that MONAI reads by their names.
READ = ("imports", "initialize", "run", "finalize")
# Its own arguments, which are no entries.
OWN = {name for call in (run, create_workflow, ConfigWorkflow) for name in signature(call).parameters}


def check_options() -> None:
    """Refuse options of the ``monai.bundle run`` that this process is for, if nothing reads them.

    Calls from Python are left alone: a benchmark gives all its networks the same options, and not each has them all.

    Raises:
        UserError: one is misspelt.
    """
    main = getattr(sys.modules["__main__"], "__spec__", None)
    call = _call() if main is not None and main.name == "monai.bundle.__main__" else None
    if call is None:
        return
    given = update_kwargs(call["args_file"], config_file=call["config_file"], **call["override"])
    ids = [call[name] or given.get(name) for name in ("run_id", "init_id", "final_id")]
    # Tracking experiments has options of its own.
    if not (call["tracking"] or given.get("tracking")):
        refuse_unread(given.pop("config_file"), given, (*READ, *filter(None, ids)))


def _call() -> dict[str, Any] | None:
    """The arguments of the `monai.bundle.run` that is under way; its workflow tells nobody."""
    frame = currentframe()
    while frame is not None and frame.f_code is not run.__code__:
        frame = frame.f_back
    return None if frame is None else frame.f_locals


def refuse_unread(config_file: str | list[str], options: dict[str, Any], read: Iterable[str] = READ) -> None:
    """Refuse options that set what no config has, unless something refers to it or takes whatever is there.

    Args:
        config_file: one or several, as MONAI takes them.
        options: value by its id in the config, such as ``loss_weights#dice``.
        read: further ids at the top of a config.

    Raises:
        UserError: nothing would read one of them.
    """
    config = ConfigParser.load_config_files(config_file)
    text = ReferenceResolver.normalize_id(repr([config, *options.values()]))
    for option in options:
        place, name, known = _first_missing(option, config)
        if not place:
            known += [*read, *OWN, "_meta_"]
        taken = any(_is_named(place[:number], text, whole=True) for number in range(1, len(place) + 1))
        if not name or name in known or taken or _is_named((*place, name), text):
            continue
        near = get_close_matches(name, known, 1)
        instead = f"; did you mean --{'#'.join((*place, *near))}?" if near else ""
        raise UserError(f"--{option}: nothing in this run's configs reads it{instead}")


def _first_missing(option: str, config: dict[str, Any]) -> tuple[list[str], str, list[str]]:
    """The first part of an id that a config lacks: where it would be, its name, and what else is there.

    No name if there is none, or if it would be an argument of an object, which refuses a wrong one by itself.
    """
    place: list[str] = []
    node: Any = config
    for part in ReferenceResolver.split_id(option):
        if not isinstance(node, dict) or "_target_" in node:
            break
        if part not in node:
            return place, part, list(node)
        place, node = [*place, part], node[part]
    return [], "", []


def _is_named(place: Sequence[str], text: str, whole: bool = False) -> bool:
    """Whether a reference in a text leads to a place; ``whole``: and ends there. A relative one is known by its end."""
    *above, name = map(re.escape, place)
    start = f"(?:[@%:]{above[-1]}::|[@%]:+)" if above else "[@%]:*"
    end = r"(?![\w:])" if whole else r"\b"
    return re.search(start + name + end, text) is not None
