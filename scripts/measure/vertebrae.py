"""What a spine surgeon measures of each vertebra, from its pose: tilt, turn, wedge and sizes of the body.

Signs: tilt, frontal + leans to the patient's left, sagittal + leans forwards; axial rotation, + turns the vertebra's
front to the patient's left; wedge, + where the body is lower in front (sagittal) or on the patient's left (frontal).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scripts.anatomy.absent import absent_level
from scripts.levels import LEVEL_ORDER, places_along_spine
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, axial_rotation, tilt
from scripts.measure.credible import DEPTH, HEIGHTS, ROTATION, TILT, WEDGE, WIDTH, withheld_reasons
from scripts.measure.pose import VertebraPose, spine_directions


@dataclass(frozen=True)
class VertebraMeasures:
    """Sizes and angles of one vertebra.

    Args:
        level: VerSe number.
        tilt: (frontal, sagittal) of the body, the mean of both endplates.
        axial_rotation: in the patient's transverse plane.
        wedge: (frontal, sagittal) angle between its own endplates; None for C2.
        heights_mm: in front, in the middle, behind; None for C2.
        width_mm: of the body.
        depth_mm: of the body.
        anterior_ratio: front height over back height (wedge deformity; Genant 1993, doi 10.1002/jbmr.5650080915).
        middle_ratio: middle over back height (biconcave).
        posterior_ratio: back height over the mean of the neighbours' (crush); None without neighbours.
        withheld: what cannot be true and is None therefore, name -> reason; see `scripts.measure.credible`.
    """

    level: int
    tilt: tuple[Angle, Angle] | None
    axial_rotation: Angle | None
    wedge: tuple[Angle, Angle] | None
    heights_mm: tuple[float, float, float] | None
    width_mm: float | None
    depth_mm: float | None
    anterior_ratio: float | None
    middle_ratio: float | None
    posterior_ratio: float | None
    withheld: dict[str, str] = field(default_factory=dict)


def measure_vertebrae(poses: list[VertebraPose]) -> tuple[VertebraMeasures, ...]:
    """Sizes and angles of each vertebra of a spine, head to foot.

    Args:
        poses: in any order and with gaps. What cannot be true is withheld.
    """
    ordered = head_to_foot(poses)
    directions = spine_directions(np.array([pose.origin_mm for pose in ordered]))
    withheld = [
        withheld_reasons(pose, axial_rotation(pose).degrees, down)
        for pose, down in zip(ordered, directions, strict=True)
    ]
    places = places_of(ordered)
    heights = {
        place: pose.heights_mm
        for place, pose, reasons in zip(places, ordered, withheld, strict=True)
        if pose.heights_mm is not None and HEIGHTS not in reasons
    }
    return tuple(
        _vertebra(pose, place, heights, reasons) for pose, place, reasons in zip(ordered, places, withheld, strict=True)
    )


def head_to_foot(poses: list[VertebraPose]) -> list[VertebraPose]:
    """The poses of one spine in order."""
    return sorted(poses, key=lambda p: LEVEL_ORDER.index(p.level))


def places_of(ordered: list[VertebraPose]) -> list[int]:
    """How far down the spine each pose lies, in vertebrae; see `places_along_spine`.

    Args:
        ordered: head to foot.
    """
    levels = [pose.level for pose in ordered]
    return places_along_spine(levels, absent_level(levels, np.array([pose.origin_mm for pose in ordered])))


def _vertebra(
    pose: VertebraPose, place: int, heights: dict[int, tuple[float, float, float]], withheld: dict[str, str]
) -> VertebraMeasures:
    plates = [plate for plate in (pose.upper, pose.lower) if plate is not None]
    tilts, wedges = [], []
    for plane in (FRONTAL, SAGITTAL):
        both = [tilt(plate, plane) for plate in plates]
        sd = float(np.linalg.norm([angle.sd for angle in both])) / len(both)
        tilts.append(Angle(float(np.mean([angle.degrees for angle in both])), sd))
        wedges.append(both[0].minus(both[-1]))
    own = heights.get(place)
    # The crush ratio asks both neighbours, or the one that is there.
    beside = [heights[other][2] for other in (place - 1, place + 1) if other in heights]
    return VertebraMeasures(
        level=pose.level,
        tilt=None if TILT in withheld else (tilts[0], tilts[1]),
        axial_rotation=None if ROTATION in withheld else axial_rotation(pose),
        wedge=None if pose.upper is None or WEDGE in withheld else (wedges[0], wedges[1]),
        heights_mm=own,
        width_mm=None if WIDTH in withheld else pose.width_mm,
        depth_mm=None if DEPTH in withheld else pose.depth_mm,
        anterior_ratio=own[0] / own[2] if own else None,
        middle_ratio=own[1] / own[2] if own else None,
        posterior_ratio=own[2] / float(np.mean(beside)) if own and beside else None,
        withheld=withheld,
    )
