"""Films and patches as the networks see them: between the percentiles of what is on the film.

A patch may reach beyond its film, and a film may end inside it. Pixels off the film are NaN in a patch that is not yet
normalised; they take no part in normalising and become 0, the darkest that there is. ``configs/inference.json`` says
the same in torch's and MONAI's own words, so that it needs no code of ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform

# Beside a patch ``<key>`` in a transform's dictionary: which of its pixels are on the film, 0 or 1.
VALID = "_valid"
LOWER, UPPER = 0.005, 0.995
# Pixels nearer to where there is no film say nothing about its range: at the border of a scan or of a collimator a ray
# meets a part of what is there, and such dark pixels would take most of a narrow film's range from its bone.
RIM_PX = 3


def normalise_film(patch: torch.Tensor, inside: torch.Tensor | None = None) -> torch.Tensor:
    """The percentiles 0.5 and 99.5 of a film, or of what a patch shows of one, as 0 and 1, clipped; 0 off the film.

    Pixels within `RIM_PX` of what is off the film take no part in the percentiles.

    Args:
        patch: (..., rows, columns) float in any unit; NaN off the film.
        inside: same shape, bool: what is on the film, besides NaN; None for all.

    Returns:
        (..., rows, columns) of the same dtype, in [0, 1]. A patch without film, or with an even one, is 0.
    """
    if inside is not None:
        patch = patch.masked_fill(~inside, torch.nan)
    low, high = (q[..., None, None] for q in _quantiles(_without_rim(patch).flatten(-2)))
    return ((patch - low) / (high - low).clamp(min=1e-6)).clamp(0.0, 1.0).nan_to_num(0.0)


def _without_rim(patch: torch.Tensor) -> torch.Tensor:
    """NaN also near NaN."""
    off = patch.isnan().to(patch.dtype).reshape(-1, 1, *patch.shape[-2:])
    near = F.max_pool2d(off, 2 * RIM_PX + 1, 1, RIM_PX).reshape(patch.shape)
    return patch.masked_fill(near > 0, torch.nan)


def _quantiles(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `torch.nanquantile` along the last axis, sorted once and without asking the device for anything."""
    ascending = values.sort(dim=-1).values  # NaN last
    last = (values.isfinite().sum(-1, keepdim=True) - 1).clamp(min=0)
    found = []
    for share in (LOWER, UPPER):
        place = share * last
        below = place.floor().long()
        above = torch.minimum(below + 1, last)
        low, high = ascending.gather(-1, below), ascending.gather(-1, above)
        found.append(torch.lerp(low, high, (place - below).to(values.dtype))[..., 0])
    return found[0], found[1]


class OffFilmd(MapTransform):
    """Patches without NaN, each with its ``<key>_valid``: for random transforms, which NaN would spoil.

    What is not on the film takes the lowest value that the patch has on it; where all is, nothing changes.
    """

    def __init__(self, keys: KeysCollection = ("image_ap", "image_lat")) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Every key."""
        item = dict(data)
        for key in self.keys:
            patch = torch.as_tensor(data[key])
            on_film = patch.isfinite()
            lowest = torch.where(on_film, patch, torch.inf).amin()
            item[key] = torch.where(on_film, patch, torch.where(lowest.isfinite(), lowest, 0.0))
            item[f"{key}{VALID}"] = on_film.to(patch.dtype)
        return item


class NormalisePatchd(MapTransform):
    """`normalise_film` of patches, each with its ``<key>_valid`` if it has one; NaN is not on the film either."""

    def __init__(self, keys: KeysCollection = ("image_ap", "image_lat")) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Every key."""
        item = dict(data)
        for key in self.keys:
            valid = data.get(f"{key}{VALID}")
            item[key] = normalise_film(torch.as_tensor(data[key]).float(), None if valid is None else valid > 0.5)
        return item
