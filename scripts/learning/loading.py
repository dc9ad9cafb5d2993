"""Trained networks from files, and what they run on."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def computes_in_bfloat16(device: torch.device | str) -> bool:
    """Whether the device computes in bfloat16 by itself; a processor that emulates it is ten times slower than in
    float32.

    Args:
        device: a config's, or the name of one on the command line.
    """
    if torch.device(device).type == "cuda":
        # GPUs before Ampere emulate it too.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _processor_has_bfloat16()


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
    if weights.suffix == ".ts":
        with _one_line(weights):
            return torch.jit.load(str(weights), map_location=device).eval()
    network = untrained()
    load_weights(network, weights, f"configs/{config}")
    return network.to(device).eval()


def load_weights(network: torch.nn.Module, weights: Path, described_in: str) -> None:
    """Fill a network with all weights of a file, which must fit it one by one.

    Args:
        network: to fill in, on any device.
        weights: a plain state dict, alone or under ``model``.
        described_in: what describes the network, for messages.

    Raises:
        UserError: the weights are missing, damaged or of another network.
    """
    state = read_weights(weights)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{weights}: weights of another network than {described_in} describes") from error


def read_weights(weights: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file; nothing in the file is executed.

    Args:
        weights: a state dict, alone or under ``model``, as a training writes it.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _one_line(weights):
        state = torch.load(weights, map_location="cpu", weights_only=True)
        found: dict[str, torch.Tensor] = state.get("model", state)
    return found


@contextmanager
def _one_line(weights: Path) -> Iterator[None]:
    """What can go wrong with a weight file that is read inside, as a `UserError`."""
    if not weights.is_file():
        raise UserError(f"{weights}: no such weight file")
    check_released(weights)
    try:
        yield
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        raise UserError(f"{weights}: not a readable weight file, truncated or damaged") from error


@cache
def weights_sha256(path: Path) -> str:
    """SHA-256 of the weights that this process uses, read once; empty where there is no file."""
    return sha256(path) if path.is_file() else ""


def engine_path(weights: str, precision: str) -> str:
    """Where MONAI's ``trt_compile`` keeps the engine that it builds from weights: it appends ``.plan``.

    MONAI takes an engine for one of these weights if it is younger, and files from an archive have any time. So the
    content is part of the name, and other weights get an engine of their own.

    Args:
        weights: a weight file.
        precision: of the engine.
    """
    return f"{weights}.{precision}-{weights_sha256(Path(weights))[:16]}"
