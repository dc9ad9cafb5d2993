"""Trained networks from files, and what they run on."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from scripts.errors import UserError
from scripts.io.checksums import check_released, sha256

PRECISIONS = ("auto", "float32", "bfloat16")


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


def choose_precision(name: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16``, where ``auto`` is the latter if the device computes in it by itself.

    Raises:
        UserError: another name.
    """
    if name not in PRECISIONS:
        raise UserError(f"precision is one of {', '.join(PRECISIONS)}, not '{name}'")
    if name != "auto":
        return name
    return "bfloat16" if computes_in_bfloat16(device) else "float32"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by itself; a processor that emulates it is ten times slower than in
    float32."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else _processor_has_bfloat16()


def _processor_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))


def load_network(
    weights: Path, untrained: Callable[[], torch.nn.Module], device: torch.device, config: str = "inference.json"
) -> torch.nn.Module:
    """A trained network, ready to use.

    Args:
        weights: a plain state dict (``.pt``) or an exported TorchScript file (``.ts``).
        untrained: makes the network that a state dict is for.
        device: where to.
        config: name of the file that describes it, for messages.

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
    network = untrained()
    try:
        # A training writes {"model": state dict}; the bundle's own file is the state dict.
        network.load_state_dict(state.get("model", state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{weights}: weights of another network than configs/{config} describes") from error
    return network.to(device).eval()


@cache
def weights_sha256(path: Path) -> str:
    """SHA-256 of the weights that this process uses, read once; empty where there is no file."""
    return sha256(path) if path.is_file() else ""
