"""Generator and discriminator alternate, each learns only in its own step, and the loss falls."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader

from scripts.losses.integrated import DiscriminatorLoss, IntegratedLoss
from scripts.networks.discriminator import VertebraDiscriminator
from scripts.networks.fusion import CentroidFusion
from scripts.networks.generator import Generator
from scripts.networks.lifting import ReplicateLift
from scripts.networks.resunet import ResUNet
from scripts.training.handlers import LossLogger
from scripts.training.trainer import VertebraGanTrainer


def make_trainer(adversarial: float = 0.1, epochs: int = 1, handlers: list | None = None) -> VertebraGanTrainer:
    torch.manual_seed(0)
    target = torch.zeros(1, 24, 24, 24)
    target[0, 8:16, 6:14, 9:18] = 1
    image = torch.stack([target[0].sum(1), target[0].sum(1) > 0, target[0].sum(2), target[0].sum(2) > 0]).float()
    items = [{"image": image / 9, "label": target}] * 4
    generator = Generator(CentroidFusion(), ReplicateLift(), ResUNet(channels=(4, 8, 8), strides=(2, 2)))
    discriminator = VertebraDiscriminator(spatial_dims=3, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE")
    return VertebraGanTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(items, batch_size=2),
        g_network=generator,
        g_optimizer=torch.optim.Adam(generator.parameters(), 1e-2),
        loss_function=IntegratedLoss(adversarial_weight=adversarial),
        d_network=discriminator,
        d_optimizer=torch.optim.Adam(discriminator.parameters(), 1e-3),
        d_loss_function=DiscriminatorLoss(),
        train_handlers=handlers,
    )


def changed(before: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("adversarial", [0.1, 0.0])
def test_who_learns(adversarial: float) -> None:
    trainer = make_trainer(adversarial)
    networks = (trainer.state.g_network, trainer.state.d_network)
    before = [copy.deepcopy(dict(network.named_parameters())) for network in networks]
    trainer.run()
    assert changed(before[0], networks[0])
    assert changed(before[1], networks[1]) == (adversarial > 0)
    names = {name for name in trainer.state.output[0] if str(name).startswith("loss")}
    expected = {"loss", "loss_dice", "loss_hausdorff", "loss_focal"}
    assert names == expected | ({"loss_adversarial", "loss_discriminator"} if adversarial else set())


def test_generator_s_step_leaves_no_gradient_in_the_discriminator() -> None:
    """Else its optimiser would learn to help the generator."""
    trainer = make_trainer()
    seen = []
    step = trainer.state.g_optimizer.step
    discriminator = trainer.state.d_network

    def watch(*args: object, **kwargs: object) -> object:
        seen.append([p.grad is None or not p.requires_grad for p in discriminator.parameters()])
        return step(*args, **kwargs)

    trainer.state.g_optimizer.step = watch
    trainer.run()
    assert len(seen) == 2 and all(all(row) for row in seen)


def test_loss_falls_and_every_term_is_logged(tmp_path: Path) -> None:
    trainer = make_trainer(epochs=25, handlers=[LossLogger(str(tmp_path / "losses.csv"))])
    trainer.run()
    lines = (tmp_path / "losses.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header[:2] == ["epoch", "iteration"] and "loss_hausdorff" in header and len(lines) == 51
    dice = [float(line.split(",")[header.index("loss_dice")]) for line in lines[1:]]
    assert dice[-1] < 0.3 < dice[0]


def test_bfloat16_keeps_losses_in_float() -> None:
    trainer = make_trainer()
    trainer.amp, trainer.amp_kwargs = True, {"dtype": torch.bfloat16}
    seen = []
    loss = trainer.state.recon_loss_function
    original = loss.forward
    loss.forward = lambda logits, target, scores=None: seen.append(logits.dtype) or original(logits, target, scores)
    trainer.run()
    assert seen and all(dtype == torch.bfloat16 for dtype in seen)
    assert trainer.state.output[0]["loss"] == trainer.state.output[0]["loss"]  # no NaN
