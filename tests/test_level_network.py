import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.bundle import ConfigParser
from torch import nn

from scripts.errors import UserError
from scripts.geometry.cropping import NOMINAL_CENTROID
from scripts.geometry.leaning import Lean, turned_object
from scripts.learning.budget import TimeBudget
from scripts.learning.snapshots import Snapshots
from scripts.reconstruction.losses.integrated import IntegratedLoss, volume_cross_entropy
from scripts.reconstruction.networks.generator import Generator
from scripts.reconstruction.networks.level import FineBackbone, LevelGenerator, LevelPrior
from scripts.reconstruction.predictor import Predictor
from scripts.reconstruction.training.warm_start import Frozen, fill_prior, load_matching

ROOT = Path(__file__).resolve().parents[1]


def networks() -> tuple[Generator, LevelGenerator]:
    made = []
    for overlay in ("view_encoders", "level"):
        parser = ConfigParser()
        parser.read_config([str(ROOT / "configs" / f"{name}.json") for name in ("train", overlay)])
        made.append(parser.get_parsed_content("network_def").eval())
    made[1].backbone.gain, made[1].backbone.constant = 1.0, 0.0
    return made[0], made[1]


def test_it_begins_as_the_network_whose_weights_it_takes(tmp_path):
    torch.manual_seed(0)
    plain, level = networks()
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pt")
    load_matching(level, str(tmp_path / "plain.pt"))
    image = torch.rand(1, 4, 120, 120)
    with torch.inference_mode():
        before = plain(image)
        # An empty table is a distance of 0 everywhere.
        assert torch.allclose(level(image), before, atol=1e-4)
        # Its weights for the prior are zero until they are trained; the average itself is there from the start, that of
        # the likeliest level where none is given.
        fill_prior(level)
        guessed = level.known_or_likeliest(image, torch.zeros(1, dtype=torch.int64))
        of_guess = before - 2.0 * F.interpolate(
            level.prior(guessed, torch.zeros(1), torch.zeros(1, 9)) * 12.0, scale_factor=2.0, mode="trilinear"
        )
        assert torch.allclose(level(image), of_guess, atol=1e-3)
        known, tilt, lies = torch.tensor([21]), torch.tensor([8.0]), torch.tensor([[1.0, 0, 0, 9, 0, 0, 0.1, 0, 0]])
        average = level.prior(known, tilt, lies) * 12.0
        expected = before - 2.0 * F.interpolate(average, scale_factor=2.0, mode="trilinear")
        assert torch.allclose(level(image, known, tilt, lies), expected, atol=1e-3)
        # A reader that was never trained reads nothing: the mean shape at the mark.
        assert torch.allclose(level(image, known, tilt), level(image, known, tilt, torch.zeros(1, 9)), atol=1e-4)
    with pytest.raises(UserError, match=r"none\.pt"):
        load_matching(level, str(tmp_path / "none.pt"))
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="nothing in it fits"):
        load_matching(level, str(tmp_path / "other.pt"))


def test_exports_of_an_older_version_are_named(tmp_path):
    class Old(torch.nn.Module):
        __constants__ = ("takes_level",)

        def __init__(self) -> None:
            super().__init__()
            self.takes_level = True

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    torch.jit.script(Old()).save(str(tmp_path / "old.ts"))
    with pytest.raises(UserError, match=r"old\.ts: exported by an older version"):
        Predictor(tmp_path / "old.ts", device="cpu")


def test_a_mirrored_patient_is_read_mirrored():
    torch.manual_seed(0)
    _, level = networks()
    torch.nn.init.normal_(level.reader.numbers[-1].weight, std=0.1)
    image, known, tilt = torch.rand(2, 4, 120, 120), torch.tensor([12, 0]), torch.zeros(2)
    # Only the frontal view shows left and right.
    mirrored = torch.cat([image[:, :2].flip(-1), image[:, 2:]], 1)
    with torch.inference_mode():
        assert torch.allclose(level.see(image)[:, 1], level.reader.see(mirrored), atol=1e-4)
        read, again = (level.read(level.see(films), known, tilt) for films in (image, mirrored))
    signs = torch.tensor([1.0, 1, -1, -1, -1, 1, 1, 1, 1])
    assert read[0].abs().min() > 0 and (read[1] == 0).all()
    assert torch.allclose(read, again * signs, atol=1e-4)


def test_patches_that_were_seen_just_now_are_not_looked_at_again(monkeypatch):
    predictor = Predictor(device="cpu")
    torch.manual_seed(0)
    inputs = list(torch.rand(3, 4, 120, 120))
    looked_at: list[int] = []
    see = predictor.network.see
    monkeypatch.setattr(predictor.network, "see", lambda images: (looked_at.append(len(images)), see(images))[1])
    alone = predictor.read_levels(inputs[2:])
    levels = predictor.read_levels(inputs)
    assert looked_at == [1, 2] and np.allclose(levels[2], alone[0], atol=1e-5)
    numbers = predictor.read([*inputs[1:], inputs[0] * 0.5], [8, 9, 7], [0.0, 5.0, 0.0])
    assert looked_at == [1, 2, 1]
    fresh = Predictor(device="cpu").read([*inputs[1:], inputs[0] * 0.5], [8, 9, 7], [0.0, 5.0, 0.0])
    assert np.allclose(numbers, fresh, atol=1e-4) and np.abs(numbers[0] - numbers[1]).max() > 0.01


def test_the_prior_lies_where_it_lies_in_float_under_autocast_too():
    """To a hundredth of a millimetre; a grid in bfloat16 is off by a quarter of one."""
    torch.manual_seed(0)
    prior = LevelPrior()
    theta = torch.eye(3, 4)[None] + 0.2 * torch.randn(2, 3, 4)
    wanted = torch.nn.functional.affine_grid(theta, [2, 1, 60, 60, 60], align_corners=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prior._grid(theta)
    assert (found - wanted).abs().max() * 60 < 0.01


def test_what_is_read_off_one_vertebra_alone_counts_less():
    torch.manual_seed(0)
    _, level = networks()
    fill_prior(level)
    torch.nn.init.normal_(level.reader.numbers[-1].weight, std=0.3)
    image, known, tilt = torch.rand(1, 4, 120, 120), torch.tensor([20]), torch.zeros(1)
    shares = torch.tensor([0.8, 0.85, 0.5, 1.0, 0.8, 0.85, 0.65, 0.85, 0.9])
    with torch.inference_mode():
        read = level.read(level.see(image), known, tilt)
        assert read.abs().min() > 0
        assert torch.allclose(level(image, known, tilt), level(image, known, tilt, read * shares), atol=1e-4)
        assert not torch.allclose(level(image, known, tilt), level(image, known, tilt, read), atol=1e-2)


def test_what_the_trunk_adds_has_a_gain_and_a_constant_once_trained():
    torch.manual_seed(0)
    trunk = FineBackbone(nn.Conv3d(5, 4, 1), view_features=2, size=8, width=3, gain=0.5, constant=0.25).eval()
    torch.nn.init.normal_(trunk.correct[-1].weight)
    ap, lat, prior, expected = torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8), *torch.rand(2, 1, 1, 8, 8, 8)
    with torch.inference_mode():
        nothing = F.interpolate(expected, scale_factor=2.0, mode="trilinear")
        shipped = trunk(ap, lat, prior, expected)
        # While it learns it adds all that it has.
        learned = trunk.train()(ap, lat, prior, expected)
    assert (learned - nothing).abs().max() > 0.1
    assert torch.allclose(shipped, (nothing + learned) / 2 + 0.25, atol=1e-5)


def test_torchscript_takes_a_level_or_none(tmp_path):
    torch.manual_seed(0)
    _, level = networks()
    fill_prior(level)
    # So that the level makes a difference.
    for parameter in level.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.jit.script(level).save(str(tmp_path / "level.ts"))
    loaded = torch.jit.load(str(tmp_path / "level.ts"))
    assert loaded.takes_level
    image = torch.rand(2, 4, 120, 120)
    with torch.inference_mode():
        unknown, told = level(image), level(image, torch.tensor([3, 22]))
        assert torch.allclose(loaded(image), unknown, atol=1e-4)
        assert torch.allclose(loaded(image, torch.tensor([3, 22])), told, atol=1e-4)
        assert torch.allclose(level(image, torch.tensor([0, 0])), unknown)
    assert (unknown - told).abs().max() > 1e-3


def test_levels_that_are_not_given_are_guessed():
    torch.manual_seed(0)
    _, level = networks()
    image = torch.rand(3, 4, 120, 120)
    given = torch.tensor([0, 22, 0])
    with torch.inference_mode():
        logits = level.reader.level_logits(image)
        # The network says what it takes a vertebra for; place 0 of the table stands for none.
        logits_of = torch.tensor([[9.0 if place in (0, 7 + row) else 0.0 for place in range(29)] for row in range(3)])
        assert logits.shape == logits_of.shape
        level.reader.level_logits = lambda _: logits_of
        assert level.known_or_likeliest(image, given).tolist() == [7, 22, 9]
        # Training goes on with what is not known, so that it is learned from too.
        assert level.train().known_or_likeliest(image, given).tolist() == [0, 22, 0]


def test_the_prior_leans_as_it_is_told():
    prior = LevelPrior(size=60)
    fill_prior(prior)
    volume = prior(torch.tensor([22]), torch.zeros(1), torch.zeros(1, 9))[0, 0].numpy()
    leaning = prior(torch.tensor([22]), torch.tensor([20.0]), torch.zeros(1, 9))[0, 0].numpy()
    centre = (NOMINAL_CENTROID + 0.5) / 2 - 0.5
    wanted = turned_object(-np.minimum(volume, 0), Lean(0, 20).rotation(), centre, 0.0)
    mine, theirs = leaning < -0.02, wanted > 0.02
    assert 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()) > 0.95
    assert 2 * (mine & (volume < -0.02)).sum() / (mine.sum() + (volume < -0.02).sum()) < 0.9


def test_volume_cross_entropy_is_what_it_says():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 1, 4, 5, 6, generator=generator)
    target = (torch.rand(2, 1, 4, 5, 6, generator=generator) < 0.2).float()
    expected = 0.0
    for z, t in zip(logits.double().numpy(), target.double().numpy(), strict=True):
        p = 1 / (1 + np.exp(-z))
        expected += -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / t.sum() / 2
    assert volume_cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-5)
    terms = IntegratedLoss(10.0, 0.0, 0.0, 0.0, cross_entropy_weight=5.0)(logits, target)
    assert terms["total"].item() == pytest.approx(10 * terms["dice"].item() + 5 * expected, rel=1e-5)


def test_a_training_by_the_clock_ends(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("scripts.learning.budget.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    budget = TimeBudget(2.0, [optimizer], warm_up=0.1, lowest=0.0)
    ended: list[bool] = []
    engine = types.SimpleNamespace(terminate=lambda: ended.append(True))
    budget._begin(engine)
    rates = {}
    for share in (0.05, 0.1, 0.55, 0.99, 1.0):
        now[0] = 100.0 + share * 120
        budget._set_rate(engine)
        rates[share] = optimizer.param_groups[0]["lr"]
        budget._end(engine)
        assert bool(ended) == (share >= 1)
    assert rates[0.05] == pytest.approx(0.25) and rates[0.1] == pytest.approx(0.5)
    assert rates[0.55] == pytest.approx(0.25) and rates[0.99] < 0.001 and math.isclose(rates[1.0], 0, abs_tol=1e-9)
    with pytest.raises(ValueError, match="minutes"):
        TimeBudget(0.0, [optimizer])


def test_a_training_starts_from_the_weights_that_it_is_given(tmp_path) -> None:
    """Until this test, the shipped weights were loaded over those of --init_weights, without a word."""
    stack = ("train", "online", "minutes", "level", "pose", "recipes/pose_cpu")
    given = torch.load(ROOT / "models" / "model.pt", weights_only=True)
    given["reader.level.weight"] = torch.full_like(given["reader.level.weight"], 0.5)
    torch.save({"model": given}, tmp_path / "given.pt")
    parser = ConfigParser()
    parser.read_config([ROOT / "configs" / f"{name}.json" for name in stack])
    parser.update({"bundle_root": str(ROOT), "init_weights": str(tmp_path / "given.pt")})
    loading = ("InitialWeights", "WarmStart")
    handlers = [h for h in parser["train#handlers"] if h["_target_"].rpartition(".")[2] in loading]
    assert len(handlers) == 2
    parser["train#handlers"] = handlers
    engine = Engine(lambda *_: None)
    for handler in parser.get_parsed_content("train#handlers"):
        handler.attach(engine)
    engine.run([0], max_epochs=1)
    assert (parser.get_parsed_content("network").reader.level.weight == 0.5).all()


def test_a_budget_starts_from_the_rate_that_the_optimizer_was_made_with() -> None:
    """Training of the localizer builds a OneCycleLR, which sets a 25th of the rate; it was trained so for six hours."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 25)
    budget = TimeBudget(60.0, [optimizer], warm_up=0.0)
    engine = Engine(lambda *_: None)
    budget.attach(engine)
    engine.run([0], max_epochs=1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1, rel=1e-3)


def test_a_training_that_is_cut_off_leaves_its_network(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("scripts.learning.snapshots.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    network = torch.nn.Linear(1, 1)
    snapshots = Snapshots(network, str(tmp_path / "snapshot.pt"), minutes=2.0)
    engine = types.SimpleNamespace()
    snapshots._begin(engine)
    for seconds, weight, stored in ((60, 1.0, None), (120, 2.0, 2.0), (180, 3.0, 2.0), (241, 4.0, 4.0)):
        now[0] = float(seconds)
        torch.nn.init.constant_(network.weight, weight)
        snapshots._write(engine)
        found = None
        if (tmp_path / "snapshot.pt").is_file():
            found = torch.load(tmp_path / "snapshot.pt", weights_only=True)["model"]["weight"].item()
        assert found == stored


def test_a_frozen_part_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), nn.Linear(2, 1))
    Frozen(network[0])._freeze(None)
    network.train()
    assert network.training and not network[0].training and not network[0][1].training
    network(torch.ones(3, 2)).sum().backward()
    assert network[0][0].weight.grad is None and network[1].weight.grad is not None
