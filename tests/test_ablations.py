"""Each ablation changes exactly what it says, seen on the built network and loss."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.reconstruction.losses.integrated import IntegratedLoss
from scripts.reconstruction.networks.fusion import CentroidFusion, NonLocalBlock, PatchOnly
from scripts.reconstruction.networks.generator import Generator
from tests.conftest import ROOT

FULL = {"dice": 10.0, "hausdorff": 0.0001, "focal": 10.0, "adversarial": 0.1, "cross_entropy": 0.0}
LOSS = {
    "without_dice": {"dice"},
    "without_focal_hausdorff": {"focal", "hausdorff"},
    "without_adversarial": {"adversarial"},
}
NETWORK = {"without_centroids", "without_non_local"}


def parsed(name: str = "") -> ConfigParser:
    parser = ConfigParser()
    files = ["train.json"] + ([f"ablations/{name}.json"] if name else [])
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    return parser


def generator(parser: ConfigParser) -> Generator:
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, Generator)
    return network


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}#{key}").items()}
    return {prefix: value}


def test_there_are_the_paper_s_five() -> None:
    assert {path.stem for path in (ROOT / "configs/ablations").glob("*.json")} == set(LOSS) | NETWORK


@pytest.mark.parametrize("name", sorted(LOSS))
def test_loss_ablation_leaves_out_its_terms_and_nothing_else(name: str) -> None:
    loss = parsed(name).get_parsed_content("loss")
    assert isinstance(loss, IntegratedLoss)
    assert loss.weights == {term: 0.0 if term in LOSS[name] else weight for term, weight in FULL.items()}
    assert loss.is_adversarial == (name != "without_adversarial")
    logits, target = torch.randn(1, 1, 8, 8, 8), (torch.rand(1, 1, 8, 8, 8) > 0.5).float()
    scores = torch.rand(1, 1, 2, 2, 2)
    full = parsed().get_parsed_content("loss")(logits, target, scores)
    terms = loss(logits, target, scores if loss.is_adversarial else None)
    assert set(terms) == {"total", *FULL} - LOSS[name] - {"cross_entropy"}
    wanted = sum(FULL[t] * full[t] for t in set(FULL) - LOSS[name] - {"cross_entropy"})
    assert torch.isclose(terms["total"], wanted)
    assert str(generator(parsed(name))) == str(generator(parsed()))


@pytest.mark.parametrize("name", sorted(LOSS) + sorted(NETWORK))
def test_nothing_else_in_the_config_changes(name: str) -> None:
    before, after = flat(parsed().get()), flat(parsed(name).get())
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    area = "#loss_weights" if name in LOSS else "#network_def#"
    assert changed and all(key.startswith(area) for key in changed), changed


def test_without_centroids_only_the_masks_and_their_block_are_gone() -> None:
    network, full = generator(parsed("without_centroids")).eval(), generator(parsed())
    assert isinstance(network.fusion, PatchOnly)
    a, b = network.backbone.state_dict(), full.backbone.state_dict()
    assert a.keys() == b.keys()
    # Two lifted channels instead of four reach the first block; all deeper layers are as they were.
    differing = {key for key in a if a[key].shape != b[key].shape}
    assert differing and all(key.startswith("encoder.0.") and a[key].shape[1] == 2 for key in differing)
    image = torch.rand(1, 4, 24, 24)
    moved = image.clone()
    moved[:, [1, 3]] = 0
    with torch.inference_mode():
        assert torch.equal(network(image), network(moved))


def test_without_non_local_the_views_pass_unchanged() -> None:
    network, full = generator(parsed("without_non_local")), generator(parsed())
    assert isinstance(network.fusion, CentroidFusion)
    assert not any(isinstance(module, NonLocalBlock) for module in network.modules())
    image = torch.rand(1, 4, 24, 24)
    ap, lat = network.fusion(image)
    assert torch.equal(ap, image[:, :2]) and torch.equal(lat, image[:, 2:])
    assert str(network.backbone) == str(full.backbone)


def test_files_are_small_overrides() -> None:
    files = list((ROOT / "configs/ablations").glob("*.json"))
    assert len(files) == 5
    for path in files:
        assert len(json.loads(path.read_text())) <= 2
