"""What each ingredient of the simulation is worth: train on simulation alone, score on radiographs of real CTs.

    python -m scripts.benchmarks.transfer --dataset DATASET --output DIR [--recipes water,bone] [--seeds 1,2]

Per recipe: simulate the same spines with the recipe's ingredients, prepare them, train a half-resolution generator
(``configs/recipes/transfer.json``, some minutes on one core) and measure its Dice on the ``test`` list of a dataset
that was prepared from real CTs. Recipes build on one another; what is there already is not made again. Writes
``transfer.md`` and ``transfer.csv``. Each of several seeds has a folder of its own in the output, the same that
``--seed N --output DIR/seedN`` makes, and the output's table has their means and how far they spread.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.benchmarks.transfer_table import write_table
from scripts.command import run_module
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.simulation.aorta import AortaOptions
from scripts.simulation.belly import BellyOptions
from scripts.simulation.bone import BoneOptions
from scripts.simulation.chest import ChestOptions
from scripts.simulation.contrast import ContrastOptions
from scripts.simulation.painting import Ingredients
from scripts.simulation.patient import SimulationOptions
from scripts.simulation.scanner import NO_SCANNER, ScannerOptions
from scripts.simulation.spine import SpineOptions
from scripts.simulation.torso import TorsoOptions
from scripts.simulation.write import simulate_dataset

OVERLAYS = (
    "configs/half_resolution.json",
    "configs/small_network.json",
    "configs/dice_focal.json",
    "configs/recipes/transfer.json",
)
# Little gas without walls, no organ or vessel that stands out.
OLD_TORSO = TorsoOptions(
    gas_loops=(2, 8),
    gas_mm=(7.0, 20.0),
    wall_mm=(0.0, 0.0),
    chest=ChestOptions(recess_share=0.0, hilum_share=0.0, vessels=(1.0, 1.0)),
    belly=BellyOptions(organ_share=0.0, psoas_share=0.0),
    aorta=AortaOptions(radius_mm=(0.0, 0.0), calcified_share=0.0),
)
BARE = Ingredients(
    body=False,
    organs=False,
    skeleton=False,
    donor_share=0.0,
    hardware_share=0.0,
    noise_hu=(0.0, 0.0),
    bone=BoneOptions(measured=False),
    rib_share=(1.0, 1.0),
    disc_hu=None,
    torso=OLD_TORSO,
    contrast=ContrastOptions(share=0.0),
    scanner=NO_SCANNER,
)
# Cortex as dense on all sides and everywhere, as it was painted at first.
EVEN_CORTEX = BoneOptions(shell_hu=(330.0, 620.0), endplate_gain=(1.0, 1.0), body_share=(1.0, 1.0), blur_mm=(0.8, 0.8))


@dataclass(frozen=True)
class Recipe:
    """One row of the table; each builds on the one before.

    Args:
        title: what it adds.
        add: to the ingredients.
        configs: merged over ``train.json``.
        overrides: of config values while training.
    """

    title: str
    add: Callable[[Ingredients], Ingredients] = lambda ingredients: ingredients
    configs: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


RECIPES = {
    "water": Recipe("evenly painted vertebrae in water"),
    "bone": Recipe("measured cortex, core and texture", lambda i: replace(i, bone=EVEN_CORTEX)),
    "body": Recipe("body outline, fat, muscle", lambda i: replace(i, body=True)),
    "organs": Recipe("lungs, heart, airway, bowel gas", lambda i: replace(i, organs=True)),
    "skeleton": Recipe(
        "ribs, sacrum, pelvis, shoulders, skull; noise", lambda i: replace(i, skeleton=True, noise_hu=(10.0, 40.0))
    ),
    "donor": Recipe("half of the bodies from a real CT", lambda i: replace(i, donor_share=0.5)),
    "endplates": Recipe(
        "endplates denser than side walls", lambda i: replace(i, bone=replace(EVEN_CORTEX, endplate_gain=(1.2, 1.8)))
    ),
    "cortex": Recipe(
        "thinner cortex around bodies, discs, softer ribs",
        lambda i: replace(i, bone=BoneOptions(), disc_hu=Ingredients().disc_hu, rib_share=Ingredients().rib_share),
    ),
    "belly": Recipe("more gas, its walls, organs, psoas, aorta", lambda i: replace(i, torso=TorsoOptions())),
    "scanner": Recipe(
        "slices of 0.7 to 3.7 mm, noise, streaks, tube voltages",
        lambda i: replace(i, scanner=ScannerOptions(), noise_hu=Ingredients().noise_hu),
    ),
    "contrast": Recipe("contrast agent in four of ten", lambda i: replace(i, contrast=ContrastOptions())),
    # Without the wrong marks, which a test with true marks cannot reward.
    "film": Recipe(
        "film augmentation in training",
        configs=("configs/augment_films.json",),
        overrides=("--mark_error#prob", "0.0"),
    ),
}


def transfer(
    dataset: Path,
    output: Path,
    recipes: tuple[str, ...] = tuple(RECIPES),
    patients: int = 40,
    epochs: int = 10,
    without: tuple[str, ...] = ("verse083",),
    seed: int = 0,
    seeds: tuple[int, ...] = (),
) -> None:
    """Simulate, train and score each recipe, and write the table.

    Args:
        dataset: prepared from real CTs; its ``test`` list is scored.
        output: working folder and results.
        recipes: which, comma-separated.
        patients: simulated for each.
        epochs: of training.
        without: shape subjects that the real dataset contains, comma-separated.
        seed: of simulation and training.
        seeds: several of them instead, comma-separated.

    Raises:
        UserError: both are given, a training fails, or seeds were scored on different vertebrae.
    """
    if seed and seeds:
        raise UserError("give --seed or --seeds, not both")
    folders = {output / f"seed{number}": number for number in seeds} or {output: seed}
    titles = {name: recipe.title for name, recipe in RECIPES.items()}
    about = f"{patients} simulated patients, {epochs} epochs, 2 mm network; Dice on radiographs of real CTs"
    for folder, number in folders.items():
        for _ in _run_recipes(dataset, folder, recipes, patients, epochs, without, number):
            write_table(folder, [folder], titles, about)
        if seeds:
            write_table(output, list(folders), titles, about)


def _run_recipes(
    dataset: Path,
    output: Path,
    recipes: tuple[str, ...],
    patients: int,
    epochs: int,
    without: tuple[str, ...],
    seed: int,
) -> Iterator[str]:
    """Each recipe's name as soon as it has its scores."""
    output.mkdir(parents=True, exist_ok=True)
    ingredients, simulated = BARE, output
    for name, recipe in RECIPES.items():
        previous, ingredients = ingredients, recipe.add(ingredients)
        if ingredients != previous or name == "water":
            simulated = output / name
        if name not in recipes:
            continue
        spine = SpineOptions(without=without)
        options = SimulationOptions(spacing_mm=2.0, spine=spine, ingredients=ingredients, seed=seed)
        prepared, results = simulated.with_name(f"{simulated.name}_dataset"), output / f"{name}_results"
        simulate_dataset(simulated, patients, options)
        prepare_dataset(simulated, prepared, PrepareOptions(seed=seed), SplitOptions(test_share=0.0))
        if not (results / "metrics.csv").is_file():
            # One that was killed goes on.
            train = ["--max_epochs", str(epochs), "--seed", str(seed), "--resume", "True", *recipe.overrides]
            _bundle("training", (*recipe.configs, *OVERLAYS), prepared, results, train)
            score = ["--ckpt_path", str(results / "model_final.pt")]
            _bundle("evaluating", (*OVERLAYS, "configs/evaluate.json"), dataset, results, score)
        yield name


def _bundle(workflow: str, overlays: tuple[str, ...], dataset: Path, results: Path, options: list[str]) -> None:
    """One bundle workflow in a process of its own, as a user would run it."""
    configs = str(["configs/train.json", *overlays])
    command = [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", configs, "--bundle_root", "."]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(results), *options]
    with (results.parent / f"{results.name}_{workflow}.log").open("w") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            raise UserError(f"{workflow} of {results.name} failed; see {log.name}")


if __name__ == "__main__":
    run_module(transfer)
