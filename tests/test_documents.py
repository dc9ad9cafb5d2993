"""What the documents tell a reader to type exists; what other tests do not run is run here."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.__main__ import VERBS
from scripts.command import Command, options_of
from scripts.learning.overrides import refuse_unread
from tests.conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
VERB = re.compile(r"python -m scripts (?P<verb>[a-z][a-z-]*)(?P<rest>[^`|\n]*)")
MODULE = re.compile(r"python -m (?P<module>scripts\.[a-z_.]+)(?P<rest>[^`|\n]*)")
CONFIG = re.compile(r"configs/[a-z0-9_/]+\.json")
NAME = re.compile(r"`(scripts\.[a-zA-Z_.]+[a-zA-Z])`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)")
WORKFLOW = re.compile(r"(?:monai\.bundle|…) run [^`|\n]*")
OPTION = re.compile(r"(?<!\S)--([A-Za-z_][A-Za-z_0-9-]*)")


def module_commands(place: Path) -> list[Command]:
    """Functions that a module runs as commands when it is run by itself; none if it reads its words otherwise."""
    file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    given = re.search(r"^    run_module\((.*)\)$", file.read_text() if file.is_file() else "", re.MULTILINE)
    if given is None:
        return []
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    return [getattr(module, name) for name in re.findall(r"\b[a-z_]+\b(?!\")", given[1])]


def misspelled(words: str, commands: list[Command]) -> list[str]:
    """Options in a document that none of the commands has, or that are not spelled with dashes."""
    known = {name.replace("_", "-") for command in commands for name in options_of(command)}
    return [option for option in OPTION.findall(words) if option not in {*known, "help", "debug"}]


def check_commands(text: str, path: Path) -> int:
    """Every verb, module and option that a text names exists; how many commands it names."""
    for found in VERB.finditer(text):
        assert found["verb"] in VERBS, f"{path}: {found[0]}"
        assert misspelled(found["rest"], [VERBS[found["verb"]]]) == [], f"{path}: {found[0]}"
    for found in MODULE.finditer(text):
        place = ROOT / found["module"].rstrip(".").replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), f"{path}: {found[0]}"
        commands = module_commands(place)
        assert not commands or misspelled(found["rest"], commands) == [], f"{path}: {found[0]}"
    return len([*VERB.finditer(text), *MODULE.finditer(text)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_verb_option_module_and_link_of_a_document_exists(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    check_commands(text, path)
    for target in LINK.findall(text):
        assert not target or (path.parent / target).exists(), target
    for name in CONFIG.findall(text):
        assert (ROOT / name).is_file() or name == "configs/baselines/mine.json", name


def test_every_option_of_a_workflow_is_one_that_its_configs_read() -> None:
    named = 0
    for path in DOCUMENTS:
        for line in WORKFLOW.findall(path.read_text().replace("\\\n", " ")):
            words = shlex.split(line)
            options = {word.removeprefix("--"): words[n + 1] for n, word in enumerate(words) if word.startswith("--")}
            files = CONFIG.findall(options.pop("config_file", "configs/train.json"))
            refuse_unread([str(ROOT / name) for name in files if (ROOT / name).is_file()], options)
            named += len(options)
    assert named > 50


def test_what_these_tests_look_for_is_there() -> None:
    """Loops over nothing would pass."""
    text = "".join(path.read_text() for path in DOCUMENTS)
    assert len(DOCUMENTS) > 15
    for pattern, least in ((VERB, 20), (MODULE, 20), (LINK, 50), (OPTION, 100), (CONFIG, 15)):
        assert len(pattern.findall(text)) >= least, pattern.pattern


def test_commands_of_docstrings_exist() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    named = 0
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, documented):
                named += check_commands(ast.get_docstring(node) or "", path)
    assert named > 40


def test_configs_and_modules_that_docstrings_name_exist() -> None:
    sources = [path for path in (ROOT / "scripts").rglob("*.py")]
    named = 0
    for path in sources:
        text = path.read_text()
        for name in CONFIG.findall(text):
            assert (ROOT / name).is_file(), f"{path.relative_to(ROOT)}: {name}"
        for name in NAME.findall(text):
            parts = name.split(".")
            files = [ROOT.joinpath(*parts[:n]) for n in range(len(parts), 1, -1)]
            place = next((f for f in files if f.with_suffix(".py").is_file() or (f / "__init__.py").is_file()), None)
            assert place is not None, f"{path.relative_to(ROOT)}: {name}"
            left = parts[len(place.relative_to(ROOT).parts) :]
            module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
            assert not left or re.search(rf"\b{left[0]}\b", module.read_text()), f"{path.relative_to(ROOT)}: {name}"
            named += 1
    assert named > 60


def test_a_baseline_in_one_file_as_documented(dataset: Path, tmp_path: Path) -> None:
    """The contributor's page, followed to the letter in a copy of the tree."""
    page = (ROOT / "docs" / "contributing.md").read_text()
    for folder in ("configs", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "static"))
    blocks = dict(re.findall(r"```(python|json)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "scripts/reconstruction/networks/baselines/mine.py").write_text(blocks["python"])
    (tmp_path / "configs/baselines/mine.json").write_text(blocks["json"])
    training, benchmark = re.findall(r"^python -m (?:monai\.bundle run|scripts benchmark).*$", page, re.MULTILINE)
    overrides = {"max_epochs": 1, "num_workers": 0, "batch_size": 2, "discriminator_def#channels": 4}
    more = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    places = {"DATASET": str(dataset), "OUT": str(tmp_path / "out"), "mine,reverter": "mine"}
    for line, words in (
        (training, [*more, "--output_dir", str(tmp_path / "training")]),
        (benchmark, ["--overrides", json.dumps(overrides), "--gpus", ""]),
    ):
        command = shlex.split(line)
        for placeholder, place in places.items():
            command = [word.replace(placeholder, place) for word in command]
        run = subprocess.run(
            [sys.executable, "-W", "ignore", *command[1:], *words],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert (tmp_path / "training" / "model.pt").is_file()
    assert "| mine" in (tmp_path / "out" / "report" / "report.md").read_text()
