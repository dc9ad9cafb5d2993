"""The GPU kit: what it trains begins with weights that fit, and the command that it names is complete."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.errors import UserError
from scripts.learning import gpu
from scripts.release import gpu_kit
from scripts.release.requirements import canonical, requirements
from tests.conftest import ROOT


class StartedError(Exception):
    """In place of a training."""


def settings(network: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> ConfigParser:
    """The config with which a training would run."""
    parser = ConfigParser()

    def run(run_id: str, config_file: list[str], **overrides: Any) -> None:
        parser.read_config(config_file)
        parser.update({**overrides, "device": "cpu"})
        raise StartedError

    monkeypatch.setattr(gpu, "run_bundle", run)
    with pytest.raises(StartedError):
        gpu.train(network, folder, **options)
    return parser


@pytest.mark.parametrize("network", gpu.CONFIGS)
def test_the_weights_that_a_training_begins_with_fit(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`generator` was given the shipped weights, which are of a network that knows the level."""
    parser = settings(network, tmp_path, monkeypatch)
    loading = ("InitialWeights", "WarmStart")
    handlers = [h for h in parser["train#handlers"] if h["_target_"].rpartition(".")[2] in loading]
    assert len(handlers) == (2 if network in gpu.FROM_PARTS else 1)
    given = [parser.get_parsed_content(h["path"].removeprefix("@")) for h in handlers]
    assert [Path(path).name for path in given if path] == ([gpu.SHIPPED[network]] if network in gpu.SHIPPED else [])
    parser["train#handlers"] = handlers
    engine = Engine(lambda *_: None)
    for handler in parser.get_parsed_content("train#handlers"):
        handler.attach(engine)
    engine.run([0], max_epochs=1)


def test_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pt: no such weight file"):
        gpu.train("generator", tmp_path / "out", weights=tmp_path / "none.pt")
    assert not (tmp_path / "out").exists()


# Imports what a training in a kit imports, where nothing but the named packages can be imported.
IN_A_KIT = """
import importlib, sys

denied, configs = sys.argv[1].split(","), sys.argv[2]

class Bare:
    def find_spec(self, name, path=None, target=None):
        if any(name == package or name.startswith(package + ".") for package in denied):
            raise ModuleNotFoundError(f"not in the kit: {name}", name=name)

sys.meta_path.insert(0, Bare())
from monai.bundle import ConfigParser
from scripts.learning import gpu

def targets(content):
    if isinstance(content, dict):
        yield from [content["_target_"]] if "_target_" in content else []
        content = list(content.values())
    for value in content if isinstance(content, list) else []:
        yield from targets(value)

for names in gpu.CONFIGS.values():
    parser = ConfigParser()
    parser.read_config([f"{configs}/{name}.json" for name in names])
    for target in sorted(set(targets(parser.config))):
        if "." in target:
            importlib.import_module(target.rpartition(".")[0])
"""


def test_a_training_imports_nothing_that_the_machine_lacks() -> None:
    """jsonschema and tqdm were missing: every training ended at its first import."""
    owners = importlib.metadata.packages_distributions()
    there = {*gpu_kit.PACKAGES, *closure(gpu_kit.ASSUMED)}
    denied = {module for module, names in owners.items() if not {canonical(name) for name in names} & there}
    assert {"jsonschema", "pydicom"} <= denied
    denied |= {folder.replace("/", ".") for folder in gpu_kit.LEFT_OUT if folder.startswith("scripts/")}
    words = [sys.executable, "-W", "ignore", "-c", IN_A_KIT, ",".join(denied - {"scripts", "tests"}), "configs"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-1500:]


def closure(names: tuple[str, ...]) -> set[str]:
    """Packages that are installed, with all that they need."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= requirements(importlib.metadata.requires(name) or []) - found
    return found


def test_the_kit_names_a_command_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lacked --output."""
    monkeypatch.setattr(gpu_kit, "_tracked", list)
    monkeypatch.setattr(gpu_kit, "_download", lambda *_: None)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "a.npz").touch()
    gpu_kit.pack((tmp_path / "cases",), tmp_path / "kit")
    command = "bash train.sh --network level --minutes 10 --output out"
    assert capsys.readouterr().out.endswith(f"there: {command}\n")
    assert f"# {command}\n" in (tmp_path / "kit" / "train.sh").read_text()
