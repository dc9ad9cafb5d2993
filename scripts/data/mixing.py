"""One training list of several prepared datasets.

    python -m scripts.data.mixing --dataset UPRIGHT,ALONG --output MIX --draw-from 'sim*=288,288' --seed 10

Writes ``MIX/dataset.json`` alone; it points to the datasets' files where they are. Of subjects that fit a pattern of
``--draw-from`` that many vertebrae are drawn from each dataset, all others are taken whole: so real patients, of whom
there are few, are not drowned in simulated ones. Validation and test lists are those of the first dataset.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from scripts.command import run_module
from scripts.data.datalist import LISTS, LISTS_FILE, read_datalist, read_document, spine_name
from scripts.errors import UserError
from scripts.io.documents import write_json

NOT_DRAWN = "not drawn from its dataset"
Item = dict[str, Any]


def draw(items: list[Item], pattern: str, count: int, rng: np.random.Generator) -> list[Item]:
    """All items of subjects that do not fit a pattern, then so many of those that do, in their order.

    Raises:
        UserError: there are fewer.
    """
    fits = [i for i, item in enumerate(items) if fnmatch(item["subject"], pattern)]
    if count > len(fits):
        raise UserError(f"{count} vertebrae of '{pattern}' are wanted, and there are {len(fits)}")
    chosen = set(rng.choice(fits, count, replace=False).tolist()) if count else set()
    rest = [item for item in items if not fnmatch(item["subject"], pattern)]
    return rest + [items[i] for i in sorted(chosen)]


def placed(items: list[Item], dataset: Path) -> list[Item]:
    """Items whose files are named from the root of the file system."""
    root = dataset.resolve()
    return [{**item, "image": str(root / item["image"]), "label": str(root / item["label"])} for item in items]


def main(dataset: tuple[Path, ...], output: Path, draw_from: str = "", seed: int = 0) -> None:
    """Mix and say what there is.

    Raises:
        UserError: a dataset or list is missing, two datasets train on what another one tests, a pattern fits too few.
    """
    pattern, counts = _pattern(draw_from, len(dataset))
    rng = np.random.default_rng(seed)
    training, others = [], []
    for folder, count in zip(dataset, counts, strict=True):
        items = read_datalist(folder, "training")
        drawn = draw(items, pattern, count, rng) if pattern else items
        training += placed(drawn, folder)
        taken = {item["label"] for item in drawn}
        others += placed([{**i, "excluded": NOT_DRAWN} for i in items if i["label"] not in taken], folder)
        others += placed(read_document(folder).get("excluded", []), folder)
    document = read_document(dataset[0])
    for name in LISTS[1:]:
        document[name] = placed(document.get(name, []), dataset[0])
    held_out = {item["subject"] for name in LISTS[1:] for item in document[name]}
    leaked = sorted({item["subject"] for item in training} & held_out)
    if leaked:
        raise UserError(f"trained on in one dataset and held out in {dataset[0]}: {', '.join(leaked)}")
    # They say how the spine runs at those that are in a list.
    listed = {spine_name(item) for item in [*training, *document["validation"], *document["test"]]}
    excluded = [item for item in others if spine_name(item) in listed]
    document |= {"training": training, "excluded": excluded, "mixed_from": [str(f) for f in dataset]}
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / LISTS_FILE, document)
    print(f"{len(training)} vertebrae of {len({i['subject'] for i in training})} patients for training")


def _pattern(text: str, datasets: int) -> tuple[str, list[int]]:
    if not text:
        return "", [0] * datasets
    pattern, _, numbers = text.partition("=")
    counts = [int(number) for number in numbers.split(",") if number.strip().isdigit()]
    if not pattern or len(counts) != datasets:
        raise UserError(
            f"--draw-from is a pattern of subjects and a number for each dataset, 'sim*=288,288'; not {text!r}"
        )
    return pattern, counts


if __name__ == "__main__":
    run_module(main)
