"""Training of the annotation network on MONAI's engine."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys


class LocalizationTrainer(Trainer):
    """MONAI's trainer with a loss that sees all targets of a batch, and every term of it in the output for the log.

    Args:
        network: the network.
        optimizer: of it.
        loss_function: has `terms` and `total` as `scripts.localization.loss.LocalizationLoss`.
        max_grad_norm: gradients are scaled down to it.
        **kwargs: of MONAI's `Trainer`; losses are always computed in float32.
    """

    def __init__(
        self,
        *,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Any,
        train_data_loader: Any,
        device: torch.device,
        max_epochs: int,
        max_grad_norm: float = 5.0,
        train_handlers: Any = None,
        **kwargs: Any,
    ) -> None:
        self.network, self.optimizer, self.loss_function = network, optimizer, loss_function
        self.max_grad_norm = max_grad_norm
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            handlers=train_handlers,
            **kwargs,
        )

    def run(self) -> None:
        """Train; a training that was resumed at its end is left as it is."""
        if self.state.epoch < self.state.max_epochs:
            super().run()

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        device = engine.state.device
        batch = {name: value.to(device) for name, value in batchdata.items()}
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, enabled=self.amp, **self.amp_kwargs):
            maps = self.network(batch["image"])
        terms = self.loss_function.terms(maps, batch)
        total = self.loss_function.total(terms)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)
        self.optimizer.step()
        output: dict[str, Any] = {f"loss_{name}": value.detach() for name, value in terms.items()}
        engine.state.output = {**output, CommonKeys.LOSS: total.detach(), "grad_norm": norm}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
