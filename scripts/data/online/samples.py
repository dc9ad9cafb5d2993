"""Batches of fresh samples: what a generator is trained on, made from cases in memory on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from scripts.data.film_effects import FilmEffectOptions, expose
from scripts.data.normalisation import normalise_film
from scripts.data.online.case import OnlineCase, OnlineVertebra
from scripts.data.online.draws import (
    Deformation,
    MachineOptions,
    MarkOptions,
    PeopleDeformation,
    SampleDraws,
    draw_samples,
)
from scripts.data.online.numbers import sample_numbers
from scripts.data.online.render import (
    FIELD_HALF_MM,
    Field,
    Places,
    believed_poses,
    cube_lattice,
    film_lattice,
    gaussian_marks,
    line_integrals,
    sample_volume,
)
from scripts.data.volumes import AIR_HU
from scripts.geometry.cropping import CUBE_SIZE

# A vertebra of a patient.
Pick = tuple[OnlineCase, OnlineVertebra]
FIRST_THORACIC, FIRST_LUMBAR, LAST_LUMBAR = 8, 20, 25


@dataclass(frozen=True)
class SampleOptions:
    """How samples are made.

    Args:
        machines: that take the films.
        marks: how good they are.
        deformation: of the patients.
        effects: on the films.
        pixel_mm: of the films before they are brought to the patches' 1 mm.
        ray_mm: step along the rays.
        voxel_mm: of the label before it is brought to 1 mm.
        numbers: whether samples say how their mean shapes lie.
    """

    machines: MachineOptions = field(default_factory=MachineOptions)
    marks: MarkOptions = field(default_factory=MarkOptions)
    deformation: Deformation = field(default_factory=PeopleDeformation)
    effects: FilmEffectOptions = field(default_factory=FilmEffectOptions)
    pixel_mm: float = 2.0
    ray_mm: float = 2.0
    voxel_mm: float = 2.0
    numbers: bool = False


def make_samples(picks: Sequence[Pick], options: SampleOptions, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """One fresh sample of each picked vertebra.

    Args:
        picks: patients and vertebrae, on the generator's device.
        options: how they are made.
        generator: source of all randomness; the same state gives the same samples.

    Returns:
        ``image`` (B, 4, 120, 120) float32 as the generator network takes it, ``label`` (B, 1, 120, 120, 120) float32
        of 0 and 1, ``level`` (B,) VerSe numbers as they are given, 0 for unknown, ``tilt`` (B,) degrees (`Poses`),
        and, if asked for, ``numbers`` (B, 9) how the mean shape of the true level lies (`scripts.anatomy.placement`),
        NaN where unknown.
    """
    device = generator.device
    places = _places(picks, device)
    draws = draw_samples(len(picks), options.machines, options.marks, generator)
    warp = Field(places, draws, options.deformation, generator)
    poses = believed_poses(places, draws, warp)
    films = []
    for view in (0, 1):
        points, size = film_lattice(view, poses, draws, options.pixel_mm, options.ray_mm)
        source = warp.source(points)
        films.append([_film(pick, draws.scanned[i], source[i], size, options.ray_mm) for i, pick in enumerate(picks)])
    total, bone, film = (
        torch.stack([torch.stack([parts[which] for parts in view]) for view in films], 1) for which in range(3)
    )
    total, bone, film = _enlarged(total), _enlarged(bone), (_enlarged(film) > 0.5)
    points, size = cube_lattice(poses, options.voxel_mm)
    source = warp.source(points)
    label = torch.stack([_label(pick, source[i], size) for i, pick in enumerate(picks)])[:, None]
    if size[0] != CUBE_SIZE:
        label = F.interpolate(label, size=(CUBE_SIZE,) * 3, mode="trilinear", align_corners=False)
    integrals = (total, bone, film)
    ap, lat, on_ap, on_lat = expose(integrals, 1.0, options.effects, generator, _regions(places.levels))
    channels = [normalise_film(ap, on_ap), gaussian_marks(poses.marks[:, 0])]
    channels += [normalise_film(lat, on_lat), gaussian_marks(poses.marks[:, 1])]
    image = torch.stack(channels, 1)
    batch = {
        "image": image,
        "label": (label > 0.5).float(),
        "level": _stated_levels(places.levels, draws),
        "tilt": poses.tilt,
    }
    if options.numbers:
        batch["numbers"] = sample_numbers([vertebra for _, vertebra in picks], warp, poses)
    return batch


def _stated_levels(levels: torch.Tensor, draws: SampleDraws) -> torch.Tensor:
    """Levels with the marker's errors; supernumerary ones are never taken for others."""
    wrong = torch.where(levels < LAST_LUMBAR, (levels + draws.level_error).clamp(1, LAST_LUMBAR - 1), levels)
    return wrong * draws.level_known


def _regions(levels: torch.Tensor) -> torch.Tensor:
    """0 cervical, 1 thoracic, 2 lumbar, of VerSe numbers."""
    lumbar = (levels >= FIRST_LUMBAR) & (levels <= LAST_LUMBAR)
    return (levels >= FIRST_THORACIC).long() + lumbar.long()


def _places(picks: Sequence[Pick], device: torch.device) -> Places:
    axes, above, below = [], [], []
    for _, vertebra in picks:
        axes.append(vertebra.axes())
        above.append(np.zeros(3) if vertebra.above is None else vertebra.above)
        below.append(np.zeros(3) if vertebra.below is None else vertebra.below)
    levels = torch.tensor([vertebra.level for _, vertebra in picks], device=device)
    values = (torch.from_numpy(np.stack(rows)).float().to(device) for rows in (axes, above, below))
    return Places(levels, *values)


def _film(
    pick: Pick, scanned: torch.Tensor, source: torch.Tensor, size: tuple[int, int, int], ray_mm: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    case, vertebra = pick
    # Only the rows that the deformed box can reach are made floating-point numbers.
    reach = [[FIELD_HALF_MM[0]] * 2, *scanned.tolist()]
    box, origin = [], []
    for (below, above), middle, side in zip(reach, vertebra.centroid.tolist(), case.hu.shape, strict=True):
        first = int(max(middle - below / case.spacing_mm, 0))
        box.append(slice(first, int(min(middle + above / case.spacing_mm + 1, side))))
        origin.append(middle - first)
    volume = (case.hu[tuple(box)].float() - AIR_HU).clamp_(min=0.0)
    return line_integrals(volume, _index(source, case.spacing_mm, origin), size, ray_mm)


def _label(pick: Pick, source: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    case, vertebra = pick
    origin = [float(c - s) for c, s in zip(vertebra.centroid, vertebra.start, strict=True)]
    index = _index(source, case.spacing_mm, origin)
    return sample_volume(vertebra.share.float() / 255, index, size)


def _index(source: torch.Tensor, spacing_mm: float, origin: list[float]) -> torch.Tensor:
    index = source / spacing_mm
    for axis, value in enumerate(origin):
        index[..., axis] += value
    return index


def _enlarged(films: torch.Tensor) -> torch.Tensor:
    """Films of any pixel size as patches of 120 x 120."""
    if films.shape[-1] == CUBE_SIZE:
        return films
    return F.interpolate(films, size=(CUBE_SIZE, CUBE_SIZE), mode="bilinear", align_corners=False)
