"""Alternating training of generator and discriminator on MONAI's engine."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import AdversarialTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from scripts.learning.distributed import unwrapped


class VertebraGanTrainer(AdversarialTrainer):
    """MONAI's `AdversarialTrainer` for a conditional, supervised GAN.

    The parent was made for autoencoders: it shows the discriminator the *input* as the real example, knows one
    unweighted reconstruction loss, and never fires ``MODEL_COMPLETED``, so that no postprocessing and no training
    metric ever sees a result. Here the real example is the true mask, the discriminator sees probabilities, the loss
    is `losses.integrated.IntegratedLoss` (as ``recon_loss_function``; the parent's ``g_loss_function`` is
    part of it and stays unused), and the output carries each term, so that it can be logged alone. Without an
    adversarial weight the discriminator is neither run nor trained.

    Args:
        loss_function: of the generator.
        accumulate: batches whose gradients are added up before a step, so that a small card reaches a large batch.
            What is left over at the end of an epoch makes a step of its own.
        **kwargs: of the parent. ``amp`` works on CPU too (``amp_kwargs={"dtype": torch.bfloat16}``); losses are always
            computed in float32.
    """

    def __init__(self, *, loss_function: Any, accumulate: int = 1, **kwargs: Any) -> None:
        if accumulate < 1:
            raise ValueError(f"accumulate is a number of batches, not {accumulate}")
        self.accumulate = accumulate
        super().__init__(g_loss_function=loss_function, recon_loss_function=loss_function, **kwargs)
        if self.amp_kwargs.get("dtype") == torch.bfloat16:
            # The parent scales every loss as float16 needs it; bfloat16 has the range of float32.
            self.state.g_scaler = self.state.d_scaler = None

    def run(self) -> None:
        """Train; a training that was resumed at its end is left as it is."""
        if self.state.epoch < self.state.max_epochs:
            super().run()

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        if batchdata is None:
            raise ValueError("Must provide batch data for current iteration.")
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        image, label = batch[0], batch[1]
        args, options = batch[2:] if len(batch) == 4 else ((), {})
        output: dict[str, Any] = {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}
        engine.state.output = output
        state, loss_function = engine.state, engine.state.recon_loss_function
        place = (state.iteration - 1) % state.epoch_length
        first_of_step = place - place % self.accumulate
        batches = min(self.accumulate, state.epoch_length - first_of_step)
        starts, ends = place == first_of_step, place == first_of_step + batches - 1

        state.g_network.train()
        state.d_network.train()
        # The generator's step needs gradients through the discriminator, not in it.
        state.d_network.requires_grad_(False)
        if starts:
            state.g_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
            state.d_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        with self._autocast():
            logits = engine.g_inferer(image, state.g_network, *args, **options)
            fake = torch.sigmoid(logits.float())
            # Past its wrapper, which would wait for gradients that this step does not give.
            judge = unwrapped(state.d_network)
            fake_scores = engine.d_inferer(fake, judge) if loss_function.is_adversarial else None
        terms = loss_function(logits, label, fake_scores)
        norm = self._step(terms["total"] / batches, state.g_network, state.g_optimizer, state.g_scaler, ends)
        output[CommonKeys.PRED] = logits.detach()
        # Tensors: asking for their values here would make the device wait.
        output.update({f"loss_{name}": value.detach() for name, value in terms.items()})
        output[CommonKeys.LOSS] = output.pop("loss_total")
        output["grad_norm_generator"] = norm

        if loss_function.is_adversarial:
            state.d_network.requires_grad_(True)
            with self._autocast():
                real_scores = engine.d_inferer(label.to(fake.dtype), state.d_network)
                fake_scores = engine.d_inferer(fake.detach(), state.d_network)
            d_loss = state.d_loss_function(real_scores, fake_scores)
            norm = self._step(d_loss / batches, state.d_network, state.d_optimizer, state.d_scaler, ends)
            output["loss_discriminator"] = d_loss.detach()
            output["grad_norm_discriminator"] = norm
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        # Handlers of MODEL_COMPLETED replace the output by the decollated, postprocessed one.
        return engine.state.output

    def _autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.state.device).type, enabled=self.amp, **self.amp_kwargs)

    def _step(
        self, loss: torch.Tensor, network: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, ends: bool
    ) -> torch.Tensor:
        """Add up gradients and, at the end of the accumulation, use them; returns their norm so far."""
        (loss if scaler is None else scaler.scale(loss)).backward()
        if ends and scaler is not None:
            scaler.unscale_(optimizer)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else loss.new_zeros(())
        if scaler is not None and not ends:
            norm = norm / scaler.get_scale()
        if ends and scaler is None:
            optimizer.step()
        elif ends:
            scaler.step(optimizer)
            scaler.update()
        return norm.detach()
