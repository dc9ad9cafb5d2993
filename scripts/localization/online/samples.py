"""Batches of fresh windows of whole films: what the annotation network is trained on, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from scripts.data.film_effects import FilmEffectOptions, expose
from scripts.data.normalisation import normalise_film
from scripts.localization.film_cases import PIXEL_MM
from scripts.localization.machines import MachineRange
from scripts.localization.network_input import view_input
from scripts.localization.online.deformation import BodyDeformation
from scripts.localization.online.field import FieldOptions, narrow_field
from scripts.localization.online.patient import FilmPatient
from scripts.localization.online.render import draw_films, render_views
from scripts.localization.online.spine_shift import SpineShiftOptions
from scripts.localization.online.targets import batch_targets, pack_marks
from scripts.localization.windows import WindowOptions


@dataclass(frozen=True)
class PlateOptions:
    """Even plates on normalised windows, as bright as can be: side marks, name plates, jewellery, shutters' corners.

    Args:
        prob: of a view to have any.
        count: how many at most.
        size_px: smallest and largest side.
    """

    prob: float = 0.25
    count: int = 3
    size_px: tuple[float, float] = (3.0, 16.0)


@dataclass(frozen=True)
class FilmSampleOptions:
    """How items are made.

    Args:
        fields: how much of the patients was scanned.
        machines: that take the films.
        deformation: of the patients.
        spine_shift: of the spine within the patient.
        windows: that are cut from the films.
        effects: on the films.
        plates: on the normalised windows.
        ray_mm: step along the rays.
    """

    fields: FieldOptions = field(default_factory=FieldOptions)
    machines: MachineRange = field(default_factory=MachineRange)
    deformation: BodyDeformation = field(default_factory=BodyDeformation)
    spine_shift: SpineShiftOptions = field(default_factory=SpineShiftOptions)
    windows: WindowOptions = field(default_factory=WindowOptions)
    effects: FilmEffectOptions = field(default_factory=FilmEffectOptions)
    plates: PlateOptions = field(default_factory=PlateOptions)
    ray_mm: float = 3.0


def make_film_samples(
    patients: Sequence[FilmPatient], options: FilmSampleOptions, seed: int, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """One fresh item of each patient.

    Args:
        patients: on the device.
        options: how items are made.
        seed: of all randomness; the same gives the same items on the same device.
        device: where to compute.

    Returns:
        ``image`` (B, 2, 4, H, W) and targets as of `batch_targets`.
    """
    device = torch.device(device)
    random = np.random.RandomState(seed % 2**32)
    patients = [narrow_field(p, options.fields, random) for p in patients]
    draws = [
        draw_films(p, options.machines, options.deformation, options.spine_shift, options.windows, random)
        for p in patients
    ]
    packed = pack_marks(
        [(draw.views[0].points, draw.views[1].points) for draw in draws],
        [p.levels for p in patients],
        [p.complete for p in patients],
    )
    points, which, unknown = (values.to(device, non_blocking=True) for values in packed)
    generator = torch.Generator(device).manual_seed(seed)
    shape = options.windows.shape
    mirrored = torch.tensor([[view.mirrored for view in draw.views] for draw in draws]).to(device, non_blocking=True)
    total, bone, film = (
        _flipped(part, mirrored) for part in render_views(draws, shape, PIXEL_MM, options.ray_mm, device)
    )
    # Shadows such as bowel gas lie in front of the spine, so they are added before a window is mirrored.
    ap, lat, on_ap, on_lat = expose((total, bone, film), PIXEL_MM, options.effects, generator)
    films, masks = (_flipped(torch.stack(pair, 1), mirrored) for pair in ((ap, lat), (on_ap, on_lat)))
    views = []
    for which_view, (shown, mask) in enumerate(zip(films.unbind(1), masks.unbind(1), strict=True)):
        normal = _with_plates(normalise_film(shown, mask), options.plates, generator)
        views.append(view_input(normal[:, None], mask[:, None].float(), which_view == 0))
    return {"image": torch.stack(views, 1), **batch_targets(points, which, unknown, masks)}


def _flipped(films: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Films (B, view, H, W) with their columns the other way round where (B, view) says so."""
    return torch.where(where[..., None, None], films.flip(-1), films)


def _with_plates(films: torch.Tensor, options: PlateOptions, generator: torch.Generator) -> torch.Tensor:
    """Films (B, H, W) with bright rectangles on some of them."""
    batch, device = len(films), films.device

    def uniform() -> torch.Tensor:
        return torch.rand(batch, 1, 1, generator=generator, device=device)

    rows, columns = (torch.arange(n, device=device) for n in films.shape[-2:])
    any_plate = uniform() < options.prob
    low, high = options.size_px
    for _ in range(options.count):
        height, width = (low + (high - low) * uniform() for _ in range(2))
        row, column = uniform() * films.shape[-2], uniform() * films.shape[-1]
        inside = ((rows[:, None] - row).abs() < height / 2) & ((columns - column).abs() < width / 2)
        films = torch.where(inside & any_plate & (uniform() < 0.6), 1.0, films)
    return films
