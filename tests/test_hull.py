"""Shadows as a part of the generator, and as what its encoders learn first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scripts.data.normalisation import normalise_patch
from scripts.errors import UserError
from scripts.io.nifti import read_nifti
from scripts.networks.coarse import CoarseBackbone
from scripts.networks.encoding import EncodedLift
from scripts.networks.fusion import CentroidFusion
from scripts.networks.generator import Generator
from scripts.networks.hull import HullBackbone
from scripts.networks.lifting import ReplicateLift
from scripts.networks.resunet import ResUNet
from scripts.training.silhouettes import ShadowSupervision, Silhouettes, main, shadow_loss

SMALL = {"_target_": "scripts.networks.resunet.ResUNet", "channels": [4, 8], "strides": [2]}
VIEW = {**SMALL, "dimensions": 2, "in_channels": 2, "out_channels": 4}


def small_generator(flat_heads: bool = True) -> Generator:
    torch.manual_seed(0)
    views = [ResUNet(2, 4, (4, 8), (2,), dimensions=2) for _ in range(2)]
    volume: nn.Module = ResUNet(8, 1, (4, 8), (2,))
    backbone = HullBackbone(volume, 4) if flat_heads else volume
    return Generator(CentroidFusion(key_stride=6), EncodedLift(views[0], views[1]), CoarseBackbone(backbone))


def config_file(folder: Path) -> Path:
    """The shipped trainings' configs with a small network, as one file."""
    network = {
        "_target_": "scripts.networks.generator.Generator",
        "fusion": {"_target_": "scripts.networks.fusion.CentroidFusion", "key_stride": 6},
        "lift": {"_target_": "scripts.networks.encoding.EncodedLift", "ap_encoder": VIEW, "lat_encoder": VIEW},
        "backbone": {
            "_target_": "scripts.networks.coarse.CoarseBackbone",
            "backbone": {
                "_target_": "scripts.networks.hull.HullBackbone",
                "view_channels": 4,
                "backbone": {**SMALL, "in_channels": 8},
            },
        },
    }
    path = folder / "small.json"
    path.write_text(
        json.dumps({"network_def": network, "num_workers": 0, "amp": False, "device": "$torch.device('cpu')"})
    )
    return path


def test_a_voxel_gets_what_both_views_say_of_its_pixels() -> None:
    ap, lat = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    hull = HullBackbone(nn.Conv3d(6, 1, 1), 3)
    lifted = ReplicateLift()(ap, lat)
    plain = hull.backbone(lifted)
    torch.testing.assert_close(hull(lifted), plain)
    for parameter in (*hull.ap_head.parameters(), *hull.lat_head.parameters()):
        nn.init.normal_(parameter)
    expected = plain + hull.ap_head(ap)[:, :, :, None, :] + hull.lat_head(lat)[..., None]
    torch.testing.assert_close(hull(lifted), expected)
    torch.testing.assert_close(torch.jit.script(hull)(lifted), expected)


def test_shadow_loss_is_dice_and_cross_entropy_of_both_projections() -> None:
    target = torch.zeros(1, 1, 6, 6, 6)
    target[0, 0, 1:3, 2:5, 3] = 1
    logits = (torch.randn(1, 1, 6, 6), torch.randn(1, 1, 6, 6))
    expected = 0.0
    for z, shadow in zip(logits, (target[0, 0].any(1), target[0, 0].any(2)), strict=True):
        p, y = torch.sigmoid(z[0, 0]), shadow.float()
        expected += float(1 - 2 * (p * y).sum() / (p.sum() + y.sum()))
        expected += float(F.binary_cross_entropy(p, y))
    assert float(shadow_loss(logits, target)) == pytest.approx(expected, abs=1e-4)


def test_weights_without_flat_heads_load_and_mean_the_same() -> None:
    plain, hull = small_generator(flat_heads=False).eval(), small_generator().eval()
    for parameter in hull.backbone.backbone.lat_head.parameters():
        nn.init.normal_(parameter)
    hull.load_state_dict({name: value + 0.1 for name, value in plain.state_dict().items()})
    plain.load_state_dict({name: value + 0.1 for name, value in plain.state_dict().items()})
    image = torch.rand(1, 4, 24, 24)
    torch.testing.assert_close(hull(image), plain(image))
    again = small_generator().eval()
    again.load_state_dict(hull.state_dict())
    torch.testing.assert_close(again(image), plain(image))
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({"backbone.backbone.other": torch.zeros(1)})


def test_supervision_is_the_shadow_loss_of_the_same_forward_pass() -> None:
    generator, alone = small_generator(), small_generator()
    for parts in (generator.modules(), alone.modules()):
        for hull in (part for part in parts if isinstance(part, HullBackbone)):
            nn.init.constant_(hull.ap_head.weight, 0.3)
            nn.init.constant_(hull.lat_head.weight, -0.2)
    image, target = torch.rand(2, 4, 24, 24), (torch.rand(2, 1, 24, 24, 24) > 0.99).float()
    supervision = ShadowSupervision(generator)
    logits = generator(image)
    found, expected = supervision(target), shadow_loss(Silhouettes(alone)(image), target)
    torch.testing.assert_close(found, expected)
    (found + 0 * logits.sum()).backward()
    expected.backward()
    for (name, one), two in zip(generator.lift.named_parameters(), alone.lift.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=name)


def test_shadows_are_learned_and_the_rest_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    plain = small_generator(flat_heads=False)
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pt")
    configs = f"configs/train.json,configs/train_improved.json,{config_file(tmp_path)}"
    made = []
    for steps in (1, 25):
        made.append(tmp_path / f"{steps}.pt")
        main(
            str(dataset), str(made[-1]), str(tmp_path / "plain.pt"), configs,
            steps=steps, batch_size=2, learning_rate=1e-2,
        )  # fmt: skip
    image = torch.rand(1, 4, 120, 120)
    losses = []
    for path in made:
        generator = small_generator()
        generator.load_state_dict(torch.load(path, weights_only=True)["model"])
        inner = generator.backbone.backbone.backbone
        for name, value in plain.backbone.backbone.state_dict().items():
            assert torch.equal(inner.state_dict()[name], value), name
        assert any(parameter.abs().sum() > 0 for parameter in generator.backbone.backbone.lat_head.parameters())
        assert generator.eval()(image).shape == (1, 1, 120, 120, 120)
        losses.append(_loss(generator, dataset))
    assert losses[1] < 0.6 * losses[0]


def _loss(generator: Generator, dataset: Path) -> float:
    """On the training vertebrae as the bundle normalises them."""
    losses = []
    for item in json.loads((dataset / "dataset.json").read_text())["training"]:
        patches, mask = read_nifti(dataset / item["image"])[0], read_nifti(dataset / item["label"])[0] > 0
        image = np.ascontiguousarray(patches[:, :, 0].transpose(2, 0, 1), dtype=np.float32)
        for view in (0, 2):
            image[view] = normalise_patch(torch.from_numpy(image[view])).numpy()
        with torch.inference_mode():
            logits = Silhouettes(generator).train()(torch.from_numpy(image)[None])
            losses.append(float(shadow_loss(logits, torch.from_numpy(mask)[None, None].float())))
    return float(np.mean(losses))


def test_other_generators_and_weights_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="EncodedLift and HullBackbone"):
        Silhouettes(small_generator(flat_heads=False))
    torch.save({"model": {"backbone.other": torch.zeros(1)}}, tmp_path / "other.pt")
    configs = f"configs/train.json,configs/train_improved.json,{config_file(tmp_path)}"
    with pytest.raises(UserError, match="weights of another network"):
        main(str(dataset), str(tmp_path / "out.pt"), str(tmp_path / "other.pt"), configs, steps=1)
    assert not (tmp_path / "out.pt").exists()
