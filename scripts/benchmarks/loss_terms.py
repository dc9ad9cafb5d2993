"""What each term of the integrated loss contributes: its value and its gradient, weighted as in the config.

    python -m scripts.benchmarks.loss_terms --dataset DATASET [--list test] [--count 8] [--output FILE.md]
    python -m scripts.benchmarks.loss_terms --dataset DATASET --config configs/train.json --weights OUT/model.pt

The gradient is that with respect to the logits, its Euclidean norm averaged over vertebrae: what reaches the network.
The adversarial term is scored by an untrained discriminator. States: an untrained network, and the given weights, which
are those of the config's network. A term of weight 0 has no row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import list_data_collate
from monai.utils import set_determinism

from scripts.command import run_module
from scripts.io.tables import markdown_table
from scripts.learning.loading import load_weights
from scripts.paths import BUNDLE_ROOT


def gradients(loss: Any, logits: torch.Tensor, target: torch.Tensor, judge: torch.nn.Module) -> dict[str, list[float]]:
    """Per term its weighted value and the norm of its weighted gradient."""
    found = {}
    for name, weight in loss.weights.items():
        if weight == 0:
            continue
        leaf = logits.detach().requires_grad_()
        terms = loss(leaf, target, judge(torch.sigmoid(leaf)))
        (gradient,) = torch.autograd.grad(weight * terms[name], leaf)
        found[name] = [weight * float(terms[name].detach()), float(gradient.norm())]
    return found


def compare(
    dataset: str,
    weights: Path = BUNDLE_ROOT / "models/model.pt",
    config: tuple[str, ...] = ("configs/train.json", "configs/level.json"),
    list_: str = "validation",
    count: int = 8,
    output: Path | None = None,
) -> None:
    """Print value and gradient of each term of the loss, for an untrained network and for the given weights.

    Args:
        dataset: folder made by prepare.
        weights: .pt file; the bundle's own if left out.
        config: files of the network and its loss, merged from left to right, comma-separated.
        list_: validation, test or training.
        count: about so many vertebrae of it.
        output: Markdown file for the table.
    """
    set_determinism(0)
    parser = ConfigParser()
    parser.read_config([str(BUNDLE_ROOT / file) for file in config])
    parser["dataset_dir"] = dataset
    parser["validate#dataset#data#data_list"] = list_
    data = parser.get_parsed_content("validate#dataset")
    network = parser.get_parsed_content("network_def")
    judge = parser.get_parsed_content("discriminator_def")
    loss = parser.get_parsed_content("loss")
    prepare = parser.get_parsed_content("prepare_batch")
    table = []
    for title in ("untrained", "trained"):
        if title == "trained":
            load_weights(network, weights, ",".join(config))
        network.eval()
        rows: dict[str, list[list[float]]] = {}
        for index in range(0, len(data), max(len(data) // count, 1)):
            # The shipped network is told the level too.
            image, label, args, kwargs = (*prepare(list_data_collate([data[index]]), "cpu"), (), {})[:4]
            with torch.no_grad():
                logits = network(image.as_tensor(), *args, **kwargs)
            for name, pair in gradients(loss, logits, label.as_tensor(), judge).items():
                rows.setdefault(name, []).append(pair)
        means = {name: torch.tensor(pairs).mean(0).tolist() for name, pairs in rows.items()}
        for name, (value, norm) in means.items():
            share = f"{norm / means['dice'][1]:.2g}" if "dice" in means else "-"
            table.append([title, name, f"{value:.3g}", f"{norm:.3g}", share])
    columns = ["state", "term", "weighted value", "gradient norm", "of Dice's"]
    text = "\n".join(markdown_table(columns, table)) + "\n"
    print(text)
    if output:
        output.write_text(text)


if __name__ == "__main__":
    run_module(compare)
