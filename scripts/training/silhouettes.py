"""The vertebra's shadow in each view, which a generator's 2D encoders learn before or while it learns the volume.

    python -m scripts.training.silhouettes --dataset_dir DATASET --output init.pt [--init_weights model.pt]
        [--config_file CONFIG,CONFIG] [--steps 800] [--batch_size 8] [--learning_rate 0.001]

For generators with `EncodedLift` and `HullBackbone` (``configs/shadows.json``). Loss: Dice and cross-entropy of the
true mask's shadow along P and along L. Train on in 3D with ``--init_weights init.pt``; ``configs/shadows.json`` makes
the same loss a term of that training too.
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from tqdm import tqdm

from scripts.command import run_module
from scripts.errors import UserError
from scripts.networks.encoding import EncodedLift
from scripts.networks.hull import HullBackbone
from scripts.training.distributed import unwrapped
from scripts.training.handlers import save_network

CONFIGS = tuple(f"configs/{name}.json" for name in ("train", "augment_soft", "train_improved", "shadows"))
# Of (B, 1, I, P, L): the axis along which AP and LAT look.
RAYS = (3, 4)
SHOWN_EVERY = 50


class Silhouettes(torch.nn.Module):
    """The part of a generator that sees each view alone, with its shadows as the answer.

    Raises:
        UserError: the generator has no 2D encoders, or no flat heads.
    """

    def __init__(self, generator: torch.nn.Module) -> None:
        super().__init__()
        hulls = [module for module in generator.modules() if isinstance(module, HullBackbone)]
        lift = getattr(generator, "lift", None)
        if not isinstance(lift, EncodedLift) or not hulls:
            raise UserError("only generators with EncodedLift and HullBackbone can learn shadows")
        self.fusion = generator.fusion
        self.encoders = torch.nn.ModuleList([lift.ap_encoder, lift.lat_encoder])
        self.heads = torch.nn.ModuleList([hulls[0].ap_head, hulls[0].lat_head])

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Image (B, 4, N, N) -> logits of the AP and of the LAT shadow, (B, 1, N, N) each."""
        views = self.fusion(image)
        return tuple(head(encoder(view)) for head, encoder, view in zip(self.heads, self.encoders, views, strict=True))


def shadow_loss(logits: tuple[torch.Tensor, ...], target: torch.Tensor) -> torch.Tensor:
    """Dice and cross-entropy of both shadows of a mask (B, 1, N, N, N), added."""
    loss = DiceCELoss(sigmoid=True)
    return torch.stack([loss(z, target.amax(axis)) for z, axis in zip(logits, RAYS, strict=True)]).sum()


class ShadowSupervision:
    """The shadow loss of what a generator's encoders said in its last forward pass, for `VertebraGanTrainer`.

    Args:
        generator: see `Silhouettes`.
        weight: of the loss beside the terms of equation (2).
    """

    def __init__(self, generator: torch.nn.Module, weight: float = 1.0) -> None:
        self.weight = weight
        self.part = Silhouettes(unwrapped(generator))
        self.features: dict[int, torch.Tensor] = {}
        for index, encoder in enumerate(self.part.encoders):
            encoder.register_forward_hook(partial(self._keep, index))

    def _keep(self, index: int, _module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        self.features[index] = out

    def __call__(self, target: torch.Tensor) -> torch.Tensor:
        """Mask (B, 1, N, N, N) of the images that the generator has just seen -> scalar, unweighted."""
        logits = tuple(head(self.features.pop(index).float()) for index, head in enumerate(self.part.heads))
        return shadow_loss(logits, target.float())


def main(
    dataset_dir: str,
    output: str,
    init_weights: str = "",
    config_file: str | tuple[str, ...] = CONFIGS,
    steps: int = 800,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
) -> None:
    """Train and write.

    Args:
        dataset_dir: prepared dataset, its training list.
        output: file for ``--init_weights`` of the training in 3D.
        init_weights: of the same generator, or of one without flat heads; nothing if empty.
        config_file: the training's config, or several with commas between them.
        steps: batches.
        batch_size: vertebrae.
        learning_rate: at the start; it falls along a cosine to a twentieth.

    Raises:
        UserError: another generator, or weights of another.
    """
    parser = ConfigParser()
    parser.read_config(config_file.split(",") if isinstance(config_file, str) else list(config_file))
    parser.update({"dataset_dir": dataset_dir, "batch_size": batch_size, "bundle_root": "."})
    device, amp = (parser.get_parsed_content(name) for name in ("device", "amp"))
    generator = parser.get_parsed_content("network_def").to(device)
    if init_weights:
        load_into(generator, Path(init_weights))
    network = Silhouettes(generator).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, learning_rate / 20)
    loader = parser.get_parsed_content("train#dataloader")
    batches = itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps)
    bar = tqdm(batches, total=steps, desc="shadows", unit="batch")
    for step, batch in enumerate(bar):
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            logits = network(batch["image"].to(device))
        loss = shadow_loss(tuple(z.float() for z in logits), batch["label"].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % SHOWN_EVERY == 0 or step == steps - 1:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    save_network(generator, Path(output))


def load_into(generator: torch.nn.Module, weights: Path) -> None:
    """A file's weights.

    Raises:
        UserError: they are of another network.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    try:
        generator.load_state_dict(state.get("model", state))
    except RuntimeError as error:
        raise UserError(f"{weights}: weights of another network") from error


if __name__ == "__main__":
    run_module(main)
