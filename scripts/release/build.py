"""From a tree to what is handed out: the zip, its checksums, its papers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
import yaml

from scripts.errors import UserError
from scripts.io.atomic import atomic_folder
from scripts.io.checksums import LIST, checksum_lines, sha256
from scripts.release.archive import write_zip
from scripts.release.bill import bill_of_materials, licence_list
from scripts.release.bundle import Bundle
from scripts.release.export import export_networks
from scripts.release.requirements import read_packages
from scripts.release.triton import write_model_repository
from scripts.release.zoo import RULES, exports, torchscript, verify

REPORT = "release.json"


def release(bundle: Bundle, output: Path, base_url: str = "", tests: tuple[str, ...] = ("tests",)) -> dict[str, Any]:
    """Build a release, or refuse.

    Args:
        bundle: the tree.
        output: folder for the zip, ``models/`` as they are to be hosted, ``triton/``, the papers and `LIST`.
        base_url: where the output folder will be reachable; large_files.yml names the models there. Without it the
            list is empty, and the models are in the zip only.
        tests: files or folders of tests to run; the report says which.

    Returns:
        the report, as in ``release.json``.

    Raises:
        UserError: tests, the zoo's checks, checksums or git disagree with the tree.
    """
    loose = bundle.uncommitted()
    if loose:
        raise UserError(f"{loose[0]}: not as committed ({len(loose)} such files); a release is made of commits")
    # The exports are made below, and the tree's own are not shipped.
    blocking = verify(bundle, tuple(rule for rule in RULES if rule not in (exports, torchscript)))
    if blocking:
        raise UserError(f"{blocking[0]} ({len(blocking)} findings; see above)")
    packages = read_packages(bundle)
    passed = run_tests(bundle, tests)
    with atomic_folder(output, REPORT) as work:
        folder = work / bundle.name
        for name in bundle.files():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.root / name, target)
        export_networks(bundle, folder / "models")
        write_model_repository(bundle, folder / "models", work / "triton")
        models = sorted(f"models/{path.name}" for path in (folder / "models").iterdir())
        (folder / "large_files.yml").write_text(large_file_list(folder, models if base_url else [], base_url))
        weights = {name: sha256(folder / name) for name in models}
        bill = json.dumps(bill_of_materials(bundle, packages, weights), indent=2) + "\n"
        licences = licence_list(bundle, packages)
        for place in (folder, work):
            (place / "sbom.cdx.json").write_text(bill)
            (place / "THIRD_PARTY.md").write_text(licences, encoding="utf-8")
        _refuse_own_paths(folder, bundle.root)
        inside = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        (folder / LIST).write_text(checksum_lines(folder, inside), encoding="utf-8")
        archive = f"{bundle.name}_v{bundle.version}.zip"
        write_zip(work / archive, folder)
        sizes = {name: (folder / name).stat().st_size for name in models}
        if base_url:
            shutil.move(folder / "models", work / "models")
        shutil.rmtree(folder)
        report: dict[str, Any] = {
            "name": bundle.name,
            "version": bundle.version,
            "commit": bundle.commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "tests": {"selection": list(tests), "passed": passed},
            "files": {archive: (work / archive).stat().st_size, **sizes},
        }
        (work / REPORT).write_text(json.dumps(report, indent=2) + "\n")
        names = [path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()]
        (work / LIST).write_text(checksum_lines(work, names), encoding="utf-8")
    return report


def run_tests(bundle: Bundle, tests: tuple[str, ...]) -> int:
    """Run tests of the tree, in a process of their own, shown as they run.

    Returns:
        how many passed.

    Raises:
        UserError: one fails, or no test exists.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={results}", *tests],
            cwd=bundle.root, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False,
        )  # fmt: skip
        if run.returncode or not results.is_file():
            raise UserError(f"the tests fail ({' '.join(tests)}; see above): nothing is released")
        suites = list(ElementTree.parse(results).getroot().iter("testsuite"))
    return sum(int(s.get("tests", 0)) - int(s.get("skipped", 0)) for s in suites)


def large_file_list(folder: Path, names: list[str], base_url: str) -> str:
    """large_files.yml for files of a folder that will be reachable under a URL."""
    entries = [
        {
            "path": name,
            "url": f"{base_url.rstrip('/')}/{name}",
            "hash_val": sha256(folder / name),
            "hash_type": "sha256",
        }
        for name in names
    ]
    return yaml.safe_dump({"large_files": entries}, sort_keys=False)


def _refuse_own_paths(folder: Path, root: Path) -> None:
    """No file may name the folder or the virtual environment of the machine that makes the release."""
    own = [str(root.resolve())] + ([sys.prefix] if sys.prefix != sys.base_prefix else [])
    needles = [path.encode() for path in own if len(path) > len("/bundle")]
    for path in folder.rglob("*"):
        contents = [path.read_bytes()] if path.is_file() else []
        if path.suffix in (".ts", ".pt") and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        if any(needle in content for needle in needles for content in contents):
            raise UserError(f"{path.relative_to(folder)}: names a folder of this machine")
