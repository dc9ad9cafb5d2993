"""What the bundle is: its name, its version, its files, its networks. All of it is read from the tree."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from scripts.errors import UserError
from scripts.io.documents import read_json

FOLDERS = ("configs", "docs", "models", "scripts", "tests")
FILES = ("LICENSE", "Makefile", "README.md", "constraints.txt", "large_files.yml", "pyproject.toml")


@dataclass(frozen=True)
class NetworkFiles:
    """A network that a config describes and a weight file fills.

    Attributes:
        config: an inference config with ``network_def`` and ``ckpt_path``.
        weights: the state dict.
        data_format: the metadata's description of its inputs and outputs.
    """

    config: Path
    weights: Path
    data_format: dict[str, Any]

    def input_shape(self, batch: int) -> list[int]:
        """Shape of its one input tensor."""
        (tensor,) = self.data_format["inputs"].values()
        return [batch, tensor["num_channels"], *tensor["spatial_shape"]]

    def output_shape(self, batch: int) -> list[int]:
        """Shape of its one output tensor."""
        (tensor,) = self.data_format["outputs"].values()
        return [batch, tensor["num_channels"], *tensor["spatial_shape"]]


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder.

    Args:
        root: the folder that holds ``configs/metadata.json``.
    """

    root: Path

    @cached_property
    def project(self) -> dict[str, Any]:
        """The table ``project`` of pyproject.toml."""
        try:
            return tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
            raise UserError(f"{self.root / 'pyproject.toml'}: not readable") from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """configs/metadata.json."""
        return read_object(self.root / "configs" / "metadata.json")

    @property
    def name(self) -> str:
        """The bundle's name as the model zoo would list it."""
        return self.project["name"].replace("-", "_")

    @property
    def version(self) -> str:
        """The metadata's."""
        return str(self.metadata.get("version", ""))

    def files(self) -> list[str]:
        """Everything that a release is made of, relative to the root, sorted; neither hidden nor derived files."""
        found = [name for name in FILES if (self.root / name).is_file()]
        for folder in FOLDERS:
            for path in (self.root / folder).rglob("*"):
                name = path.relative_to(self.root)
                hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
                if path.is_file() and not hidden:
                    found.append(name.as_posix())
        return sorted(found)

    def networks(self) -> list[NetworkFiles]:
        """Networks of the configs ``inference*.json``: ``inference_NAME`` is described by ``NAME_data_format``."""
        found = []
        for path in sorted((self.root / "configs").glob("inference*.json")):
            config = read_object(path)
            if "network_def" not in config or "ckpt_path" not in config:
                continue
            key = (path.stem.removeprefix("inference").strip("_") or "network") + "_data_format"
            if key not in self.metadata:
                raise UserError(f"{path}: its network has no '{key}' in configs/metadata.json")
            weights = _weights(path, self.root)
            if not weights.is_file():
                raise UserError(f"{weights}: missing; {path.name} names it as its weights")
            found.append(NetworkFiles(path, weights, self.metadata[key]))
        return found

    def large_files(self) -> dict[str, dict[str, str]]:
        """large_files.yml: path -> url, hash_val, hash_type."""
        path = self.root / "large_files.yml"
        try:
            entries = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("large_files") or []
            return {str(entry["path"]): entry for entry in entries}
        except FileNotFoundError:
            return {}
        except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{path}: no list of large files, each with a path and a url") from error

    def uncommitted(self) -> list[str]:
        """Files of the release that differ from the commit; empty if the tree is not a git checkout.

        Large files come from elsewhere, and their checksum is checked instead.
        """
        top = self._git("rev-parse", "--show-toplevel")
        if top is None or Path(top.strip()).resolve() != self.root.resolve():
            return []
        tracked = set((self._git("ls-files", "-z") or "").split("\0"))
        changed = set((self._git("diff", "--name-only", "-z", "HEAD") or "").split("\0"))
        return [f for f in self.files() if (f not in tracked or f in changed) and f not in self.large_files()]

    def commit(self) -> str | None:
        """The commit of a git checkout."""
        return (self._git("rev-parse", "HEAD") or "").strip() or None

    def _git(self, *arguments: str) -> str | None:
        try:
            run = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return run.stdout if run.returncode == 0 else None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing or has no JSON object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object")
    return content


def _weights(config: Path, root: Path) -> Path:
    parser = ConfigParser()
    parser.read_config(str(config))
    parser["bundle_root"] = str(root)
    return Path(parser.get_parsed_content("ckpt_path"))
