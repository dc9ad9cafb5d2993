"""What a benchmark is made of, written down beside its results so that no other benchmark is mixed into them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.benchmarks.paper.models import Model
from scripts.data.building import dataset_digest
from scripts.errors import UserError
from scripts.io.documents import write_json
from scripts.paths import BUNDLE_ROOT

FILE = "benchmark.json"


@dataclass(frozen=True)
class Plan:
    """The settings that all models share.

    Args:
        dataset: prepared; trained on ``training``, scored on ``test``.
        overlays: config files between ``train.json`` and each model's own.
        overrides: config values for all models, on top of everything.
        source: what the dataset was prepared from, for radiographs from wrong angles; empty for none.
        content: of the dataset, by `scripts.data.building.dataset_digest`.
    """

    dataset: str
    overlays: tuple[str, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    content: str = ""

    def configs(self, model: Model) -> list[str]:
        """The config files of a model, to be merged from left to right."""
        files = ["configs/train.json", *self.overlays, *([model.config] if model.config else [])]
        return [str(BUNDLE_ROOT / file) for file in files]

    def parser(self, model: Model) -> ConfigParser:
        """The merged config of a model.

        Raises:
            UserError: an overlay is missing or no config, or an override is of something that it has not.
        """
        parser = ConfigParser()
        try:
            parser.read_config(self.configs(model))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the config of {model.name} cannot be read: {error}") from error
        parser["bundle_root"] = str(BUNDLE_ROOT)
        for key, value in self.overrides.items():
            try:
                parser[key] = value
            except (LookupError, ValueError) as error:
                raise UserError(f"--overrides: the config of {model.name} has no place for '{key}'") from error
        return parser


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a new benchmark's settings, or check that a started one has the same.

    Raises:
        UserError: the folder holds another benchmark, or something that is not a benchmark.
    """
    path = folder / FILE
    if path.is_file():
        stored = read_plan(folder)
        differing = [key for key, value in asdict(stored).items() if value != asdict(plan)[key] and key != "content"]
        if differing:
            raise UserError(f"{folder}: was started with other {', '.join(differing)}; choose another --output")
        _compare_content(folder, stored, plan.content)
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something that is no benchmark; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(plan))


def check_content(folder: Path, plan: Plan) -> None:
    """Refuse to go on with a dataset that was prepared anew at its place: its results would mix with the old ones.

    Raises:
        UserError: the dataset is another one, or not there.
    """
    _compare_content(folder, plan, dataset_digest(Path(plan.dataset)))


def read_plan(folder: Path) -> Plan:
    """The settings of a benchmark.

    Raises:
        UserError: the folder holds none.
    """
    try:
        stored = json.loads((folder / FILE).read_text())
        return Plan(**{**stored, "overlays": tuple(stored["overlays"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder}: is no benchmark that was started here ({error})") from error


def run_folder(output: Path, model: str, seed: int) -> Path:
    """Where one training lies."""
    return output / "runs" / model / f"seed{seed}"


def finished_seeds(output: Path, model: str) -> list[int]:
    """Seeds of a model that have scores."""
    found = (output / "runs" / model).glob("seed*/plain/metrics.csv")
    return sorted(int(path.parents[1].name.removeprefix("seed")) for path in found)


def failure(output: Path, model: str, seeds: Sequence[int]) -> str:
    """Why a model has no scores: the first reason noted for any of its seeds, or nothing."""
    for seed in seeds:
        path = run_folder(output, model, seed) / "failed.txt"
        if path.is_file():
            return path.read_text().strip()
    return ""


def _compare_content(folder: Path, plan: Plan, content: str) -> None:
    if plan.content != content:
        since = "since it was started" if plan.content else "perhaps: an older version started it and noted no content"
        raise UserError(f"{folder}: {plan.dataset} was prepared anew {since}; choose another --output")
