"""A real CT as the body around a simulated spine: its own spine is taken out and what is left follows the new one.

Each row of the simulated patient shows the donor's row of the same fractional vertebra level, shifted so that the two
spines coincide; ribs, diaphragm and pelvis therefore keep to their levels. ``donors/<name>.npz`` hold the bodies,
``donors/LICENSES.md`` says whose they are; ``python -m scripts.data.build_donor`` made them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from scripts.errors import UserError
from scripts.geometry.frames import Grid
from scripts.simulation.body import Body, grid_axes, level_ranks
from scripts.simulation.posture import Posture

DONORS_FOLDER = Path(__file__).with_name("donors")
HU_PER_CODE, CODE_OFFSET = 12.0, -1024.0
# What is skin against air, and how far a simulated body is stretched to be like a donor's.
SKIN_HU = -300.0
LARGEST_RATIOS = (0.6, 1.6)


@dataclass(frozen=True)
class Donor:
    """A body without its spine.

    Args:
        name: of the donor.
        hu: (I, P, L) float32.
        spacing_mm: isotropic voxel size.
        ranks: (N,) level ranks of its spine's centroids (C1 = 1 ... L5 = 24).
        centroids: (N, 3) their indices.
        licence: under which it may be passed on.
    """

    name: str
    hu: np.ndarray
    spacing_mm: float
    ranks: np.ndarray
    centroids: np.ndarray
    licence: str


def donor_names() -> list[str]:
    """Donors that come with the program."""
    return sorted(path.stem for path in DONORS_FOLDER.glob("*.npz"))


@cache
def load_donor(name: str) -> Donor:
    """A donor by name.

    Raises:
        UserError: no donor has that name.
    """
    path = DONORS_FOLDER / f"{name}.npz"
    if not path.is_file():
        raise UserError(f"no donor '{name}'; there are {', '.join(donor_names()) or 'none'}")
    with np.load(path) as stored:
        about = json.loads(str(stored["about"]))
        hu = stored["codes"].astype(np.float32) * HU_PER_CODE + CODE_OFFSET
    return Donor(
        name, hu, about["spacing_mm"], np.array(about["ranks"]), np.array(about["centroids"]), about["licence"]
    )


def draw_donor(names: Sequence[str], posture: Posture, rng: np.random.Generator) -> Donor | None:
    """A donor for a patient, drawn by how many of the patient's vertebrae it shows.

    Args:
        names: donors to draw from.
        posture: the patient's.
        rng: source of the draw.

    Returns:
        None if no donor shows any of them.

    Raises:
        UserError: a name that no donor has.
    """
    ranks = level_ranks(posture)
    donors = [load_donor(name) for name in names]
    shown = np.array([((ranks >= d.ranks[0]) & (ranks <= d.ranks[-1])).sum() for d in donors], float)
    return donors[rng.choice(len(donors), p=shown / shown.sum())] if shown.any() else None


def draw_size(donor: Donor, posture: Posture, rng: np.random.Generator) -> float:
    """How much larger the donor's body becomes: as much as the spine is longer, and a little at random."""
    ranks = level_ranks(posture)
    pitch = np.linalg.norm(np.diff(posture.centroids, axis=0), axis=1).sum() / max(float(np.ptp(ranks)), 1.0)
    own = np.linalg.norm(np.diff(donor.centroids, axis=0), axis=1).sum() * donor.spacing_mm / np.ptp(donor.ranks)
    return float(np.clip(pitch / own, 0.85, 1.15) * rng.uniform(0.92, 1.08))


def as_large_as(body: Body, donor: Donor, size: float) -> Body:
    """A body whose skin lies as far from the spine as the donor's, so that one goes over into the other.

    Args:
        body: the simulated one.
        donor: the real one.
        size: how much larger it becomes.
    """
    where = _where(donor, body)
    ratios = []
    for row in np.flatnonzero((body.rank >= donor.ranks[0]) & (body.rank <= donor.ranks[-1])):
        at = where[row]
        inside = donor.hu[int(np.clip(round(at[0]), 0, donor.hu.shape[0] - 1))] > SKIN_HU
        p, left = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if len(p) and len(left):
            extent = np.array([np.ptp(left) / 2, at[1] - p[0], p[-1] - at[1]]) * donor.spacing_mm * size
            ratios.append(extent / body.outline[row])
    if not ratios:
        return body
    ratio = np.clip(np.median(ratios, axis=0), *LARGEST_RATIOS)
    return replace(body, outline=body.outline * ratio, cage=np.minimum(body.cage, body.outline * ratio - 8.0).clip(5.0))


def add_donor(hu: np.ndarray, donor: Donor, size: float, body: Body, grid: Grid, rng: np.random.Generator) -> None:
    """Write a donor's body over a simulated one where the donor has that part of the body, in place.

    Args:
        hu: (I, P, L) float32 of the simulated body without its spine.
        donor: the real one.
        size: how much larger it becomes.
        body: the simulated body's.
        grid: of ``hu``.
        rng: decides whether the donor is mirrored.
    """
    where_spine = _where(donor, body)
    row_of, centre = where_spine[:, 0], where_spine[:, 1:]
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    share: np.ndarray = _share(row_of, donor.hu.shape[0], grid.spacing_mm, donor.spacing_mm)
    _, p, left = grid_axes(grid)
    shape = torch.tensor(donor.hu.shape, dtype=torch.float32)
    volume = torch.from_numpy(donor.hu)[None, None]
    for first in range(0, grid.shape[0], 16):
        rows = np.arange(first, min(first + 16, grid.shape[0]))
        rows = rows[share[rows] > 0]
        if len(rows) == 0:
            continue
        at_p = (p[None, :] - body.spine[rows, :1]) / (size * donor.spacing_mm) + centre[rows, :1]
        at_l = mirrored * (left[None, :] - body.spine[rows, 1:]) / (size * donor.spacing_mm) + centre[rows, 1:]
        where: np.ndarray = np.empty((len(rows), len(p), len(left), 3), np.float32)
        where[..., 0], where[..., 1] = row_of[rows, None, None], at_p[:, :, None]
        where[..., 2] = at_l[:, None, :]
        sample = ((2 * torch.from_numpy(where) + 1) / shape - 1).flip(-1)
        # Beyond the scanned field the outermost voxels go on: arms and flanks that a CT cuts off.
        drawn = F.grid_sample(volume, sample[None], align_corners=False, padding_mode="border")[0, 0].numpy()
        weight: np.ndarray = share[rows, None, None].astype(np.float32)
        hu[rows] = hu[rows] * (1 - weight) + drawn * weight


def _where(donor: Donor, body: Body) -> np.ndarray:
    """(I, 3) indices of the donor's spine at the levels of a body's rows, continued at both ends in its last steps."""
    index = donor.centroids
    up, down = index[0] - index[1], index[-1] - index[-2]
    up, down = np.array([up[0], 0, 0]), np.array([down[0], 0, 0])
    ranks = np.r_[donor.ranks[0] - 10, donor.ranks, donor.ranks[-1] + 10]
    points = np.concatenate([[index[0] + 10 * up], index, [index[-1] + 10 * down]])
    return np.stack([np.interp(body.rank, ranks, points[:, axis]) for axis in range(3)], 1)


def _share(row_of: np.ndarray, rows: int, spacing_mm: float, donor_spacing_mm: float) -> np.ndarray:
    """How much of each row the donor gives: 1 inside its field of view, falling to 0 at its ends over 50 mm."""
    fade = 50.0 / donor_spacing_mm
    inside = np.minimum(row_of - 1, rows - 2 - row_of)
    return np.clip(inside / fade, 0, 1) * (inside > 0)
