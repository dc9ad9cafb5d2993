"""The trained generator as a function, wired exactly as ``configs/inference.json`` wires it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from scripts.errors import UserError
from scripts.io.checksums import check_released

BUNDLE_ROOT = Path(__file__).resolve().parents[2]


class Predictor:
    """Network inputs to vertebra probabilities.

    Args:
        weights: a state dict of the generator (``.pt``) or an exported TorchScript file (``.ts``); the bundle's
            ``models/model.pt`` if None.
        device: torch device; CUDA if there is one and None is given.
        batch_size: vertebrae at a time.
        bundle_root: the bundle's folder.

    Raises:
        UserError: the weights are missing, damaged, not as released or of another network; the device does not exist.
    """

    def __init__(
        self,
        weights: Path | None = None,
        device: str | None = None,
        batch_size: int = 4,
        bundle_root: Path = BUNDLE_ROOT,
    ) -> None:
        self.weights = weights or bundle_root / "models" / "model.pt"
        self.device = choose_device(device)
        self.batch_size = batch_size
        parser = ConfigParser()
        parser.read_config(str(bundle_root / "configs" / "inference.json"))
        parser["device"] = self.device
        self.normalise = Compose(parser.get_parsed_content("normalise_transforms"))
        self.network = load_network(self.weights, parser, self.device)

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[torch.Tensor]) -> Iterator[np.ndarray]:
        """Raw network inputs, (4, 120, 120) each -> probabilities (120, 120, 120) float32 in ``IPL``, one by one."""
        for start in range(0, len(inputs), self.batch_size):
            batch = [self.normalise({"image": item})["image"] for item in inputs[start : start + self.batch_size]]
            logits = self.network(torch.stack([torch.as_tensor(item) for item in batch]).to(self.device))
            yield from torch.sigmoid(logits.float())[:, 0].cpu().numpy()


def choose_device(name: str | None) -> torch.device:
    """The named device; a GPU if there is one and no name is given.

    Raises:
        UserError: it does not exist here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' is not available ({str(error).splitlines()[0]})") from error
    return device


def load_network(weights: Path, parser: Any, device: torch.device, config: str = "inference.json") -> torch.nn.Module:
    """A trained network, ready to use.

    Args:
        weights: a plain state dict (``.pt``) or an exported TorchScript file (``.ts``).
        parser: whose ``network_def`` a state dict is for.
        device: where to.
        config: name of the parser's file, for messages.

    Raises:
        UserError: the weights are missing, damaged or of another network.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such weight file")
    check_released(weights)
    try:
        if weights.suffix == ".ts":
            return torch.jit.load(str(weights), map_location=device).eval()
        state = torch.load(weights, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{weights}: not a readable weight file, truncated or damaged") from error
    network = parser.get_parsed_content("network_def")
    try:
        # A training writes {"model": state dict}; the bundle's own file is the state dict.
        network.load_state_dict(state.get("model", state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{weights}: weights of another network than configs/{config} describes") from error
    return network.to(device).eval()
