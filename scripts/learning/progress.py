"""What one sees of a training while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tqdm import tqdm


class Progress:
    """A bar over the whole training with the time left.

    Args:
        is_writer: whether this process shows it; one of several does.
    """

    def __init__(self, is_writer: bool = True) -> None:
        self.is_writer = is_writer
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        if self.is_writer:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
            engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Engine) -> None:
        state = engine.state
        total = state.max_epochs * state.epoch_length
        self.bar = tqdm(total=total, initial=state.iteration, desc="training", unit="batch", dynamic_ncols=True)

    def _advance(self, engine: Engine) -> None:
        if self.bar is not None:
            output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
            self.bar.set_postfix(epoch=engine.state.epoch, loss=f"{float(output['loss']):.3f}", refresh=False)
            self.bar.update()

    def _close(self, engine: Engine) -> None:
        if self.bar is not None:
            self.bar.close()


class ValidationPicture:
    """One validation vertebra an epoch as a PNG: both films, and in each the shadows of truth and prediction.

    Green is truth alone, magenta prediction alone, white both.

    Args:
        folder: gets ``epoch_<n>.png``.
        is_writer: whether this process writes; one of several does.
    """

    def __init__(self, folder: str, is_writer: bool = True) -> None:
        self.folder = Path(folder)
        self.is_writer = is_writer

    def attach(self, engine: Engine) -> None:
        """Called by MONAI; belongs to the evaluator."""
        if self.is_writer:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._draw)

    def _draw(self, engine: Engine) -> None:
        item: dict[str, Any] = engine.state.batch[0] if isinstance(engine.state.batch, list) else engine.state.batch
        output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        image = torch.as_tensor(item["image"]).float().cpu().numpy()
        picture = draw_vertebra(
            image.reshape(-1, *image.shape[-3:])[0],
            torch.as_tensor(output["label"]).float().cpu().numpy().reshape(-1, *output["label"].shape[-3:])[0],
            torch.as_tensor(output["pred"]).float().cpu().numpy().reshape(-1, *output["pred"].shape[-3:])[0],
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        picture.save(self.folder / f"epoch_{self._epoch(engine):03d}.png")

    @staticmethod
    def _epoch(engine: Engine) -> int:
        """The training's epoch: MONAI's `ValidationHandler` sets the evaluator to the trainer's epoch."""
        return int(engine.state.epoch)


def draw_vertebra(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, scale: int = 2) -> Image.Image:
    """Both films of a vertebra beside the shadows of two masks.

    Args:
        image: (4, N, N) network input.
        truth: (N, N, N) mask.
        prediction: (N, N, N) mask.
        scale: pixels a voxel.
    """
    panels = []
    for channel, axis in ((0, 1), (2, 2)):
        film = image[channel]
        grey = (film - film.min()) / max(float(film.max() - film.min()), 1e-6)
        panels.append(np.repeat(grey[..., None], 3, -1))
        shadows = [mask.sum(axis) / max(float(mask.sum(axis).max()), 1.0) for mask in (truth, prediction)]
        panels.append(np.stack([shadows[1], shadows[0], shadows[1]], -1))
    pixels = np.uint8(np.round(255 * np.concatenate(panels, 1)))
    return Image.fromarray(np.kron(pixels, np.ones((scale, scale, 1), np.uint8)))
