"""How configs combine: docs/configs.md names all files and stacks, and no overlay of a stack changes another."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any

import pytest
from monai.bundle import ConfigParser, ReferenceResolver

from scripts.benchmarks.transfer import OVERLAYS
from scripts.learning.gpu import CONFIGS as KIT
from tests.conftest import ROOT
from tests.test_documents import DOCUMENTS

FILES = {path.relative_to(ROOT / "configs").as_posix(): path for path in (ROOT / "configs").rglob("*.json")}
BASES = ("train.json", "train_localization.json", "inference.json")
PAGE = (ROOT / "docs" / "configs.md").read_text()
NAMED = re.compile(r"\['configs/[^]]*\]|--overlays configs/[^ `]*|--config_file configs/\S+")
# Their default of 1 is as far as people differ: simulated CTs have it, samples made from them less.
OTHERS_DEFAULTS = ("scripts.simulation.draw.VariationOptions",)
WORKFLOWS = ("initialize", "run", "finalize", "training", "evaluating", "inference")


def read(name: str) -> dict[str, Any]:
    return json.loads(FILES[name].read_text())


@cache
def stacks() -> dict[tuple[str, ...], str]:
    """Stacks that documents and scripts name -> where."""
    found: dict[tuple[str, ...], str] = {tuple(f"{name}.json" for name in kit): "GPU kit" for kit in KIT.values()}
    cells = [line.split("|")[2] for line in PAGE.split("## Stacks")[1].splitlines() if line.startswith("| ")]
    rows = re.findall(r"`([a-z0-9_/]+(?: \+ [a-z0-9_/]+)*)`", "".join(cells))
    found |= {tuple(f"{name}.json" for name in row.split(" + ")): "docs/configs.md" for row in rows}
    for path in DOCUMENTS:
        for several in NAMED.findall(path.read_text()):
            names = re.findall(r"configs/([a-z0-9_/]+\.json)", several)
            if several.startswith("--overlays"):
                names = ["train.json", *names]
            if "baselines/mine.json" not in names:
                found[tuple(names)] = path.name
    found[("train.json", *(name.removeprefix("configs/") for name in OVERLAYS))] = "scripts.benchmarks.transfer"
    # The benchmark puts one of the models last.
    models = [name for name in FILES if "/" in name and not name.startswith("recipes/")]
    shared = [s for s in found if s[-1] == "recipes/benchmark.json"]
    return found | {(*stack, model): "benchmark" for stack in (("train.json",), *shared) for model in models}


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Every single value -> where it is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = dict(chain.from_iterable(leaves(v, f"{place}#{k}").items() for k, v in items))
    return inner or {place: value}


def changed_twice(stack: tuple[str, ...]) -> list[str]:
    """Values that one overlay sets and a later one changes or removes."""
    owner: dict[str, str] = {}
    conflicts = []
    before = leaves(ConfigParser.load_config_files([str(FILES[stack[0]])]))
    for number in range(1, len(stack)):
        after = leaves(ConfigParser.load_config_files([str(FILES[name]) for name in stack[: number + 1]]))
        differing = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
        conflicts += [f"{stack[number]} changes {p} of {owner[p]}" for p in sorted(differing & owner.keys())]
        owner |= dict.fromkeys(differing & after.keys(), stack[number])
        before = after
    return conflicts


def undefined(stack: tuple[str, ...]) -> list[str]:
    """References of what a workflow needs that nothing defines."""
    parser = ConfigParser()
    parser.read_config([str(FILES[name]) for name in stack])
    parser.parse()
    wanted = [name for name in WORKFLOWS if name in parser]
    seen: set[str] = set()
    missing = []
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in parser:
            wanted += ReferenceResolver.find_refs_in_config(parser[name], name)
        else:
            missing.append(name)
    assert len(seen) > 10
    return missing


def test_the_page_names_every_file_and_what_it_sets() -> None:
    named = set(re.findall(r"`([a-z0-9_/]+\.json)`", PAGE))
    assert named == set(FILES)
    rows = dict(re.findall(r"^\| `([a-z0-9_/]+\.json)` \| [^|]* \| ([^|]*) \|$", PAGE, re.MULTILINE))
    for name in set(FILES) - {*BASES, "metadata.json"}:
        if not name.startswith(("baselines/", "ablations/")):
            assert re.findall(r"`([^`]*)`", rows[name]) == list(read(name)), name


def test_every_overlay_is_part_of_a_stack() -> None:
    assert len(stacks()) > 50
    assert set(FILES) - set(chain.from_iterable(stacks())) == {"metadata.json"}


@pytest.mark.parametrize("stack", stacks(), ids=lambda stack: "+".join(name.removesuffix(".json") for name in stack))
def test_a_stack_resolves_and_no_overlay_changes_what_another_has_set(stack: tuple[str, ...]) -> None:
    assert stack[0] in BASES
    assert sum(name.startswith("recipes/") for name in stack) <= 1
    assert undefined(stack) == []
    assert changed_twice(stack) == []


@pytest.mark.parametrize("recipe", ["fast", "transfer", "benchmark"])
def test_both_networks_follow_the_cosine_of_a_recipe(recipe: str) -> None:
    """The discriminator kept its full rate to the end."""
    parser = ConfigParser()
    parser.read_config([str(FILES["train.json"]), str(FILES[f"recipes/{recipe}.json"])])
    for network in ("", "discriminator_"):
        found = parser[parser[f"{network}lr_scheduler"].removeprefix("@")]
        assert found["optimizer"] == f"@{network}optimizer"
        assert (found["_target_"].split(".")[-1], found["T_max"]) == ("CosineAnnealingLR", "@max_epochs")


def test_what_these_tests_look_for_is_found() -> None:
    assert changed_twice(("train.json", "view_encoders.json", "level.json"))
    assert changed_twice(("train.json", "level.json", "online.json", "minutes.json"))
    assert "source" in undefined(("train.json", "online.json"))


def test_random_transforms_are_entries_with_names() -> None:
    lists = 0
    for name in FILES:
        content = read(name)
        assert not [place for place in content if re.search(r"#\d", place)], name
        steps = content.get("train#random_transforms", content.get("train", {}).get("random_transforms", []))
        assert all(re.fullmatch(r"@[a-z_]+", step) for step in steps), name
        lists += bool(steps)
    assert lists == 4


def components(value: Any) -> Iterator[dict[str, Any]]:
    """Descriptions of our own classes and functions."""
    if isinstance(value, dict) and str(value.get("_target_")).startswith("scripts."):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from components(inner)


def literal(parser: ConfigParser, value: Any) -> Any:
    """What a value is once its references are followed; None for what only runs can tell."""
    while isinstance(value, str) and value.startswith("@"):
        value = parser[value.removeprefix("@")]
    if isinstance(value, list):
        return tuple(literal(parser, item) for item in value)
    return None if isinstance(value, dict) or str(value).startswith("$") else value


@cache
def own_defaults(target: str) -> dict[str, Any]:
    """Numbers, words and tuples of them that are defaults of a class or function, unless it is inherited."""
    module, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    owner = next(c for c in found.__mro__ if "__init__" in c.__dict__) if inspect.isclass(found) else found
    if not owner.__module__.startswith("scripts."):
        return {}
    defaults = {p.name: p.default for p in inspect.signature(found).parameters.values()}
    return {
        k: v for k, v in defaults.items() if isinstance(v, bool | int | float | str) or (isinstance(v, tuple) and v)
    }


def test_no_default_in_code_is_one_that_no_config_has() -> None:
    """A number that every config sets otherwise would only mislead whoever reads the code."""
    given: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for stack in stacks():
        parser = ConfigParser()
        parser.read_config([str(FILES[name]) for name in stack])
        parser.parse()
        for component in components(parser.get()):
            target = component["_target_"]
            for name, default in own_defaults(target).items():
                given[target, name].add(literal(parser, component.get(name, default)))
    assert len(given) > 150
    contradicted = [
        f"{target}: {name}"
        for (target, name), values in given.items()
        if target not in OTHERS_DEFAULTS and not {None, own_defaults(target)[name]} & values
    ]
    assert contradicted == []
