"""``python -m monai.bundle …`` in a process of its own, forked from one that has imported torch and MONAI already.

The command sees what a fresh interpreter would see: its own folder and PYTHONPATH, and none of our modules.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 600
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["monai.bundle", "monai.engines", "monai.handlers", "monai.transforms"])


def bundle(command: str, *arguments: str, cwd: Path = ROOT, path: str = "", ok: bool = True) -> str:
    """Run ``python -m monai.bundle``; what it prints if it ends as expected.

    Args:
        command: ``run``, ``ckpt_export``, …
        arguments: the rest of its command line.
        cwd: where it runs.
        path: PYTHONPATH.
        ok: whether it is to succeed.
    """
    return _run(_command_line, [command, *arguments], cwd, path, ok)


def python(code: str, cwd: Path = ROOT, ok: bool = True) -> str:
    """Run Python code likewise."""
    return _run(_code, [code], cwd, "", ok)


def documented(*words: str) -> list[str]:
    """Arguments of the shortest command ``python -m monai.bundle`` that docs/README.md has with all these words."""
    text = (ROOT / "docs" / "README.md").read_text().split("## MONAI Bundle Commands")[1]
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("python -m monai.bundle ")]
    found = [line[3:] for line in lines if set(words) <= set(line)]
    assert found, f"no documented command with {words}"
    return min(found, key=len)


def fill(arguments: list[str], **places: Path | str) -> list[str]:
    """The same arguments with placeholders such as DATASET replaced; ``configs`` and ``models`` are prefixes."""
    for placeholder, place in places.items():
        arguments = [argument.replace(placeholder, str(place)) for argument in arguments]
    return arguments


def tiny(network_def: dict, name: str = "network_def") -> dict[str, object]:
    """Overrides that make a network narrow, wherever in it widths and attention are set."""
    found: dict[str, object] = {}
    for key, value in network_def.items():
        if isinstance(value, dict):
            found |= tiny(value, f"{name}#{key}")
        elif key == "channels":
            found[f"{name}#{key}"] = [4, 4, 8, 8][: len(value)]
        elif key == "key_stride":
            found[f"{name}#{key}"] = 8
    return found


def options(overrides: dict[str, object]) -> list[str]:
    """Overrides as they are written on a command line."""
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value).replace(" ", ""))]


def config(name: str) -> dict:
    """A file of configs/."""
    return json.loads((ROOT / "configs" / name).read_text())


SMALL = ["--batch_size", "2", "--num_workers", "0"]
TINY = [
    *options({"attention_stride": 8, "generator_channels": [4, 4, 8, 8]}), *SMALL,
    "--discriminator_def#channels", "4", "--discriminator_def#num_layers_d", "2",
]  # fmt: skip


def _run(target, arguments: list[str], cwd: Path, path: str, ok: bool) -> str:
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        process = _context.Process(target=target, args=(arguments, str(cwd), path, output.name))
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
        text = output.read()
    assert (process.exitcode == 0) is ok, text[-5000:]
    return text


def _enter(cwd: str, path: str, output: str) -> None:
    """Make a forked process look like a fresh one in a folder."""
    handle = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.chdir(cwd)
    ours = {ROOT, ROOT / "tests"}
    sys.path[:] = [cwd, *path.split(os.pathsep)] + [p for p in sys.path if p and Path(p).resolve() not in ours]
    assert not any(name.split(".")[0] == "scripts" for name in sys.modules)
    import torch

    torch.set_num_threads(1)


def _command_line(arguments: list[str], cwd: str, path: str, output: str) -> None:
    _enter(cwd, path, output)
    sys.argv = ["monai.bundle", *arguments]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def _code(arguments: list[str], cwd: str, path: str, output: str) -> None:
    _enter(cwd, path, output)
    exec(compile(arguments[0], "documented", "exec"), {"__name__": "__main__"})
