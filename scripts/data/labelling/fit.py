"""Library shapes fitted to the bone of a CT from body marks: nine numbers each, the best averaged, then bent.

For each marked vertebra the library shapes of its level are moved, turned and stretched (Adam on nine numbers with
priors) until their inside holds as much evidence for bone and as little against it as it can; what a neighbour covers
counts against it. The shapes are averaged as signed distances with weights by their fit, and a smooth displacement
(`scripts.data.labelling.bend`) brings the average the rest of the way.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from scripts.data.labelling.bend import Baked, displaced, sampled
from scripts.data.labelling.evidence import BoneScale, EvidenceVolume, bone_scale
from scripts.data.labelling.placed import Frame, ShapeStack, frames_along, shape_distances, stacked_shapes
from scripts.data.labelling.volume import CtVolume
from scripts.errors import UserError
from scripts.levels import in_order, level_name

# Points further than this from every shape at its start take no part in fitting the nine numbers.
_REACH_MM = 7.0
_ROUNDS = 3
_SOFT_EDGE_MM = 1.5


@dataclass(frozen=True)
class FitOptions:
    """How shapes are fitted.

    Args:
        points_mm: distance of the points at which nine numbers are fitted.
        fine_mm: of those at which the displacement is.
        steps: of Adam for the nine numbers.
        bend_steps: of Adam for the displacement.
        move_mm: standard deviation of the mark's error.
        turn_deg: of the turn.
        stretch: of the logarithm of each stretch.
        bend_mm: of the displacement on CTs of 1 mm; a CT of 4 mm says less, and gets less.
        bend_spacing_mm: of its control points.
        prior: weight of all that against the evidence.
        sharpness: of the weights by fit.
        most_shapes: of a level that are tried.
        kept_shapes: how many of them are fitted to the end; the first round tries all.
    """

    points_mm: float = 4.0
    fine_mm: float = 2.0
    steps: int = 36
    bend_steps: int = 30
    move_mm: float = 3.0
    turn_deg: float = 8.0
    stretch: float = 0.10
    bend_mm: float = 2.0
    bend_spacing_mm: float = 12.0
    prior: float = 0.03
    sharpness: float = 10.0
    most_shapes: int = 8
    kept_shapes: int = 3


@dataclass(frozen=True)
class FittedVertebra:
    """A fitted vertebra.

    Args:
        level: VerSe number.
        frame: its own axes in the patient.
        distance: (I, P, L) float32 mm, negative inside, on points of ``spacing_mm`` of its own frame.
        low_mm: (3,) own place of the first of them.
        spacing_mm: their distance.
        centroid_mm: (3,) world, the body centroid of the shapes.
        agreement: mean evidence inside, -1 to 1.
        subjects: library subjects that count, with their weights.
    """

    level: int
    frame: Frame
    distance: np.ndarray
    low_mm: np.ndarray
    spacing_mm: float
    centroid_mm: np.ndarray
    agreement: float
    subjects: dict[str, float]


class _Vertebra:
    """What is known of one vertebra while it is fitted."""

    def __init__(self, number: int, frame: Frame, scale: BoneScale, stack: ShapeStack, size: float) -> None:
        self.number, self.frame, self.scale, self.stack = number, frame, scale, stack
        self.base = torch.full((3,), size)
        count = len(stack.shapes)
        self.numbers = torch.cat([torch.zeros(count, 6), self.base.repeat(count, 1)], 1)
        self.loss = torch.zeros(count)
        self.axes = torch.from_numpy(frame.axes.astype(np.float32))
        self.origin = torch.from_numpy(frame.origin_mm.astype(np.float32))

    def grid(self, spacing_mm: float) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Own points (N, 3) of a box around all shapes, and its size."""
        low, high = self.stack.extent_mm()
        grown = np.exp(float(self.base[0])) * 1.1
        axes = [
            np.arange(a, b + spacing_mm, spacing_mm) for a, b in zip(low * grown - 4, high * grown + 4, strict=True)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        size = points.shape
        return torch.from_numpy(points.reshape(-1, 3).astype(np.float32)), (size[0], size[1], size[2])

    def world(self, own: torch.Tensor) -> torch.Tensor:
        """Own points (N, 3) in the world."""
        return own @ self.axes + self.origin

    def own(self, world: torch.Tensor) -> torch.Tensor:
        """World points (N, 3) in its own frame."""
        return (world - self.origin) @ self.axes.T

    def best(self) -> tuple[ShapeStack, torch.Tensor]:
        """The shape that fits best and its numbers (1, 9)."""
        which = int(self.loss.argmin())
        return self.stack.subset([which]), self.numbers[which : which + 1].clone()

    def keep(self, count: int) -> None:
        """Go on with the best shapes only."""
        which = self.loss.argsort()[:count].tolist()
        self.stack, self.numbers, self.loss = self.stack.subset(which), self.numbers[which], self.loss[which]


def fit_spine(
    ct: CtVolume, centroids_mm: dict[int, np.ndarray], options: FitOptions, subjects: tuple[str, ...]
) -> list[FittedVertebra]:
    """Fit all marked vertebrae of a CT, from head to foot.

    Args:
        ct: on the canonical grid, 2 mm is enough.
        centroids_mm: VerSe number -> world.
        options: how shapes are fitted: points compared, steps, strength of the priors.
        subjects: of the library; leave out the person in the CT.

    Raises:
        UserError: fewer than two marks, or a level of which the library has no shape.
    """
    if len(centroids_mm) < 2:
        raise UserError("two marks at least are needed: a vertebra's direction is taken from its neighbours")
    evidence = EvidenceVolume(ct)
    vertebrae = _begin(ct, centroids_mm, options, subjects)
    points = [_near_points(v, options.points_mm) for v in vertebrae]
    unmarked = [_unmarked(i, vertebrae) for i in range(len(vertebrae))]
    for turn in range(_ROUNDS):
        rivals = [v.best() for v in vertebrae]
        for i, vertebra in enumerate(vertebrae):
            world = vertebra.world(points[i])
            seen = evidence.at(world, vertebra.scale)
            for j in _neighbours(i, len(vertebrae)):
                stack, numbers = rivals[j]
                seen = against(seen, shape_distances(stack, vertebrae[j].own(world), numbers)[0])
            for shift in unmarked[i]:
                seen = against(seen, shape_distances(rivals[i][0], points[i] - shift, rivals[i][1])[0])
            _fit_numbers(vertebra, points[i], seen, options, first=turn == 0)
            vertebra.keep(options.kept_shapes if turn else 2 * options.kept_shapes)
    return _bend_all(vertebrae, evidence, ct, options)


def against(seen: torch.Tensor, rival_mm: torch.Tensor) -> torch.Tensor:
    """Evidence (N,) turned against bone where a neighbour lies, given the distances (N,) to it."""
    covered = torch.sigmoid(-rival_mm)
    return seen * (1 - covered) - covered


def _neighbours(i: int, count: int) -> list[int]:
    return [j for j in (i - 1, i + 1) if 0 <= j < count]


def _unmarked(i: int, vertebrae: list[_Vertebra]) -> list[torch.Tensor]:
    """Where neighbours without a mark must be: shifts (3,) in own mm of the vertebra's own copies.

    Without them the first and the last vertebra drift onto the bone of the next one. Nothing is above C1.
    """
    shifts = []
    for end, beside, sign in ((0, 1, -1.0), (len(vertebrae) - 1, len(vertebrae) - 2, 1.0)):
        if i == end and not (sign < 0 and vertebrae[i].number == 1):
            pitch = float((vertebrae[i].origin - vertebrae[beside].origin).norm())
            shifts.append(torch.tensor([sign * pitch, 0.0, 0.0]))
    return shifts


def _begin(
    ct: CtVolume, centroids_mm: dict[int, np.ndarray], options: FitOptions, subjects: tuple[str, ...]
) -> list[_Vertebra]:
    frames = frames_along(centroids_mm)
    numbers = in_order(list(centroids_mm))
    stacks = {n: stacked_shapes(n, subjects, options.most_shapes) for n in numbers}
    missing = [level_name(n) for n in numbers if stacks[n] is None]
    if missing:
        raise UserError(f"the library has no shape of {', '.join(missing)}")
    ratios = []
    for upper, lower in itertools.pairwise(numbers):
        pitches = [s.pitch_mm for s in stacks[lower].shapes if s.pitch_mm > 0]  # type: ignore[union-attr]
        if pitches and lower - upper == 1 and upper > 2:
            ratios.append(np.log(np.linalg.norm(centroids_mm[lower] - centroids_mm[upper]) / np.median(pitches)))
    # The distance of the bodies says something about size, not all.
    size = 0.6 * float(np.clip(np.median(ratios), -0.3, 0.3)) if ratios else 0.0
    return [
        _Vertebra(n, frames[n], bone_scale(ct, centroids_mm[n]), stack, size)
        for n, stack in stacks.items()
        if stack is not None
    ]


def _near_points(vertebra: _Vertebra, spacing_mm: float) -> torch.Tensor:
    own, _ = vertebra.grid(spacing_mm)
    return own[shape_distances(vertebra.stack, own, vertebra.numbers).amin(0) < _REACH_MM]


def _fit_numbers(vertebra: _Vertebra, own: torch.Tensor, seen: torch.Tensor, options: FitOptions, first: bool) -> None:
    turn_sd = float(np.radians(options.turn_deg))
    spread = torch.tensor([options.move_mm] * 3 + [turn_sd] * 3 + [options.stretch] * 3)
    middle = torch.cat([torch.zeros(6), vertebra.base])
    rate = torch.tensor([0.6] * 3 + [0.03] * 3 + [0.02] * 3)
    # Divided by the shape's own volume at the start, so that growth alone does not raise the score.
    share = options.points_mm**3 / (vertebra.stack.volumes_mm3 * torch.exp(vertebra.base.sum()))
    unit = (vertebra.numbers / rate).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([unit], lr=1.0)
    steps = options.steps // _ROUNDS
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1.0 if first else 0.6 * (1 - step / steps) + 0.1
        optimiser.zero_grad()
        numbers = unit * rate
        inside = torch.sigmoid(-shape_distances(vertebra.stack, own, numbers) / _SOFT_EDGE_MM)
        departure = ((numbers - middle) / spread).square().sum(1)
        loss = options.prior * departure - (inside @ seen) * share
        loss.sum().backward()
        optimiser.step()
    vertebra.numbers, vertebra.loss = (unit * rate).detach(), loss.detach()


def _bake(vertebra: _Vertebra, options: FitOptions) -> tuple[Baked, torch.Tensor]:
    own, size = vertebra.grid(options.fine_mm)
    weights = torch.softmax(-options.sharpness * vertebra.loss, 0)
    with torch.no_grad():
        distance = weights @ shape_distances(vertebra.stack, own, vertebra.numbers)
    return Baked(own, size, distance, weights @ vertebra.numbers[:, :3]), weights


def _bend_all(
    vertebrae: list[_Vertebra], evidence: EvidenceVolume, ct: CtVolume, options: FitOptions
) -> list[FittedVertebra]:
    coarse_mm = float(np.prod(ct.voxel_mm) ** (1 / 3))
    spread_mm = options.bend_mm / max(coarse_mm, 1.0) ** 0.5
    baked, weights = zip(*[_bake(v, options) for v in vertebrae], strict=True)
    current = [b.distance for b in baked]
    fitted = []
    for i, vertebra in enumerate(vertebrae):
        world = vertebra.world(baked[i].own)
        with torch.no_grad():
            seen = evidence.at(world, vertebra.scale)
            for j in _neighbours(i, len(vertebrae)):
                seen = against(seen, sampled(baked[j], current[j], vertebrae[j].own(world)))
            for shift in _unmarked(i, vertebrae):
                seen = against(seen, sampled(baked[i], current[i], baked[i].own - shift))
        bent, centroid = displaced(
            baked[i], seen, spread_mm, options.bend_spacing_mm, options.bend_steps, options.prior
        )
        current[i] = bent
        inside = torch.sigmoid(-bent)
        subjects = {s.subject: round(float(w), 2) for s, w in zip(vertebra.stack.shapes, weights[i], strict=True)}
        fitted.append(
            FittedVertebra(
                level=vertebra.number,
                frame=vertebra.frame,
                distance=bent.reshape(baked[i].size).numpy(),
                low_mm=baked[i].own[0].numpy().astype(float),
                spacing_mm=options.fine_mm,
                centroid_mm=vertebra.frame.to_world(centroid.numpy().astype(float)),
                agreement=float((inside * seen).sum() / inside.sum()),
                subjects={s: w for s, w in subjects.items() if w > 0.02},
            )
        )
    return fitted
