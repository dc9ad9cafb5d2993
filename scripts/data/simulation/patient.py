"""One simulated patient: spine, body, bones and film-relevant extras painted as a CT."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scripts.data.simulation.bone import BoneOptions, paint_bone, smooth_noise
from scripts.data.simulation.donor import add_donor, donor_names, load_donor
from scripts.data.simulation.hardware import paint_screws
from scripts.data.simulation.skeleton import overlying_bones
from scripts.data.simulation.spine import Spine, SpineOptions, SpineVoxels, draw_levels, draw_spine, voxelise
from scripts.data.simulation.torso import AIR_HU, MUSCLE_HU, Body, build_body, paint_torso
from scripts.errors import UserError
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.levels import in_order, level_name

ROOM_ABOVE_MM, ROOM_BELOW_MM = 45.0, 70.0


@dataclass(frozen=True)
class Ingredients:
    """What is painted around and into the bones; each can be left out to measure what it brings.

    Args:
        body: outline, fat and muscle; else bones stand in a block of water.
        organs: lungs, heart, airway and bowel gas.
        skeleton: ribs, sternum, shoulders, pelvis, skull and the sacrum.
        donor_share: of patients whose body is a real CT's where that has it.
        hardware_share: of patients with pedicle screws and rods.
        noise_hu: standard deviation of the scanner's noise, smallest and largest.
        bone: how bone is painted.
    """

    body: bool = True
    organs: bool = True
    skeleton: bool = True
    donor_share: float = 0.5
    hardware_share: float = 0.05
    noise_hu: tuple[float, float] = (10.0, 40.0)
    bone: BoneOptions = field(default_factory=BoneOptions)


@dataclass(frozen=True)
class SimulationOptions:
    """What is simulated.

    Args:
        spacing_mm: voxel size of the CT.
        whole_share: of patients scanned from skull to pelvis; the others show a part.
        part_mm: smallest and largest height of a part.
        narrow_share: of patients whose field of view is narrower than the body.
        spine: what spines are made of.
        ingredients: what is painted.
        donors: real bodies to use, all that come with the program if empty.
        seed: of everything.
    """

    spacing_mm: float = 1.0
    whole_share: float = 0.25
    part_mm: tuple[float, float] = (190.0, 400.0)
    narrow_share: float = 0.3
    spine: SpineOptions = field(default_factory=SpineOptions)
    ingredients: Ingredients = field(default_factory=Ingredients)
    donors: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class SimulatedPatient:
    """A patient that never was.

    Args:
        hu: (I, P, L) int16.
        labels: (I, P, L) uint8, VerSe numbers.
        grid: of both.
        centroids: VerSe number -> body centroid in world mm, of those in the field of view; only they have labels.
        truth: what was drawn, as JSON values.
    """

    hu: np.ndarray
    labels: np.ndarray
    grid: Grid
    centroids: dict[int, np.ndarray]
    truth: dict[str, Any]


def simulate_patient(number: int, options: SimulationOptions) -> SimulatedPatient:
    """Patient ``number`` of a seed; the same two give the same patient.

    Args:
        number: which.
        options: see `SimulationOptions`.

    Raises:
        UserError: the options leave no shape for a level.
    """
    if not 0.4 <= options.spacing_mm <= 4.0:
        raise UserError(f"--spacing-mm {options.spacing_mm:g}: choose 0.4 to 4 mm")
    rng = np.random.default_rng([options.seed, number])
    spine = draw_spine(draw_levels(options.spine, rng), options.spine, rng)
    grid = _field_of_view(spine, options, rng)
    body = build_body(spine.posture, grid, rng)
    voxels = voxelise(spine, grid)
    hu, donor, screws = _paint(spine, voxels, body, grid, options, rng)
    where = dict(zip(spine.posture.levels, spine.posture.centroids @ IPL_AXES, strict=True))
    inside = {n: c for n, c in where.items() if np.all((i := grid.to_index(c)) > 0) and np.all(i < grid.shape)}
    # Like VerSe's annotators: of a vertebra whose body is not in the field of view nothing is labelled.
    labels = np.where(np.isin(voxels.labels, list(inside)), voxels.labels, 0).astype(np.uint8)
    present = in_order([int(n) for n in np.unique(labels) if n])
    used = [s for level, s in zip(spine.posture.levels, spine.shapes, strict=True) if level in present]
    truth = {
        "levels": [level_name(n) for n in present],
        "shapes": {level_name(n): s.shape.subject for n, s in zip(present, used, strict=True)},
        "licences": sorted({s.shape.licence for s in used} | {spine.sacrum.shape.licence} | donor[1]),
        "fractures": {
            level_name(level): asdict(shape.fracture)
            for level, shape in zip(spine.posture.levels, spine.shapes, strict=True)
            if shape.fracture is not None and level in present
        },
        "cobb_deg": round(spine.posture.cobb_deg, 2),
        "donor": donor[0],
        "screws": [level_name(n) for n in screws if n in present],
        "overlap": round(voxels.overlap, 5),
    }
    return SimulatedPatient(hu, labels, grid, {n: inside[n] for n in present}, truth)


def _field_of_view(spine: Spine, options: SimulationOptions, rng: np.random.Generator) -> Grid:
    centroids = spine.posture.centroids
    top, bottom = centroids[0, 0] - ROOM_ABOVE_MM, centroids[-1, 0] + ROOM_BELOW_MM
    if rng.random() >= options.whole_share:
        height = min(rng.uniform(*options.part_mm), bottom - top)
        # Parts that begin above the skull or end below the sacrum show its ends whole.
        start = rng.uniform(top - 0.15 * height, bottom - 0.85 * height)
        top, bottom = max(top, start), min(bottom, start + height)
    narrow = rng.random() < options.narrow_share
    half_width, front, back = 225.0, 185.0, 100.0
    if narrow:
        half_width, front, back = rng.uniform(45, 120), rng.uniform(50, 110), rng.uniform(75, 95)
    middle = centroids[(centroids[:, 0] > top) & (centroids[:, 0] < bottom)]
    middle = middle if len(middle) else centroids
    low = np.array([top, middle[:, 1].min() - front, middle[:, 2].mean() - half_width])
    high = np.array([bottom, middle[:, 1].max() + back, middle[:, 2].mean() + half_width])
    shape = np.ceil((high - low) / options.spacing_mm).astype(int)
    origin = low @ IPL_AXES
    return Grid(
        (float(origin[0]), float(origin[1]), float(origin[2])),
        (int(shape[0]), int(shape[1]), int(shape[2])),
        options.spacing_mm,
    )


def _block_of_water(grid: Grid) -> np.ndarray:
    """With air around it, as every CT has."""
    hu: np.ndarray = np.full(grid.shape, AIR_HU, np.float32)
    hu[2:-2, 4:-4, 4:-4] = MUSCLE_HU
    return hu


def _paint(
    spine: Spine,
    voxels: SpineVoxels,
    body: Body,
    grid: Grid,
    options: SimulationOptions,
    rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[str, set[str]], tuple[int, ...]]:
    use = options.ingredients
    names = list(options.donors) or donor_names()
    donor = None
    if use.body and names and rng.random() < use.donor_share:
        donor = load_donor(names[rng.integers(len(names))])
    hu = paint_torso(body, grid, rng, use.organs) if use.body else _block_of_water(grid)
    if use.skeleton:
        paint_bone(hu, overlying_bones(spine.posture, body, grid, rng), grid.spacing_mm, use.bone, rng)
    if donor is not None:
        add_donor(hu, donor, spine.posture, body, grid, rng)
    if use.skeleton:
        paint_bone(hu, voxels.sacrum_distance, grid.spacing_mm, use.bone, rng)
    if use.body:
        # Discs, ligaments and muscles lie against the vertebrae, whatever was drawn there before.
        close = (voxels.distance < 3.0) & (hu > -300)
        hu[close] = np.maximum(hu[close], 20.0)
    paint_bone(hu, voxels.distance, grid.spacing_mm, use.bone, rng)
    screws = paint_screws(hu, spine.posture, grid, rng) if rng.random() < use.hardware_share else ()
    noise = rng.uniform(*use.noise_hu)
    if noise > 0:
        hu += noise * smooth_noise(hu.shape, 0.6 / grid.spacing_mm, rng)
    # Steps of 4 HU are far below the noise and halve the file.
    stored = (4 * np.rint(np.clip(hu, -1024, 3071) / 4)).astype(np.int16)
    stored[hu < AIR_HU + 40] = -1000
    return stored, ((donor.name, {donor.licence}) if donor else ("", set())), screws
