"""A GAN training small enough to run, kill and resume in seconds.

python -m tests.tiny_training FOLDER EPOCHS [resume]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader
from monai.handlers import LrScheduleHandler
from monai.transforms import Compose, EnsureTyped, RandGaussianNoised
from monai.utils import set_determinism

from scripts.learning.checkpoint import CheckpointKeeper
from scripts.learning.handlers import TrainingLog
from scripts.learning.sampling import ReproducibleDataset, ReproducibleSampler
from scripts.reconstruction.losses.integrated import DiscriminatorLoss, IntegratedLoss
from scripts.reconstruction.networks.discriminator import VertebraDiscriminator
from scripts.reconstruction.networks.fusion import CentroidFusion
from scripts.reconstruction.networks.generator import Generator
from scripts.reconstruction.networks.lifting import ReplicateLift
from scripts.reconstruction.networks.resunet import ResUNet
from scripts.reconstruction.training.trainer import VertebraGanTrainer


def make_trainer(
    adversarial: float = 0.1,
    epochs: int = 1,
    handlers: list | None = None,
    batch_size: int = 2,
    accumulate: int = 1,
    different: bool = False,
    noise: float = 0.0,
    num_workers: int = 0,
    **options: Any,
) -> VertebraGanTrainer:
    """Four boxes of 24 voxels; the same one four times unless ``different``; further options of the trainer."""
    torch.manual_seed(0)
    items = []
    for shift in range(4):
        target = torch.zeros(1, 24, 24, 24)
        offset = shift if different else 0
        target[0, 8:16, 6 + offset : 14 + offset, 9 - offset : 18] = 1
        shadow = [target[0].sum(1), target[0].sum(1) > 0, target[0].sum(2), target[0].sum(2) > 0]
        items.append({"image": torch.stack(shadow).float() / 9, "label": target})
    noisy = RandGaussianNoised("image", prob=1.0 if noise else 0.0, std=noise)
    transform = Compose([EnsureTyped(("image", "label")), noisy])
    data = ReproducibleDataset(items, transform, cache_rate=1.0)
    sampler = ReproducibleSampler(data, shuffle=different)
    generator = Generator(CentroidFusion(), ReplicateLift(), ResUNet(channels=(4, 8, 8), strides=(2, 2)))
    discriminator = VertebraDiscriminator(spatial_dims=3, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE")
    return VertebraGanTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_size=batch_size, sampler=sampler, num_workers=num_workers),
        g_network=generator,
        g_optimizer=torch.optim.Adam(generator.parameters(), 1e-2),
        loss_function=IntegratedLoss(adversarial_weight=adversarial),
        d_network=discriminator,
        d_optimizer=torch.optim.Adam(discriminator.parameters(), 1e-3),
        d_loss_function=DiscriminatorLoss(),
        train_handlers=handlers,
        accumulate=accumulate,
        **options,
    )


def train(
    folder: Path,
    epochs: int,
    resume: bool,
    num_workers: int = 0,
    batch_size: int = 2,
    learning_rate: float = 1e-2,
    cosine: bool = False,
    seed: int = 0,
) -> torch.Tensor:
    """Train with checkpoints and a falling learning rate; all weights of both networks in one vector."""
    torch.set_num_threads(1)
    set_determinism(seed)
    trainer = make_trainer(epochs=epochs, different=True, noise=0.1, num_workers=num_workers, batch_size=batch_size)
    state = trainer.state
    state.g_optimizer.param_groups[0]["lr"] = learning_rate
    schedules = torch.optim.lr_scheduler
    schedule = (
        schedules.CosineAnnealingLR(state.g_optimizer, epochs)
        if cosine
        else schedules.StepLR(state.g_optimizer, 2, 0.5)
    )
    LrScheduleHandler(schedule, print_lr=False).attach(trainer)
    TrainingLog(str(folder), {"generator": state.g_optimizer}).attach(trainer)
    parts = {"generator": state.g_network, "discriminator": state.d_network, "optimizer": state.g_optimizer}
    keeper = CheckpointKeeper(
        str(folder), {**parts, "discriminator_optimizer": state.d_optimizer, "schedule": schedule}, seed=seed
    )
    keeper.attach(trainer)
    if resume:
        keeper.resume(trainer)
    trainer.run()
    networks = (state.g_network, state.d_network)
    return torch.cat([p.detach().flatten() for network in networks for p in network.state_dict().values()])


if __name__ == "__main__":
    torch.save(train(Path(sys.argv[1]), int(sys.argv[2]), "resume" in sys.argv), Path(sys.argv[1]) / "final.pt")
