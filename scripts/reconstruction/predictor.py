"""The trained generator as a function, wired exactly as ``configs/inference.json`` wires it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from scripts.errors import UserError
from scripts.learning.loading import choose_device, choose_precision, load_network
from scripts.paths import BUNDLE_ROOT

# On a CPU; the shipped network takes 90 MB a vertebra, the paper's at full resolution 170 to 250.
VERTEBRA_BYTES = 256 * 2**20
READ_AT_A_TIME = 8


class Predictor:
    """Network inputs to vertebra probabilities.

    Args:
        weights: a state dict of the generator (``.pt``) or an exported TorchScript file (``.ts``); the bundle's
            ``models/model.pt`` if None.
        device: torch device; CUDA if there is one and None is given.
        batch_size: vertebrae at a time, at most; fewer where there is no memory for them.
        bundle_root: the bundle's folder.
        precision: ``float32``, ``bfloat16``, or ``auto``, which is the latter where the device computes in it.

    Raises:
        UserError: the weights are missing, damaged, not as released or of another network; there is no such device or
            precision.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        device: str | None = None,
        batch_size: int = 4,
        bundle_root: Path = BUNDLE_ROOT,
        precision: str = "float32",
    ) -> None:
        self.weights = Path(weights) if weights else bundle_root / "models" / "model.pt"
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.batch_size = batch_size if self.device.type == "cuda" else min(batch_size, _fitting_batch())
        parser = ConfigParser()
        parser.read_config(str(bundle_root / "configs" / "inference.json"))
        parser["device"] = self.device
        self.normalise = Compose(parser.get_parsed_content("normalise_transforms"))
        self.network = load_network(self.weights, lambda: parser.get_parsed_content("network_def"), self.device)
        self.takes_level = bool(getattr(self.network, "takes_level", False))
        if self.takes_level and not hasattr(self.network, "see"):
            raise UserError(f"{self.weights}: exported by an older version of this program; export it again")
        # What the network sees in the patches that it was asked about last, by their content.
        self._seen: dict[bytes, torch.Tensor] = {}

    @torch.inference_mode()
    def __call__(
        self,
        inputs: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
        tilts: Sequence[float] | None = None,
        numbers: Sequence[Sequence[float]] | None = None,
    ) -> Iterator[np.ndarray]:
        """Vertebrae, one by one.

        Args:
            inputs: raw network inputs, (4, 120, 120) each.
            levels: VerSe number of each, 0 where it is unknown, for networks that make use of them (``takes_level``).
            tilts: degrees by which each leans in the sagittal plane of its cube (`Lean.left_over_deg`); 0 if None. Only
                for networks that make use of them.
            numbers: nine of each: place (mm), turn (degrees) and log stretches of its mean shape; what `read` returns
                if None. Only for networks that make use of them.

        Returns:
            probabilities (120, 120, 120) float32 in ``IPL``.
        """
        tilts = [0.0] * len(inputs) if tilts is None else tilts
        start = 0
        while start < len(inputs):
            part = slice(start, min(start + self.batch_size, len(inputs)))
            try:
                images = self._images(inputs[part])
                known: tuple[torch.Tensor, ...] = ()
                if levels is not None and self.takes_level:
                    known = self._conditions(levels[part], tilts[part])
                    if numbers is not None:
                        lies = [list(row) for row in numbers[part]]
                        known = (*known, torch.tensor(lies, dtype=torch.float32, device=self.device))
                with self._autocast():
                    logits = self.network(images, *known)
                probabilities = torch.sigmoid(logits.float())[:, 0].cpu().numpy()
            except torch.OutOfMemoryError:
                # A GPU that others use too: what fits is found by trying.
                if self.batch_size == 1:
                    raise UserError(
                        f"{self.device}: not enough free memory for one vertebra; use --device cpu"
                    ) from None
                self.batch_size //= 2
                continue
            start = part.stop
            yield from probabilities

    @torch.inference_mode()
    def read(self, inputs: Sequence[torch.Tensor], levels: Sequence[int], tilts: Sequence[float]) -> np.ndarray:
        """(N, 9) how the mean shapes of vertebrae lie, as the network reads it off the films.

        Args:
            inputs: raw network inputs, (4, 120, 120) each.
            levels: VerSe number of each.
            tilts: degrees by which each leans in the sagittal plane of its cube.
        """
        seen, (given, lean) = self._see(inputs), self._conditions(levels, tilts)
        with self._autocast():
            return self.network.read(seen, given, lean).float().cpu().numpy()

    @torch.inference_mode()
    def read_levels(self, inputs: Sequence[torch.Tensor]) -> np.ndarray:
        """(N, `TABLE_SIZE`) log probabilities of VerSe numbers, as the network reads them off the films.

        Only for networks that make use of levels (``takes_level``).

        Args:
            inputs: raw network inputs, (4, 120, 120) each; at least one.
        """
        seen = self._see(inputs)
        with self._autocast():
            return self.network.read_levels(seen).float().cpu().numpy()

    def _see(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, 2, F) what the network sees in patches; those of the last call are not looked at again.

        So the marks of films that were named by their patches are refined at hardly any cost.
        """
        keys = [hashlib.blake2b(np.ascontiguousarray(item)).digest() for item in inputs]
        seen = {key: self._seen[key] for key in keys if key in self._seen}
        new = [(key, item) for key, item in zip(keys, inputs, strict=True) if key not in seen]
        for start in range(0, len(new), READ_AT_A_TIME):
            part = new[start : start + READ_AT_A_TIME]
            with self._autocast():
                found = self.network.see(self._images([item for _, item in part]))
            seen.update(zip((key for key, _ in part), found, strict=True))
        self._seen = seen
        return torch.stack([seen[key] for key in keys])

    def _images(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, 4, 120, 120), normalised, on the device."""
        batch = [torch.as_tensor(self.normalise({"image": item})["image"]) for item in inputs]
        return torch.stack(batch).to(self.device)

    def _conditions(self, levels: Sequence[int], tilts: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Levels and tilts (B,) on the device."""
        lean = torch.tensor(list(tilts), dtype=torch.float32, device=self.device)
        return torch.tensor(list(levels), device=self.device), lean

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def _fitting_batch() -> int:
    """Vertebrae at a time that this machine's free memory holds."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 1
    return max(free // 2 // VERTEBRA_BYTES, 1)
