"""What MONAI's model zoo asks of a bundle's files, stated again.

After the zoo's ``ci/verify_bundle.py``, CONTRIBUTING.md and pre-commit settings (Project-MONAI/model-zoo).
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import jsonschema

from scripts.release.bundle import Bundle, read_object
from scripts.release.requirements import canonical, requirements

SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
MAX_GIT_BYTES = 25_000_000
MAX_HOOK_BYTES = 1_024_000
RECOMMENDED_KEYS = (
    "name", "changelog", "data_source", "data_type", "image_classes", "label_classes", "pred_classes", "eval_metrics",
    "intended_use", "references",
)  # fmt: skip
README_HEADINGS = (
    "Model Overview", "Data", "Training configuration", "Input", "Output", "Performance",
    "MONAI Bundle Commands", "References", "License",
)  # fmt: skip
# JSON that people write, formatted as the hook `pretty-format-json` does with four spaces and keys in their order.
WRITTEN_JSON = ("configs/*.json", "*.schema.json", "*/deno.json")
# JSON that programs write, or others (VerSe's marks, MONAI's schema): it stays as it is.
DATA_JSON = (
    "docs/sample/*.json", "docs/training/*.json", "tests/data/*.json", "scripts/anatomy/distances.json",
    "scripts/simulation/variation.json", "scripts/release/meta_schema_*.json",
)  # fmt: skip
# What is left to be asked of data's owners, in the words of the list.
LICENCE_LISTS, UNCONFIRMED = "docs/*license*.txt", "to be confirmed"
PERSONAL_PATH = re.compile(r"^/|^[A-Za-z]:\\|/home/|/Users/|/root/")


@dataclass(frozen=True)
class Finding:
    """Something that a check found.

    Attributes:
        text: names the file and what to do.
        blocks: whether a pull request would fail; else it is good to know.
    """

    text: str
    blocks: bool = True


# Compares other projectors, which have to be installed for it (docs/drr.md).
PEERS = "scripts/benchmarks/drr/"


def name(bundle: Bundle) -> Iterator[Finding]:
    """Letters, digits and ``_``; MONAI takes ``_v`` and a digit for the start of a version."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", bundle.name) or re.search(r"_v\d", bundle.name):
        yield Finding(f"pyproject.toml: '{bundle.name}' is no name for a bundle")


def files(bundle: Bundle) -> Iterator[Finding]:
    """Necessary and preferred files, sizes, leftovers."""
    present = bundle.files()
    for wanted in ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.pt"):
        if wanted not in present and wanted not in bundle.large_files():
            yield Finding(f"{wanted}: missing")
    for path in present:
        size = (bundle.root / path).stat().st_size
        if path not in bundle.large_files() and size > MAX_HOOK_BYTES:
            yield Finding(
                f"{path}: {size / 1e6:.1f} MB; belongs into large_files.yml, which release --base-url writes",
                size > MAX_GIT_BYTES,
            )
        if path.endswith((".pyc", ".orig", ".rej")) or path.startswith("eval/"):
            yield Finding(f"{path}: does not belong into a bundle")


def metadata(bundle: Bundle) -> Iterator[Finding]:
    """The schema, the version and the keys that reviewers expect."""
    if Path(str(bundle.metadata.get("schema", ""))).name != SCHEMA.name:
        yield Finding(f"configs/metadata.json: schema is not {SCHEMA.name}")
    for error in jsonschema.Draft201909Validator(read_object(SCHEMA)).iter_errors(bundle.metadata):
        yield Finding(f"configs/metadata.json: {error.json_path}: {error.message}")
    if bundle.version not in bundle.metadata.get("changelog", {}):
        yield Finding(f"configs/metadata.json: changelog has no entry {bundle.version}")
    if bundle.version != bundle.project["version"]:
        yield Finding(
            f"versions differ: configs/metadata.json {bundle.version}, pyproject.toml {bundle.project['version']}"
        )
    if not re.fullmatch(r"\d\.\d\.\d", bundle.version):
        yield Finding(
            f"configs/metadata.json: version {bundle.version}; no part above 9, MONAI sorts versions as words"
        )
    for key in RECOMMENDED_KEYS:
        if not bundle.metadata.get(key):
            yield Finding(f"configs/metadata.json: {key} is missing or empty")


def packages(bundle: Bundle) -> Iterator[Finding]:
    """The zoo installs what the metadata lists and nothing else, so that must be all there is to install."""
    listed = dict(bundle.metadata.get("required_packages_version", {}))
    for package, key in (("monai", "monai_version"), ("torch", "pytorch_version"), ("numpy", "numpy_version")):
        listed[package] = bundle.metadata.get(key, "")
    listed = {canonical(package): version for package, version in listed.items()}
    pinned = dict(line.split("==") for line in bundle.project["dependencies"])
    pinned = {canonical(package): version for package, version in pinned.items()}
    for package in sorted(listed.keys() | pinned.keys()):
        if listed.get(package) != pinned.get(package):
            yield Finding(
                f"{package}: configs/metadata.json says {listed.get(package)}, pyproject.toml {pinned.get(package)}"
            )
    optional = [line for lines in bundle.project.get("optional-dependencies", {}).values() for line in lines]
    allowed = pinned.keys() | requirements(optional)
    owners = importlib.metadata.packages_distributions()
    for module, path in sorted(_imports(bundle).items()):
        if not {canonical(owner) for owner in owners.get(module, [module])} & allowed:
            yield Finding(f"{path}: imports {module}, of which pyproject.toml does not know")


def json_files(bundle: Bundle) -> Iterator[Finding]:
    """JSON that people write is formatted; every other JSON file is known to be data. Patterns cross folders."""
    for path in bundle.files():
        if not path.endswith(".json") or any(fnmatch(path, pattern) for pattern in DATA_JSON):
            continue
        if not any(fnmatch(path, pattern) for pattern in WRITTEN_JSON):
            yield Finding(f"{path}: neither of WRITTEN_JSON nor of DATA_JSON in scripts/release/rules.py")
            continue
        text = (bundle.root / path).read_text(encoding="utf-8")
        if text != json.dumps(json.loads(text), indent=4) + "\n":
            yield Finding(f"{path}: not as json.dumps(indent=4) writes it, or with a key twice")


def configs(bundle: Bundle) -> Iterator[Finding]:
    """No paths of somebody's machine, no imports inside expressions, the properties that MONAI asks for."""
    from monai.bundle import ConfigParser
    from monai.bundle.properties import InferProperties, TrainProperties
    from monai.utils import BundleProperty, BundlePropertyConfig

    for path in bundle.files():
        if not path.startswith("configs/") or not path.endswith(".json"):
            continue
        for word in _strings(read_object(bundle.root / path)):
            if "__import__" in word:
                yield Finding(f"{path}: '{word}' imports; write it into 'imports'")
            if PERSONAL_PATH.search(word):
                yield Finding(f"{path}: '{word}' is a path of one machine")
    for file, properties in (("train.json", TrainProperties), ("inference.json", InferProperties)):
        parser = ConfigParser(read_object(bundle.root / "configs" / file))
        for about in properties.values():
            if about[BundleProperty.REQUIRED] and about[BundlePropertyConfig.ID] not in parser:
                yield Finding(f"configs/{file}: lacks {about[BundlePropertyConfig.ID]}")


def readme(bundle: Bundle) -> Iterator[Finding]:
    """docs/README.md has the zoo's headings and says the metadata's numbers."""
    try:
        text = (bundle.root / "docs" / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    headings = {line.lstrip("# ").strip().lower() for line in text.splitlines() if line.startswith("#")}
    for heading in README_HEADINGS:
        if heading.lower() not in headings:
            yield Finding(f"docs/README.md: no heading '{heading}'")
    for key, value in bundle.metadata.get("eval_metrics", {}).items():
        if isinstance(value, float) and f"{value:.3f}" not in text:
            yield Finding(f"docs/README.md: does not say the metadata's {key}, {value:.3f}")


def licences(bundle: Bundle) -> Iterator[Finding]:
    """Licences of data that nobody has confirmed yet; a release may go on, but not without a word."""
    for path in bundle.files():
        if fnmatch(path, LICENCE_LISTS):
            text = " ".join((bundle.root / path).read_text(encoding="utf-8").split())
            if UNCONFIRMED in text:
                yield Finding(f"{path}: a licence in it is still '{UNCONFIRMED}'", blocks=False)


def _imports(bundle: Bundle) -> dict[str, str]:
    """Top-level module of others -> a file that imports it."""
    found: dict[str, str] = {}
    for path in bundle.files():
        if path.startswith("scripts/") and path.endswith(".py") and not path.startswith(PEERS):
            for node in _nodes(ast.parse((bundle.root / path).read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules = [node.module]
                for module in modules:
                    found.setdefault(module.split(".")[0], path)
    return {m: path for m, path in found.items() if m not in sys.stdlib_module_names and m != "scripts"}


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of a `try` that handles ImportError: what it imports may be missing."""
    for node in ast.iter_child_nodes(tree):
        handlers = node.handlers if isinstance(node, ast.Try) else []
        if not any(isinstance(h.type, ast.Name) and h.type.id == "ImportError" for h in handlers):
            yield node
            yield from _nodes(node)


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)
