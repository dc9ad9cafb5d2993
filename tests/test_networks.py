"""The generator's parts: equation (1) to the letter, the lift in the right frame, export."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from scripts.benchmarks.training import literal_non_local
from scripts.reconstruction.networks.coarse import CoarseBackbone
from scripts.reconstruction.networks.discriminator import VertebraDiscriminator
from scripts.reconstruction.networks.encoding import EncodedLift
from scripts.reconstruction.networks.fusion import CentroidFusion, NonLocalBlock, PatchOnly
from scripts.reconstruction.networks.generator import Generator
from scripts.reconstruction.networks.lifting import ReplicateLift
from tests.conftest import ROOT


def small_generator(fusion: torch.nn.Module | None = None, channels: int = 4) -> Generator:
    torch.manual_seed(0)
    backbone = UNet(3, channels, 1, (4, 4, 8, 8), (2, 2, 2), num_res_units=1, act="RELU", norm="BATCH")
    generator = Generator(fusion or CentroidFusion(), ReplicateLift(), backbone)
    for parameter in generator.fusion.parameters():
        torch.nn.init.normal_(parameter)
    return generator


@pytest.mark.parametrize(("channels", "attention_channels"), [(2, 1), (2, 4), (6, 4)])
def test_non_local_is_the_literal_formula(channels: int, attention_channels: int) -> None:
    torch.manual_seed(1)
    block = NonLocalBlock(channels, attention_channels).double()
    block.alpha.data.fill_(0.7)
    x = torch.randn(2, channels, 17, 13, dtype=torch.float64, requires_grad=True)
    expected = literal_non_local(block, x)
    found = block(x)
    assert (found - x).abs().max() > 0.01
    assert torch.allclose(found, expected, atol=1e-10)
    gradients = [torch.autograd.grad(y.square().sum(), [x, *block.parameters()]) for y in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-8)


def test_key_stride_attends_to_pooled_keys() -> None:
    torch.manual_seed(1)
    block = NonLocalBlock(2, 3, key_stride=2).double()
    block.alpha.data.fill_(1.0)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    # On an image that is constant in 2x2 blocks pooling loses nothing.
    exact = NonLocalBlock(2, 3).double()
    exact.load_state_dict(block.state_dict())
    assert torch.allclose(block(x), exact(x))


def test_attention_map_is_never_materialised() -> None:
    """At 120x120 the map alone would be 829 MB; a fresh process stays far below it, backward included."""
    code = (
        "import torch, resource, sys; torch.set_num_threads(1);"
        "from scripts.reconstruction.networks.fusion import NonLocalBlock;"
        "b = NonLocalBlock(2); x = torch.randn(1, 2, 120, 120);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; b(x).sum().backward();"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200_000  # KB


def test_lift_puts_each_view_where_it_was_seen() -> None:
    """A volume's projections, lifted, agree with each other exactly where the volume's one bright voxel was."""
    volume = torch.zeros(9, 9, 9)
    volume[2, 5, 7] = 1
    lifted = ReplicateLift()(volume.sum(1)[None, None], volume.sum(2)[None, None])
    assert lifted.shape == (1, 2, 9, 9, 9)
    assert (lifted[0].min(0).values == volume).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_generator_takes_any_batch(batch: int) -> None:
    generator = small_generator().eval()
    with torch.no_grad():
        assert generator(torch.rand(batch, 4, 32, 32)).shape == (batch, 1, 32, 32, 32)
    with torch.no_grad():
        both = generator(torch.cat([torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 32, 32)]))
        assert torch.allclose(both[:1], generator(torch.zeros(1, 4, 32, 32)), atol=1e-5)


def test_ablations_are_other_parts() -> None:
    image = torch.rand(1, 4, 32, 32)
    blind = small_generator(PatchOnly(), channels=2).eval()
    moved = image.clone()
    moved[:, [1, 3]] = 0
    with torch.no_grad():
        assert torch.equal(blind(image), blind(moved))
        plain = CentroidFusion(non_local=False)
        assert torch.equal(plain(image)[0], image[:, :2]) and torch.equal(plain(image)[1], image[:, 2:])


def test_scripting_and_onnx_give_the_same_logits(tmp_path) -> None:
    import onnxruntime

    generator = small_generator().eval()
    image = torch.rand(1, 4, 32, 32)
    with torch.no_grad():
        expected = generator(image)
        scripted = torch.jit.script(generator)
        assert torch.allclose(scripted(image), expected, atol=1e-6)
        assert scripted(torch.rand(2, 4, 32, 32)).shape[0] == 2
    path = tmp_path / "generator.onnx"
    torch.onnx.export(generator, (image,), path, input_names=["image"], output_names=["pred"], dynamo=True)
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {"image": image.numpy()})[0]
    assert np.abs(found - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["train.json", "inference.json"])
def test_configured_generator_has_the_paper_s_shape(name: str) -> None:
    """120 in, 120 out: the paper's network and the one whose weights we ship."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads((ROOT / "configs" / name).read_text()))
    network = parser.get_parsed_content("network_def").eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 4, 120, 120)).shape == (1, 1, 120, 120, 120)


def test_discriminator_returns_scores_only() -> None:
    network = VertebraDiscriminator(spatial_dims=3, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE")
    scores = network(torch.rand(2, 1, 32, 32, 32))
    assert isinstance(scores, torch.Tensor) and scores.shape[:2] == (2, 1) and scores.ndim == 5


def test_coarse_backbone_puts_coarse_voxels_where_they_belong() -> None:
    class Bright(torch.nn.Module):
        """Logits of a box of coarse voxels, whatever is shown."""

        def forward(self, lifted: torch.Tensor) -> torch.Tensor:
            logits = torch.full((len(lifted), 1, 6, 6, 6), -1.0)
            logits[:, :, 2:4, 1:4, 0:2] = 1.0
            return logits

    mask = CoarseBackbone(Bright())(torch.rand(2, 4, 6, 6, 6)) > 0
    expected = torch.zeros(12, 12, 12, dtype=torch.bool)
    expected[4:8, 2:8, 0:4] = True
    # Linear interpolation rounds the edges and corners off, by less than a coarse voxel, and moves no face.
    assert not (mask[0, 0] & ~expected).any()
    inside = expected.clone()
    inside[4:8:3], inside[:, 2:8:5], inside[:, :, 3:4] = False, False, False
    assert mask[0, 0][inside].all() and mask[0, 0, 6, 4, 0:4].all()


def test_encoded_lift_is_the_lift_of_each_views_pooled_features() -> None:
    """Each encoder sees its own view only, and the features stand where the view was seen."""
    ap_encoder, lat_encoder = torch.nn.Conv2d(2, 3, 1), torch.nn.Conv2d(2, 3, 1)
    ap, lat = torch.rand(1, 2, 12, 12), torch.rand(1, 2, 12, 12)
    lifted = EncodedLift(ap_encoder, lat_encoder, 3)(ap, lat)
    assert lifted.shape == (1, 6, 4, 4, 4)
    expected_ap = ap_encoder(ap)[0, :, 3:6, 6:9].mean((1, 2))  # row 1, column 2 of the pooled view
    expected_lat = lat_encoder(lat)[0, :, 3:6, 0:3].mean((1, 2))
    for depth in range(4):
        assert torch.allclose(lifted[0, :3, 1, depth, 2], expected_ap, atol=1e-6)
        assert torch.allclose(lifted[0, 3:, 1, 0, depth], expected_lat, atol=1e-6)
