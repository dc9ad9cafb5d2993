"""Alternating training of generator and discriminator on MONAI's engine."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import AdversarialTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys


class VertebraGanTrainer(AdversarialTrainer):
    """MONAI's `AdversarialTrainer` for a conditional, supervised GAN.

    The parent was made for autoencoders: it shows the discriminator the *input* as the real example, knows one
    unweighted reconstruction loss, and never fires ``MODEL_COMPLETED``, so that no postprocessing and no training
    metric ever sees a result. Here the real example is the true mask, the discriminator sees probabilities, the loss
    is `scripts.losses.integrated.IntegratedLoss` (as ``recon_loss_function``; the parent's ``g_loss_function`` is
    part of it and stays unused), and the output carries each term, so that it can be logged alone. Without an
    adversarial weight the discriminator is neither run nor trained.

    Args:
        loss_function: of the generator.
        **kwargs: of the parent. ``amp`` works on CPU too (``amp_kwargs={"dtype": torch.bfloat16}``); losses are always
            computed in float32.
    """

    def __init__(self, *, loss_function: Any, **kwargs: Any) -> None:
        super().__init__(g_loss_function=loss_function, recon_loss_function=loss_function, **kwargs)

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        if batchdata is None:
            raise ValueError("Must provide batch data for current iteration.")
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        image, label = batch[0], batch[1]
        output: dict[str, Any] = {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}
        engine.state.output = output
        loss_function = engine.state.recon_loss_function
        generator, discriminator = engine.state.g_network, engine.state.d_network

        generator.train()
        discriminator.train()
        # The generator's step needs gradients through the discriminator, not in it.
        discriminator.requires_grad_(False)
        engine.state.g_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        with self._autocast():
            logits = engine.g_inferer(image, generator)
            fake = torch.sigmoid(logits.float())
            fake_scores = engine.d_inferer(fake, discriminator) if loss_function.is_adversarial else None
        terms = loss_function(logits, label, fake_scores)
        self._step(terms["total"], engine.state.g_optimizer, engine.state.g_scaler)
        output[CommonKeys.PRED] = logits.detach()
        output.update({f"loss_{name}": float(value.detach()) for name, value in terms.items()})
        output[CommonKeys.LOSS] = output.pop("loss_total")

        if loss_function.is_adversarial:
            discriminator.requires_grad_(True)
            engine.state.d_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
            with self._autocast():
                real_scores = engine.d_inferer(label.to(fake.dtype), discriminator)
                fake_scores = engine.d_inferer(fake.detach(), discriminator)
            d_loss = engine.state.d_loss_function(real_scores, fake_scores)
            self._step(d_loss, engine.state.d_optimizer, engine.state.d_scaler)
            output["loss_discriminator"] = float(d_loss.detach())
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        # Handlers of MODEL_COMPLETED replace the output by the decollated, postprocessed one.
        return engine.state.output

    def _autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.state.device).type, enabled=self.amp, **self.amp_kwargs)

    def _step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, scaler: Any) -> None:
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
