"""From training films to network input and targets: windows of both films, normalisation, maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform

from scripts.geometry.film import blur
from scripts.levels import LEVEL_ORDER, level_name
from scripts.localization.films import S1_INDEX, VIEWS, read_film_case
from scripts.localization.known import unknown_boxes
from scripts.localization.network import COARSEST, END_NAMES, STRIDE
from scripts.localization.windows import WindowOptions, draw_windows, mirror_points

# Lengths of corners and neighbours are learned in this unit, about half a body.
UNIT_PX = 10.0
# More marks than a view can hold.
MAX_MARKS = 28
PERCENTILES = (0.5, 99.5)
# Around a pixel, for its local contrast; the spread that noise alone has.
LOCAL_PX, LEAST_SPREAD = 8.0, 0.01
NAMES = (*(level_name(number) for number in LEVEL_ORDER), "S1")
# Places in the level table where another region begins.
FIRST_THORACIC, FIRST_LUMBAR = NAMES.index("T1"), NAMES.index("L1")


class LoadFilmPaird(Transform):
    """One pair of a file of training films: ``ap`` and ``lat`` (1, rows, columns), and their marks.

    The marks of a view, ``<view>_points``, are (N, 5, 2) pixels: centroid, then four corners; NaN where there are none.
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Item with ``path`` and ``pair``."""
        case = read_film_case(Path(data["path"]), int(data["pair"]))
        item: dict[str, Any] = {"levels": case.levels.astype(np.int64), "complete": case.complete}
        for name, film, centroids, corners in zip(VIEWS, case.films, case.centroids, case.corners, strict=True):
            item[name] = torch.from_numpy(film)[None]
            item[f"{name}_points"] = np.concatenate([centroids[:, None], corners], 1).astype(np.float32)
        return item


class RandFilmWindowd(RandomizableTransform):
    """Cut a window of fixed size from each film: another size of patient, place, tilt, side and field of view.

    Args:
        shape: (rows, columns) of the windows, multiples of 32.
        scale: smallest and largest magnification.
        tilt_deg: largest turn in the plane.
        mirror_prob: of each view to be mirrored.
        part_prob: of a pair to be cut off above and below.
        shift_px: how far the two windows may differ in height.
        aside_px: how far a window's middle may lie beside the spine.
    """

    def __init__(
        self,
        shape: Sequence[int] = (256, 96),
        scale: Sequence[float] = (0.8, 1.25),
        tilt_deg: float = 6.0,
        mirror_prob: float = 0.25,
        part_prob: float = 0.4,
        shift_px: float = 12.0,
        aside_px: float = 32.0,
    ) -> None:
        super().__init__(1.0)
        self.options = WindowOptions(
            (int(shape[0]), int(shape[1])),
            (float(scale[0]), float(scale[1])),
            tilt_deg,
            mirror_prob,
            part_prob,
            shift_px,
            aside_px,
        )

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Windows, where there is film in them (``<view>_valid``), and moved marks."""
        item = dict(data)
        shape = self.options.shape
        windows = draw_windows([data[f"{name}_points"][:, 0] for name in VIEWS], self.options, self.R)
        for name, place in zip(VIEWS, windows, strict=True):
            film, points = data[name], data[f"{name}_points"]
            window, valid, moved = cut_window(film, points, place.middle, place.scale, place.angle, shape)
            centre = (shape[0] - 1) / 2
            rows = torch.arange(shape[0])
            valid = valid * ((rows >= centre - place.half_rows) & (rows <= centre + place.half_rows))[None, :, None]
            if place.mirrored:
                window, valid, moved = window.flip(-1), valid.flip(-1), mirror_points(moved, shape[1])
            item[name], item[f"{name}_valid"], item[f"{name}_points"] = window * (valid > 0), valid, moved
        return item


def cut_window(
    film: torch.Tensor, points: np.ndarray, middle: np.ndarray, scale: float, angle: float, shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A turned and magnified window of a film.

    Args:
        film: (1, rows, columns).
        points: (..., 2) pixels of it.
        middle: (2,) pixel that comes to lie in the window's middle.
        scale: window pixels a film pixel.
        angle: in radians.
        shape: of the window.

    Returns:
        window (1, *shape), where it shows film (1, *shape) 0 or 1, and the points in it.
    """
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(shape) - 1) / 2
    index = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"), -1)
    source = (index - centre) @ turn.T / scale + middle
    size = np.array(film.shape[1:])
    where = torch.from_numpy(((2 * source + 1) / size - 1)[..., ::-1].astype(np.float32))
    window = F.grid_sample(film[None], where[None], align_corners=False, padding_mode="border")[0]
    inside = np.all((source > -0.5) & (source < size - 0.5), -1)
    valid = torch.from_numpy(inside.astype(np.float32))[None]
    moved = (points - middle) @ turn * scale + centre
    return window * valid, valid, moved.astype(np.float32)


class NormaliseFilmd(MapTransform):
    """`normalise_film` on windows, each with its ``<key>_valid``."""

    def __init__(self, keys: KeysCollection = VIEWS) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Every key."""
        item = dict(data)
        for key in self.keys:
            item[key] = normalise_film(torch.as_tensor(data[key]), data[f"{key}_valid"])
        return item


def normalise_film(film: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """A film between its own percentiles 0.5 and 99.5 as 0 to 1, clipped; 0 where it is not valid.

    Args:
        film: any shape, bones bright, any scale.
        valid: same shape, 0 or 1.
    """
    inside = film[valid > 0].float()
    if inside.numel() < 2:
        return torch.zeros_like(film)
    sample = inside.numpy()[:: max(inside.numel() // 20000, 1)]
    low, high = (float(np.percentile(sample, share)) for share in PERCENTILES)
    return ((film - low) / max(high - low, 1e-6)).clamp(0, 1) * valid


class RandInvertd(RandomizableTransform, MapTransform):
    """Both films with bones dark, as MONOCHROME1 taken for MONOCHROME2 shows them.

    Args:
        keys: normalised windows, each with its ``<key>_valid``.
        prob: of it.
    """

    def __init__(self, keys: KeysCollection = VIEWS, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """All keys or none."""
        item = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.keys:
                item[key] = (1 - data[key]) * data[f"{key}_valid"]
        return item


class NetworkInputd(Transform):
    """``image`` (2, 4, H, W) from normalised windows; see `view_input`."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Adds ``image``."""
        views = [view_input(torch.as_tensor(data[n]), data[f"{n}_valid"], i == 0) for i, n in enumerate(VIEWS)]
        return {**data, "image": torch.stack(views)}


def view_input(film: torch.Tensor, valid: torch.Tensor, frontal: bool) -> torch.Tensor:
    """The network's four channels of a view, from (..., 1, H, W) each; see `network.SpineLocalizer`."""
    film, valid = film.float() * valid, valid.float()
    return torch.cat([film, local_contrast(film, valid), (-1.0 if frontal else 1.0) * valid, valid], -3)


def local_contrast(film: torch.Tensor, valid: torch.Tensor, sigma_px: float = LOCAL_PX) -> torch.Tensor:
    """How far each pixel is from the mean around it, in units of the spread around it, -1 to 1 for three of them.

    Between chest and belly a film spans far more than an endplate's edge does.

    Args:
        film: (1, H, W) normalised, 0 where it is not valid.
        valid: likewise, 0 or 1.
        sigma_px: of what is around it.
    """
    weight = blur(valid, sigma_px).clamp(min=1e-3)
    mean = blur(film, sigma_px) / weight
    spread = (blur(film**2, sigma_px) / weight - mean**2).clamp(min=0).sqrt() + LEAST_SPREAD
    return ((film - mean) / (3 * spread)).clamp(-1, 1) * valid


def pad_to_network(film: torch.Tensor) -> torch.Tensor:
    """(..., H, W) with zeros below and at the right up to what the network's stages need."""
    return F.pad(film, (0, -film.shape[-1] % COARSEST, 0, -film.shape[-2] % COARSEST))


class LocalizationTargetsd(Transform):
    """What the network should say, and nothing else but ``image``.

    ``heat`` and ``counts`` (2, 1, H, W): the centroids as Gaussians, and where the map is judged. ``cell`` (2, M, 2):
    the map's cell of each centroid, -1 where there is none. ``where`` (2, M, 14): exact cell, corners and neighbours
    as `network.HEADS` has them, NaN where unknown. ``which`` (2, M, 3): level, region, end; -1 where unknown.
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Targets of an item."""
        levels, complete = data["levels"], bool(data["complete"])
        which = np.stack([levels, [region_index(i) for i in levels], ends_of(levels, complete)], 1)
        parts = [_view_targets(data[f"{n}_points"], which, data[f"{n}_valid"][0], complete) for n in VIEWS]
        keys = ("heat", "counts", "cell", "where", "which")
        return {"image": data["image"], **{k: torch.stack([p[k] for p in parts]) for k in keys}}


def region_index(level: int) -> int:
    """Place in `network.REGION_NAMES` of a place in the level table."""
    return 3 if level == S1_INDEX else int(level >= FIRST_THORACIC) + int(level >= FIRST_LUMBAR)


def ends_of(levels: np.ndarray, complete: bool) -> np.ndarray:
    """Places in `network.END_NAMES` of the vertebrae of a spine, head to foot; -1 where it cannot be known."""
    ends: np.ndarray = np.zeros(len(levels), np.int64)
    for i, level in enumerate(levels):
        here = region_index(int(level))
        below = region_index(int(levels[i + 1])) if i + 1 < len(levels) else None
        if level in (0, FIRST_THORACIC, FIRST_LUMBAR):
            ends[i] = END_NAMES.index(("first cervical", "first thoracic", "first lumbar")[here])
        elif below is not None and below != here:
            ends[i] = END_NAMES.index(("last cervical", "last thoracic", "last lumbar")[here])
        elif (below is None and here == 2) or (below is None and not complete):
            ends[i] = -1
    return ends


def _view_targets(
    points: np.ndarray, which: np.ndarray, valid: torch.Tensor, complete: bool
) -> dict[str, torch.Tensor]:
    shape = tuple(n // STRIDE for n in valid.shape)
    # Pixel r is shown by cell (r - (STRIDE - 1) / 2) / STRIDE.
    cells = (points - (STRIDE - 1) / 2) / STRIDE
    exact = cells[:, 0]
    nearest = np.rint(exact).astype(int)
    place = np.clip(np.rint(points[:, 0]).astype(int), 0, np.array(valid.shape) - 1)
    inside = np.all((nearest >= 0) & (nearest < shape), 1) & (valid.numpy()[place[:, 0], place[:, 1]] > 0)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    heat = np.zeros(shape, np.float32)
    counts = np.ones(shape, np.float32)
    for top, bottom, left, right in unknown_boxes(exact, which[:, 0], complete):
        counts[(rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)] = 0
    cell: np.ndarray = np.full((MAX_MARKS, 2), -1, np.int64)
    where: np.ndarray = np.full((MAX_MARKS, 14), np.nan, np.float32)
    what: np.ndarray = np.full((MAX_MARKS, 3), -1, np.int64)
    steps = np.linalg.norm(np.diff(exact, axis=0), axis=1) if len(exact) > 1 else np.array([8.0])
    for slot, i in enumerate(np.flatnonzero(inside)[:MAX_MARKS]):
        pitch = min(steps[max(i - 1, 0) : i + 1], default=8.0) if len(steps) else 8.0
        sigma = float(np.clip(0.11 * pitch, 0.8, 1.6))
        squared = (rows - exact[i, 0]) ** 2 + (columns - exact[i, 1]) ** 2
        heat = np.maximum(heat, np.exp(-squared / (2 * sigma**2)))
        heat[nearest[i, 0], nearest[i, 1]] = 1.0
        cell[slot], what[slot] = nearest[i], which[i]
        where[slot, :2] = exact[i]
        where[slot, 2:10] = (points[i, 1:] - points[i, 0]).ravel() / UNIT_PX
        for side, other in enumerate((i - 1, i + 1)):
            if 0 <= other < len(points):
                where[slot, 10 + 2 * side : 12 + 2 * side] = (points[other, 0] - points[i, 0]) / UNIT_PX
    return {
        "heat": torch.from_numpy(heat.astype(np.float32))[None],
        "counts": torch.from_numpy(counts)[None],
        "cell": torch.from_numpy(cell),
        "where": torch.from_numpy(where),
        "which": torch.from_numpy(what),
    }
