"""The table of what the ingredients of the simulation are worth, of made-up scores of one seed and of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.benchmarks import transfer
from scripts.benchmarks.transfer_table import write_table
from scripts.errors import UserError
from scripts.io.tables import read_csv, write_csv

TITLES = {"water": "vertebrae in water", "bone": "cortex", "body": "fat"}


def scored(folder: Path, recipe: str, dice: dict[str, list[float]]) -> None:
    results = folder / f"{recipe}_results"
    results.mkdir(parents=True)
    rows = [(subject, value) for subject, values in dice.items() for value in values]
    write_csv(results / "metrics.csv", ["subject", "dice"], rows)


def test_seeds_are_averaged_and_their_spread_is_told(tmp_path: Path) -> None:
    """Of p 0.5 and 0.6, of q 0.9 and 0.8; over all three vertebrae 0.6333 and 0.6667, SD 0.0236."""
    one, two = tmp_path / "seed1", tmp_path / "seed2"
    scored(one, "water", {"p": [0.4, 0.6], "q": [0.9]})
    scored(two, "water", {"p": [0.5, 0.7], "q": [0.8]})
    scored(two, "body", {"p": [0.1, 0.3], "q": [0.2]})
    write_table(tmp_path, [one, two], TITLES, "About")
    assert read_csv(tmp_path / "transfer.csv") == [
        {"recipe": "water", "p": "0.550", "q": "0.850", "all": "0.650", "sd_of_seeds": "0.024", "seeds": "2"},
        {"recipe": "body", "p": "0.200", "q": "0.200", "all": "0.200", "sd_of_seeds": "-", "seeds": "1"},
    ]
    text = (tmp_path / "transfer.md").read_text()
    assert text.startswith(
        "About; means over seeds.\n\n| recipe | adds | p | q | all vertebrae | SD of seeds | seeds |"
    )
    assert "| water | vertebrae in water | 0.550 | 0.850 | 0.650 | 0.024 | 2 |" in text
    write_table(one, [one], TITLES, "About")
    assert read_csv(one / "transfer.csv") == [{"recipe": "water", "p": "0.500", "q": "0.900", "all": "0.633"}]
    scored(one, "bone", {"p": [0.4, 0.6], "r": [0.9]})
    with pytest.raises(UserError, match="of different vertebrae"):
        write_table(tmp_path, [one, two], TITLES, "About")


def test_each_seed_has_the_folder_that_a_run_of_it_alone_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is not made again, and one seed lies in the output itself."""
    made: list[tuple[str, int]] = []

    def bundle(workflow: str, overlays: object, dataset: object, results: Path, options: list[str]) -> None:
        if workflow == "training":
            made.append((results.parent.name, int(options[options.index("--seed") + 1])))
        else:
            scored(results.parent, "water", {"p": [made[-1][1] / 10]})

    monkeypatch.setattr(transfer, "simulate_dataset", lambda *_: None)
    monkeypatch.setattr(transfer, "prepare_dataset", lambda *_: None)
    monkeypatch.setattr(transfer, "_bundle", bundle)
    transfer.transfer(tmp_path / "d", tmp_path / "out" / "seed3", ("water",), seed=3)
    transfer.transfer(tmp_path / "d", tmp_path / "out", ("water",), seeds=(3, 5))
    assert made == [("seed3", 3), ("seed5", 5)]
    with pytest.raises(UserError, match="not both"):
        transfer.transfer(tmp_path / "d", tmp_path / "out", ("water",), seed=1, seeds=(2,))
    (row,) = read_csv(tmp_path / "out" / "transfer.csv")
    assert row == {"recipe": "water", "p": "0.400", "all": "0.400", "sd_of_seeds": "0.141", "seeds": "2"}
    assert read_csv(tmp_path / "out" / "seed5" / "transfer.csv") == [{"recipe": "water", "p": "0.500", "all": "0.500"}]
