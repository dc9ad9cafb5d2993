"""A simulated spine: which levels, whose shapes, where each vertebra stands, and its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage

from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.anatomy.shapes import SACRUM, SUBJECT_WEIGHTS, shape_subjects, shapes_of_level
from scripts.errors import UserError
from scripts.geometry.components import largest_part
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.leaning import turn
from scripts.levels import LEVEL_NUMBERS, level_name
from scripts.simulation.deformation import DeformationOptions, DeformedShape, deform, draw_person
from scripts.simulation.posture import Posture, PostureOptions, draw_posture

FAR_MM = 12.0
# Middles of the plate and of the body of S1 in the sacrum's own frame, read off the one sacrum of the library. Its
# origin is the plate's posterior edge.
PLATE_MM = (11.6, -11.2, 0.0)
S1_BODY_MM = (23.5, 1.0, 0.0)
# From the middle of the last lumbar body to that of the plate, where bodies are 36 mm apart, and how far behind the
# body's own axis that is (tangent): the sacrum's own subject.
PLATE_BELOW_LAST_MM, PLATE_BEHIND = 23.0, 0.25
# Half of what the last lumbar vertebra turns from here, the sacrum turns too. By itself it turns by this much (standard
# deviation). Its slope is then 41 +- 7 degrees; that of standing people is 41 +- 8.4 (Vialle 2005,
# doi:10.2106/JBJS.D.02043).
LAST_TANGENT_DEG, SACRUM_TURN_SD_DEG = 5.0, 5.0


@dataclass(frozen=True)
class SpineOptions:
    """What spines are made of.

    Args:
        t13_share: of spines that have a thirteenth thoracic vertebra.
        l6_share: of spines that have a sixth lumbar vertebra.
        t12_absent_share: of spines that have only eleven thoracic vertebrae.
        without: shape subjects not to use, such as those kept for testing.
        subject_weights: how often a shape subject is drawn against 1 of all that are not named here; 0 is never.
        posture: curves and sizes.
        deformation: of the shapes.
    """

    t13_share: float = 0.03
    l6_share: float = 0.04
    t12_absent_share: float = 0.01
    without: tuple[str, ...] = ()
    subject_weights: Mapping[str, float] = field(default_factory=lambda: dict(SUBJECT_WEIGHTS))
    posture: PostureOptions = field(default_factory=PostureOptions)
    deformation: DeformationOptions = field(default_factory=DeformationOptions)


@dataclass(frozen=True)
class Spine:
    """Vertebrae in the patient's frame.

    Args:
        posture: where they are.
        shapes: what each looks like, in the order of ``posture.levels``.
        sacrum: the sacrum's shape; it lies below the last vertebra and carries no label.
        sacrum_centre: (3,) mm along Inferior, Posterior, Left, of its own frame's origin.
        sacrum_frame: (3, 3), columns its axes.
    """

    posture: Posture
    shapes: tuple[DeformedShape, ...]
    sacrum: DeformedShape
    sacrum_centre: np.ndarray
    sacrum_frame: np.ndarray

    def s1_body(self) -> np.ndarray:
        """Middle of the body of S1, (3,) mm along Inferior, Posterior, Left."""
        return self.sacrum_centre + self.sacrum_frame @ _in_sacrum(S1_BODY_MM, self.sacrum)


@dataclass(frozen=True)
class SpineVoxels:
    """A spine on a grid.

    Args:
        labels: (I, P, L) uint8, VerSe numbers.
        distance: (I, P, L) float32 mm to the nearest vertebra's surface, negative inside, at most 12.
        sacrum_distance: (I, P, L) float32 mm to the sacrum's surface, negative inside, at most 12.
        overlap: share of all bone voxels that two vertebrae both claimed; the deeper one got them.
    """

    labels: np.ndarray
    distance: np.ndarray
    sacrum_distance: np.ndarray
    overlap: float


def draw_levels(options: SpineOptions, rng: np.random.Generator) -> tuple[int, ...]:
    """All levels of one spine, head to foot, anomalies included."""
    levels = list(range(1, 25))
    chance = rng.random()
    if chance < options.t13_share:
        levels.insert(levels.index(LEVEL_NUMBERS["L1"]), LEVEL_NUMBERS["T13"])
    elif chance < options.t13_share + options.t12_absent_share:
        levels.remove(LEVEL_NUMBERS["T12"])
    if rng.random() < options.l6_share:
        levels.append(LEVEL_NUMBERS["L6"])
    return tuple(levels)


def draw_spine(levels: tuple[int, ...], options: SpineOptions, rng: np.random.Generator) -> Spine:
    """A random spine.

    Args:
        levels: VerSe numbers, head to foot.
        options: what it is made of.
        rng: source of randomness.

    Raises:
        UserError: no subject in the library has one of the levels.
    """
    weights = {s: options.subject_weights.get(s, 1.0) for s in shape_subjects() if s not in options.without}
    weights = {subject: weight for subject, weight in weights.items() if weight > 0}
    for level in levels:
        if not shapes_of_level(level, tuple(weights)):
            raise UserError(f"no shape of {level_name(level)} among {', '.join(weights)}")
    posture = draw_posture(levels, options.posture, rng)
    mirrored = options.deformation.mirror and bool(rng.random() < 0.5)
    wanted = _relative_sizes(posture)
    deformation = replace(
        options.deformation, variation=replace(options.deformation.variation, without=tuple(sorted(options.without)))
    )
    # The sacrum goes with the rest.
    *person, of_sacrum = draw_person((*levels, SACRUM), deformation.variation, rng)
    order = draw_order(weights, rng)
    shapes = []
    for level, size, own in zip(levels, wanted, person, strict=True):
        first = next(found for subject in order if (found := shapes_of_level(level, (subject,))))
        shape = first[rng.integers(len(first))]
        shapes.append(deform(shape, size, mirrored, own, deformation, rng))
    posture = _collapse(posture, shapes)
    sacra = shapes_of_level(SACRUM, tuple(shape_subjects()))
    sacrum_size = float(np.mean(wanted[-3:]))
    sacrum = deform(sacra[0], sacrum_size, mirrored, of_sacrum, replace(deformation, fracture_share=0.0), rng)
    centre, frame = _place_sacrum(posture, sacrum, rng)
    return Spine(posture, tuple(shapes), sacrum, centre, frame)


def draw_order(weights: Mapping[str, float], rng: np.random.Generator) -> list[str]:
    """Whose vertebrae a person is made of: each level takes the first subject that has it.

    So neighbours come from one subject as far as it goes, and every level's shapes are still drawn by their weights
    (a Plackett-Luce order: among any of the subjects the first is drawn by weight).

    Args:
        weights: subject -> how often it is drawn, above 0.
        rng: source of randomness.
    """
    arrivals = rng.exponential(size=len(weights)) / np.array(list(weights.values()))
    return [list(weights)[i] for i in np.argsort(arrivals)]


def voxelise(spine: Spine, grid: Grid) -> SpineVoxels:
    """The spine's labelmap and distances on a canonical grid.

    Neighbours never overlap: a voxel that two claim goes to the one in which it lies deeper. Each vertebra keeps its
    largest component.
    """
    distance: np.ndarray = np.full(grid.shape, FAR_MM, np.float32)
    owner: np.ndarray = np.zeros(grid.shape, np.uint8)
    claims: np.ndarray = np.zeros(grid.shape, np.uint8)
    for level, shape, centre, frame in zip(
        spine.posture.levels, spine.shapes, spine.posture.centroids, spine.posture.frames(), strict=True
    ):
        box, own = _sample(shape, centre, frame, grid)
        if box is None:
            continue
        claims[box] += own < 0
        nearer = own < distance[box]
        owner[box][nearer] = level
        distance[box][nearer] = own[nearer]
    labels = np.where(distance < 0, owner, 0).astype(np.uint8)
    overlap = float((claims > 1).sum() / max((claims > 0).sum(), 1))
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            mask = labels[found] == number
            stray = mask & ~largest_part(mask)
            labels[found][stray] = 0
            distance[found][stray] = 0.1
    sacrum_distance: np.ndarray = np.full(grid.shape, FAR_MM, np.float32)
    box, own = _sample(spine.sacrum, spine.sacrum_centre, spine.sacrum_frame, grid)
    if box is not None:
        sacrum_distance[box] = np.where(labels[box] > 0, FAR_MM, np.minimum(own, FAR_MM))
    return SpineVoxels(labels, distance, sacrum_distance, overlap)


def _sample(
    shape: DeformedShape, centre: np.ndarray, frame: np.ndarray, grid: Grid
) -> tuple[tuple[slice, ...] | None, np.ndarray]:
    """A shape's distances in the part of the grid that it may reach."""
    low, high = shape.half_extent_mm()
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    index = grid.to_index((corners @ frame.T + centre) @ IPL_AXES)
    first = np.maximum(np.floor(index.min(0)).astype(int), 0)
    last = np.minimum(np.ceil(index.max(0)).astype(int) + 1, grid.shape)
    if np.any(last <= first):
        return None, np.empty(0)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    origin = IPL_AXES @ np.asarray(grid.origin_mm)
    axes = [torch.arange(s.start, s.stop) * grid.spacing_mm + o for s, o in zip(box, origin, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).float()
    local = (points - torch.as_tensor(centre).float()) @ torch.as_tensor(frame.copy()).float()
    return box, shape.signed_distance(local).numpy()


def _relative_sizes(posture: Posture) -> np.ndarray:
    """Each vertebra's wanted size relative to the average person: the mean of its drawn distances over theirs."""
    steps = np.linalg.norm(np.diff(posture.centroids, axis=0), axis=1)
    pairs = zip(posture.levels[:-1], posture.levels[1:], strict=True)
    ratios = steps / [pair_statistics()[measured_pair(a, b)]["distance_mm"] for a, b in pairs]
    own = (np.r_[ratios[:1], ratios] + np.r_[ratios, ratios[-1:]]) / 2
    # A tight pair must not make its vertebrae collide, nor a loose one blow them up.
    return np.minimum(own, np.minimum(np.r_[ratios[:1], ratios], np.r_[ratios, ratios[-1:]]) + 0.04)


def _collapse(posture: Posture, shapes: list[DeformedShape]) -> Posture:
    """Everything below a fractured vertebra moves up by what it lost."""
    steps = np.diff(posture.centroids, axis=0)
    body = 0.75  # of the distance between bodies; the rest is disc
    for i, shape in enumerate(shapes):
        if shape.fracture is not None:
            for j in (i - 1, i):
                if 0 <= j < len(steps):
                    steps[j] *= 1 - 0.5 * body * shape.fracture.pitch_loss
    centroids = np.concatenate([posture.centroids[:1], posture.centroids[0] + np.cumsum(steps, axis=0)])
    return replace(posture, centroids=centroids)


def _place_sacrum(posture: Posture, sacrum: DeformedShape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Origin and frame of a sacrum whose plate lies a disc below the last vertebra."""
    last, frame = posture.centroids[-1], posture.frames()[-1]
    along = np.degrees(np.arctan2(frame[1, 0], frame[0, 0]))
    own = SACRUM_TURN_SD_DEG * np.clip(rng.normal(), -2.5, 2.5)
    turned = np.eye(3)
    turned[:2, :2] = turn(0.5 * (along - LAST_TANGENT_DEG) + own)
    size = np.linalg.norm(posture.centroids[-1] - posture.centroids[-2]) / 36.0
    direction = frame[:, 0] + PLATE_BEHIND * frame[:, 1]
    plate = last + PLATE_BELOW_LAST_MM * size * direction / np.linalg.norm(direction)
    return plate - turned @ _in_sacrum(PLATE_MM, sacrum), turned


def _in_sacrum(point: tuple[float, float, float], sacrum: DeformedShape) -> np.ndarray:
    """Where a point (3,) of the undeformed sacrum lies in a deformed one, but for its bends."""
    linear = sacrum.linear.double().numpy()
    return np.linalg.solve(linear, np.asarray(point) * np.abs(sacrum.scale))
