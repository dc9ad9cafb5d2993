"""What is drawn for a batch of samples: machine, errors of the marks, mirror image, deformation; on its device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from scripts.simulation.draw import VariationOptions, draw_displacement

# VerSe numbers (B,), points (N, 3) mm in the vertebra's own frame and a generator -> (B, N, 3) mm: where in the
# original each point comes from. The origin, the body's centroid, stays where it is.
Deformation = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]

# Of the distance over which the spine's turn fades in the body.
LARGEST_DRIFT = 0.4


@dataclass(frozen=True)
class MachineOptions:
    """Which machines take the films.

    Args:
        slot_share: of pairs taken by a slot scanner, whose rays diverge in each row only.
        cone_share: of pairs taken by an ordinary tube.
        distance_mm: smallest and largest distance from the source to the patient.
        height_mm: standard deviation of the vertebra's height above the central ray of a cone.
        aside_mm: standard deviation of its distance from the central ray along the rows of a view.
        error_deg: largest turn of each view by itself, unknown to the geometry.
        turn_deg: standard deviation of the patient's turn about the vertical axis against both views.
        twist_deg: of the spine's own turn in a body that stays as it is. Were everything turned together, a network
            would read the turn off the body's outline or the scanner's couch.
        turn_limit_deg: neither goes further.
        drift_mm: of the body's shift against the spine, to the back and to the left. Heart, aorta, ribs and skin lie
            differently about the spine in everyone, and tell little about a vertebra's place.
        core_mm: smallest and largest distance from the vertebra's middle line, centroid to spinous process, within
            which the spine turns and lies as a whole.
        fade_mm: smallest and largest distance from there to where only the body is left.
        narrow_share: of patients of whom little beside the spine was scanned, as in many CTs of spines; right and left
            and front and back are drawn apart.
        narrow_mm: least and most that was scanned on either side of the centroid, and half as much again to the back.
    """

    slot_share: float = 0.25
    cone_share: float = 0.35
    distance_mm: tuple[float, float] = (850.0, 1800.0)
    height_mm: float = 110.0
    aside_mm: float = 25.0
    error_deg: float = 3.0
    turn_deg: float = 5.0
    twist_deg: float = 8.0
    turn_limit_deg: float = 25.0
    drift_mm: tuple[float, float] = (4.0, 6.0)
    core_mm: tuple[float, float] = (28.0, 50.0)
    fade_mm: tuple[float, float] = (30.0, 80.0)
    narrow_share: float = 0.3
    narrow_mm: tuple[float, float] = (30.0, 80.0)


@dataclass(frozen=True)
class MarkOptions:
    """How far marks lie from the centroids that they mean.

    Args:
        sigma_mm: range from which the standard deviation of a sample's errors is drawn, along each axis of each view.
        limit_mm: no error is larger.
        upright_share: of vertebrae whose neighbours are not marked, so that the patches are cut upright.
        direction_deg: standard deviation of the error of the spine's direction.
        unknown_level_share: of vertebrae whose level is not given.
        wrong_level_share: of vertebrae whose level is said to be the next one's.
    """

    sigma_mm: tuple[float, float] = (0.3, 2.5)
    limit_mm: float = 15.0
    upright_share: float = 0.05
    direction_deg: float = 2.0
    unknown_level_share: float = 0.15
    wrong_level_share: float = 0.1


@dataclass(frozen=True)
class PeopleDeformation:
    """Deformations drawn from how people differ; everything around the vertebra moves along.

    Args:
        options: how far to go.
    """

    options: VariationOptions = field(default_factory=lambda: VariationOptions(0.8, 0.8, 0.8, 0.8))

    def __call__(self, levels: torch.Tensor, points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Points (..., 3) mm of the vertebra's own frame, displaced by a deformation drawn for each level."""
        return points + draw_displacement(levels, self.options, generator, points.device, points)


@dataclass(frozen=True)
class SampleDraws:
    """What was drawn for B samples; views are AP, LAT, axes of a view are rows, columns.

    Args:
        mirror: (B,) 1, or -1 where left and right are exchanged.
        turn: (B,) degrees by which the patient is turned about the vertical axis, the front towards the left.
        twist: (B,) degrees by which the spine is turned in the body, the front towards the left.
        drift: (B, 2) mm by which the body lies further to the back and to the left of the spine.
        reach: (B, 2) mm from the vertebra's middle line that turn as a whole, and from there to where nothing turns.
        scanned: (B, 2, 2) mm to the front and back, right and left of the centroid that the CT reaches at most.
        divergence: (B, view, axis) per mm: how much rays diverge per mm of depth, and from which side.
        central: (B, view, axis) mm from the central ray to the vertebra.
        misaligned: (B, view, axis) tangent of the turn that the geometry does not contain.
        mark_error: (B, view, axis) mm.
        direction_error: (B, 2) degrees, frontal and sagittal.
        upright: (B,) bool: no neighbours are marked.
        level_known: (B,) int64, 0 where the level is not given, else 1.
        level_error: (B,) int64, by how much it is wrong.
    """

    mirror: torch.Tensor
    turn: torch.Tensor
    twist: torch.Tensor
    drift: torch.Tensor
    reach: torch.Tensor
    scanned: torch.Tensor
    divergence: torch.Tensor
    central: torch.Tensor
    misaligned: torch.Tensor
    mark_error: torch.Tensor
    direction_error: torch.Tensor
    upright: torch.Tensor
    level_known: torch.Tensor
    level_error: torch.Tensor


def draw_samples(
    count: int, machines: MachineOptions, marks: MarkOptions, generator: torch.Generator, mirror: bool = True
) -> SampleDraws:
    """Everything but the deformation.

    Args:
        count: of samples.
        machines: that take the films.
        marks: how good they are.
        generator: source of randomness; its device is that of the result.
        mirror: whether half of the samples are mirror images.
    """
    device = generator.device

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator, device=device)

    chance = uniform(1, 1)
    cone = chance < machines.cone_share
    slot = ~cone & (chance < machines.cone_share + machines.slot_share)
    near, far = machines.distance_mm
    side = torch.where(uniform(2, 1) < 0.5, -1.0, 1.0)
    diverges = torch.cat([cone, cone | slot], dim=2)
    divergence = diverges * side / (near + (far - near) * uniform(2, 1))
    # One height for both views.
    height = machines.height_mm * normal(1, 1).clamp(-2.2, 2.2).expand(-1, 2, 1)
    central = torch.cat([height, machines.aside_mm * normal(2, 1)], dim=2)
    near, far = machines.narrow_mm
    scanned = (near + (far - near) * uniform(2, 2)) * torch.tensor([[1.0, 1.5], [1.0, 1.0]], device=device)
    scanned = torch.where(uniform(2, 1) < machines.narrow_share, scanned, torch.inf)
    low, high = marks.sigma_mm
    error = (low + (high - low) * uniform(1, 1)) * normal(2, 2)
    least, most = (torch.tensor(pair, device=device) for pair in zip(machines.core_mm, machines.fade_mm, strict=True))
    reach = least + (most - least) * uniform(2)
    # Not so far that the body folds.
    limit = LARGEST_DRIFT * reach[:, 1:]
    drift = (torch.tensor(machines.drift_mm, device=device) * normal(2)).clamp(-limit, limit)
    return SampleDraws(
        mirror=torch.where(uniform() < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=device),
        turn=(machines.turn_deg * normal()).clamp(-machines.turn_limit_deg, machines.turn_limit_deg),
        twist=(machines.twist_deg * normal()).clamp(-machines.turn_limit_deg, machines.turn_limit_deg),
        drift=drift,
        reach=reach,
        scanned=scanned,
        divergence=divergence,
        central=central,
        misaligned=torch.tan(torch.deg2rad((2 * uniform(2, 2) - 1) * machines.error_deg)),
        mark_error=error.clamp(-marks.limit_mm, marks.limit_mm),
        direction_error=marks.direction_deg * normal(2),
        upright=uniform() < marks.upright_share,
        level_known=(uniform() >= marks.unknown_level_share).long(),
        level_error=(uniform() < marks.wrong_level_share).long() * (2 * (uniform() < 0.5).long() - 1),
    )
