"""One simulated patient: a drawn spine in a field of view, painted as a CT."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scripts.errors import UserError
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.levels import in_order, level_name
from scripts.simulation.painting import Ingredients, paint_ct
from scripts.simulation.spine import Spine, SpineOptions, draw_levels, draw_spine, voxelise

ROOM_ABOVE_MM, ROOM_BELOW_MM = 45.0, 70.0


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
        seed: of everything.
    """

    spacing_mm: float
    whole_share: float = 0.25
    part_mm: tuple[float, float] = (190.0, 400.0)
    narrow_share: float = 0.3
    spine: SpineOptions = field(default_factory=SpineOptions)
    ingredients: Ingredients = field(default_factory=Ingredients)
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
        options: what is simulated: CT, field of view, spine, tissue, and the seed.

    Raises:
        UserError: the options leave no shape for a level.
    """
    if not 0.4 <= options.spacing_mm <= 4.0:
        raise UserError(f"--spacing-mm {options.spacing_mm:g}: choose 0.4 to 4 mm")
    rng = np.random.default_rng([options.seed, number])
    spine = draw_spine(draw_levels(options.spine, rng), options.spine, rng)
    grid = _field_of_view(spine, options, rng)
    voxels = voxelise(spine, grid)
    ct = paint_ct(spine.posture, voxels.distance, voxels.sacrum_distance, grid, options.ingredients, rng)
    where = dict(zip(spine.posture.levels, spine.posture.centroids @ IPL_AXES, strict=True))
    inside = {n: c for n, c in where.items() if np.all((i := grid.to_index(c)) > 0) and np.all(i < grid.shape)}
    # Like VerSe's annotators: of a vertebra whose body is not in the field of view nothing is labelled.
    labels = np.where(np.isin(voxels.labels, list(inside)), voxels.labels, 0).astype(np.uint8)
    present = in_order([int(n) for n in np.unique(labels) if n])
    used = [s for level, s in zip(spine.posture.levels, spine.shapes, strict=True) if level in present]
    borrowed = {ct.donor.licence} if ct.donor else set()
    s1 = spine.s1_body() @ IPL_AXES
    s1_inside = bool(np.all((i := grid.to_index(s1)) > 0) and np.all(i < grid.shape))
    truth = {
        "levels": [level_name(n) for n in present],
        "shapes": {level_name(n): s.shape.subject for n, s in zip(present, used, strict=True)},
        "licences": sorted({s.shape.licence for s in used} | {spine.sacrum.shape.licence} | borrowed),
        "fractures": {
            level_name(level): asdict(shape.fracture)
            for level, shape in zip(spine.posture.levels, spine.shapes, strict=True)
            if shape.fracture is not None and level in present
        },
        "cobb_deg": round(spine.posture.cobb_deg, 2),
        "donor": ct.donor.name if ct.donor else "",
        "screws": [level_name(n) for n in ct.screws if n in present],
        "overlap": round(voxels.overlap, 5),
        "s1_mm": [round(float(v), 2) for v in s1] if s1_inside else None,
    }
    return SimulatedPatient(ct.hu, labels, grid, {n: inside[n] for n in present}, truth)


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
