"""What each ingredient of the simulation is worth: train on simulation alone, score on radiographs of real CTs.

    python -m scripts.training.transfer --real DATASET --output DIR [--recipes water,bone,...]

Per recipe: simulate the same spines with the recipe's ingredients, prepare them, train a half-resolution generator
(``configs/transfer.json``, some minutes on one core) and measure its Dice on the ``test`` list of a dataset that was
prepared from real CTs. Recipes build on one another; what is there already is not made again. Writes
``transfer.md`` and ``transfer.csv``.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fire
import numpy as np

from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.simulation.bone import BoneOptions
from scripts.data.simulation.painting import Ingredients
from scripts.data.simulation.patient import SimulationOptions
from scripts.data.simulation.spine import SpineOptions
from scripts.data.simulation.write import simulate_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.io.atomic import write_text

BARE = Ingredients(
    body=False,
    organs=False,
    skeleton=False,
    donor_share=0.0,
    hardware_share=0.0,
    noise_hu=(0.0, 0.0),
    bone=BoneOptions(measured=False),
)
# Each adds one thing to the one before.
ADDITIONS: dict[str, tuple[str, Callable[[Ingredients], Ingredients]]] = {
    "water": ("evenly painted vertebrae in water", lambda i: i),
    "bone": ("measured cortex, core and texture", lambda i: replace(i, bone=BoneOptions())),
    "body": ("body outline, fat, muscle", lambda i: replace(i, body=True)),
    "organs": ("lungs, heart, airway, bowel gas", lambda i: replace(i, organs=True)),
    "skeleton": (
        "ribs, sacrum, pelvis, shoulders, skull; noise",
        lambda i: replace(i, skeleton=True, noise_hu=(10, 40)),
    ),
    "donor": ("half of the bodies from a real CT", lambda i: replace(i, donor_share=0.5)),
    "film": ("film augmentation in training", lambda i: i),
}
FILM_CONFIG = "configs/augment_films.json"


def transfer(
    real: str,
    output: str,
    recipes: str = ",".join(ADDITIONS),
    patients: int = 40,
    epochs: int = 10,
    without: str = "verse083",
    seed: int = 0,
) -> None:
    """Run recipes and write the table; see the module.

    Args:
        real: dataset prepared from real CTs; its ``test`` list is scored.
        output: working folder and results.
        recipes: which, comma-separated, of those in ``ADDITIONS``.
        patients: simulated for each.
        epochs: of training.
        without: shape subjects that the real dataset contains.
        seed: of simulation and training.
    """
    wanted = recipes if isinstance(recipes, (list, tuple)) else str(recipes).split(",")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    ingredients = BARE
    for name, (_, add) in ADDITIONS.items():
        ingredients = add(ingredients)
        if name not in wanted:
            continue
        options = SimulationOptions(
            spacing_mm=2.0, spine=SpineOptions(without=(without,)), ingredients=ingredients, seed=int(seed)
        )
        simulated = folder / ("donor" if name == "film" else name)
        dataset = simulated.with_name(simulated.name + "_dataset")
        simulate_dataset(simulated, int(patients), options)
        prepare_dataset(simulated, dataset, PrepareOptions(seed=int(seed)), SplitOptions(test_share=0.0))
        results = folder / f"{name}_results"
        if not (results / "metrics.csv").is_file():
            overlays = [FILM_CONFIG] if name == "film" else []
            _bundle(
                "training", ["configs/train.json", *overlays, "configs/transfer.json"], dataset, results, epochs, seed
            )
            _bundle(
                "evaluating", ["configs/train.json", "configs/transfer.json", "configs/evaluate.json"], real, results
            )
        write_table(folder, int(patients), int(epochs))


def write_table(folder: Path, patients: int, epochs: int) -> None:
    """``transfer.md`` and ``transfer.csv`` of the recipes that have results."""
    rows = []
    for name, (title, _) in ADDITIONS.items():
        path = folder / f"{name}_results" / "metrics.csv"
        if path.is_file():
            with path.open(newline="") as stream:
                found = list(csv.DictReader(stream))
            dice = {
                s: [float(r["dice"]) for r in found if r["subject"] == s] for s in sorted({r["subject"] for r in found})
            }
            rows.append(
                (name, title, {s: float(np.mean(d)) for s, d in dice.items()}, [v for d in dice.values() for v in d])
            )
    if not rows:
        return
    subjects = list(rows[0][2])
    lines = [
        f"{patients} simulated patients, {epochs} epochs, 2 mm network; Dice on radiographs of real CTs.",
        "",
        "| recipe | adds | " + " | ".join(subjects) + " | all vertebrae |",
        "| --- | --- |" + " --- |" * (len(subjects) + 1),
    ]
    table = [["recipe", *subjects, "all"]]
    for name, title, means, every in rows:
        values = [f"{means[s]:.3f}" for s in subjects] + [f"{np.mean(every):.3f}"]
        lines.append(f"| {name} | {title} | " + " | ".join(values) + " |")
        table.append([name, *values])
    write_text(folder / "transfer.md", "\n".join(lines) + "\n")
    write_text(folder / "transfer.csv", "\n".join(",".join(row) for row in table) + "\n")
    print("\n".join(lines))


def _bundle(
    workflow: str, configs: list[str], dataset: Path | str, results: Path, epochs: int | None = None, seed: int = 0
) -> None:
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        workflow,
        "--config_file",
        str(configs),
        "--bundle_root",
        ".",
    ]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(results)]
    if epochs is None:
        command += ["--ckpt_path", str(results / "model_final.pt")]
    else:
        command += ["--max_epochs", str(epochs), "--seed", str(seed)]
    with (results.parent / f"{results.name}_{workflow}.log").open("w") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            raise UserError(f"{workflow} of {results.name} failed; see {log.name}")


if __name__ == "__main__":
    fire.Fire(transfer)
