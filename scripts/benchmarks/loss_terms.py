"""What each term of the integrated loss contributes: its value and its gradient, weighted as in the config.

    python -m scripts.benchmarks.loss_terms --dataset DATASET [--weights models/model.pt] [--count 8] [--output FILE.md]

The gradient is that with respect to the logits, its Euclidean norm averaged over vertebrae: what reaches the network.
The adversarial term is scored by an untrained discriminator. States: an untrained network, and the given weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from scripts.command import run_module
from scripts.io.tables import markdown_table


def gradients(loss: Any, logits: torch.Tensor, target: torch.Tensor, judge: torch.nn.Module) -> dict[str, list[float]]:
    """Per term its weighted value and the norm of its weighted gradient."""
    found = {}
    for name, weight in loss.weights.items():
        leaf = logits.detach().requires_grad_()
        terms = loss(leaf, target, judge(torch.sigmoid(leaf)))
        (gradient,) = torch.autograd.grad(weight * terms[name], leaf)
        found[name] = [weight * float(terms[name].detach()), float(gradient.norm())]
    return found


def compare(
    dataset: str,
    weights: Path = Path("models/model.pt"),
    config: str = "configs/train.json",
    list_: str = "validation",
    count: int = 8,
    output: Path | None = None,
) -> None:
    """Print value and gradient of each term of the loss, for an untrained network and for the given weights."""
    set_determinism(0)
    parser = ConfigParser()
    parser.read_config(config)
    parser["dataset_dir"] = dataset
    parser["validate#dataset#data#data_list"] = list_
    data = parser.get_parsed_content("validate#dataset")
    network = parser.get_parsed_content("network_def")
    judge = parser.get_parsed_content("discriminator_def")
    loss = parser.get_parsed_content("loss")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    table = []
    for title in ("untrained", "trained"):
        if title == "trained":
            network.load_state_dict(state.get("model", state))
        network.eval()
        rows: dict[str, list[list[float]]] = {}
        for index in range(0, len(data), max(len(data) // count, 1)):
            item = data[index]
            with torch.no_grad():
                logits = network(item["image"][None].as_tensor())
            for name, pair in gradients(loss, logits, item["label"][None].as_tensor(), judge).items():
                rows.setdefault(name, []).append(pair)
        means = {name: torch.tensor(pairs).mean(0).tolist() for name, pairs in rows.items()}
        for name, (value, norm) in means.items():
            table.append([title, name, f"{value:.3g}", f"{norm:.3g}", f"{norm / means['dice'][1]:.2g}"])
    columns = ["state", "term", "weighted value", "gradient norm", "of Dice's"]
    text = "\n".join(markdown_table(columns, table)) + "\n"
    print(text)
    if output:
        output.write_text(text)


if __name__ == "__main__":
    run_module(compare)
