"""Test-time augmentation: a film shown to the network as it is, mirrored and magnified, and the mean of its answers.

The network was trained on mirrored films and on films at 0.8 to 1.25 of their size, so each view is one that it knows;
their errors differ, and the mean is nearer to the truth than any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from scripts.localization.network import HEADS, STRIDE, split_heads
from scripts.localization.network_input import pad_to_network
from scripts.localization.windows import MIRRORED_CORNERS

Maps = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TestTimeView:
    """How a film is shown to the network.

    Args:
        mirror: left to right.
        scale: magnification.
    """

    mirror: bool = False
    scale: float = 1.0
    # pytest would take the class for tests by its name.
    __test__: ClassVar[bool] = False


def average_views(
    network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, views: Sequence[TestTimeView]
) -> torch.Tensor:
    """What a network says of films, on average over several views.

    Args:
        network: `SpineLocalizer`, or what behaves like it.
        image: (B, 2, 4, H, W), H and W multiples of 32.
        views: at least one.

    Returns:
        (B, 2, CHANNELS, H / 2, W / 2) as the network's own: probabilities of ``heat`` and logarithms of those of
        levels, regions and ends are averaged, positions are averaged in space.

    Raises:
        ValueError: there is no view.
    """
    if not views:
        raise ValueError("no view of the film")
    if len(views) == 1 and views[0] == TestTimeView():
        return network(image).float()
    seen = [_seen_as(network, image, view) for view in views]
    mean = {name: torch.stack([maps[name] for maps in seen]).mean(0) for name in HEADS}
    mean["heat"] = torch.logit(mean["heat"], eps=1e-6)
    return torch.cat([mean[name] for name in HEADS], 2)


def _seen_as(network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, view: TestTimeView) -> Maps:
    """The heads as probabilities, log probabilities and positions, on the cells of the image as it is."""
    height, width = image.shape[-2:]
    shown = image if view.scale == 1 else _magnified(image, view.scale)
    maps = split_heads(network(shown.flip(-1) if view.mirror else shown).float())
    maps["heat"] = maps["heat"].sigmoid()
    maps |= {name: maps[name].log_softmax(2) for name in ("level", "region", "end")}
    if view.mirror:
        maps = _mirrored(maps)
    return maps if view.scale == 1 else _shrunk(maps, view.scale, (height // STRIDE, width // STRIDE))


def _magnified(image: torch.Tensor, scale: float) -> torch.Tensor:
    views = image.flatten(0, 1)
    larger = F.interpolate(views, scale_factor=scale, mode="bilinear", antialias=scale < 1, align_corners=False)
    return pad_to_network(larger).unflatten(0, image.shape[:2])


def _mirrored(maps: Maps) -> Maps:
    """Maps of a mirrored image as those of the image."""
    flipped = {name: value.flip(-1) for name, value in maps.items()}
    for name, points in (("offset", 1), ("corners", 4), ("neighbours", 2)):
        rows_columns = flipped[name].unflatten(2, (points, 2))
        if name == "corners":
            rows_columns = rows_columns[:, :, list(MIRRORED_CORNERS)]
        away = torch.stack([rows_columns[:, :, :, 0], -rows_columns[:, :, :, 1]], 3)
        flipped[name] = away.flatten(2, 3)
    flipped["spread"] = flipped["spread"][:, :, list(MIRRORED_CORNERS)]
    return flipped


def _shrunk(maps: Maps, scale: float, shape: tuple[int, int]) -> Maps:
    """Maps of a magnified image as those of the image, whose maps have a shape."""
    cells = _cells(maps["offset"].shape[-2:], maps["offset"])
    within = dict(maps)
    within["offset"] = _to_image(cells + maps["offset"], scale)
    within["corners"], within["neighbours"] = maps["corners"] / scale, maps["neighbours"] / scale
    within["spread"] = maps["spread"] - math.log(scale)
    own = _cells(shape, maps["offset"])
    larger = torch.tensor(maps["offset"].shape[-2:], device=own.device)[:, None, None]
    # Cell c of the image lies at cell (c + 1/2) scale - 1/2 of the magnified one.
    grid = ((2 * (own + 0.5) * scale) / larger - 1).permute(1, 2, 0).flip(-1)
    pairs, views = maps["offset"].shape[:2]
    grid = grid.expand(pairs * views, -1, -1, -1)
    sampled = {
        name: F.grid_sample(value.flatten(0, 1), grid, padding_mode="border", align_corners=False).unflatten(
            0, (pairs, views)
        )
        for name, value in within.items()
    }
    sampled["offset"] = sampled["offset"] - own
    return sampled


def _cells(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """(2, rows, columns) row and column of each cell."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) for n in shape)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _to_image(cell: torch.Tensor, scale: float) -> torch.Tensor:
    """Cells of the magnified image's maps as those of the image's."""
    return (cell + 0.5) / scale - 0.5
