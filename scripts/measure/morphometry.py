"""What a spine surgeon measures, from vertebra poses: angles as on films, and sizes of bodies.

Angles are those between endplates, projected on the patient's frontal or sagittal plane, as if drawn on a film; the
pair's own geometry (source, magnification) plays no role. Signs:

* tilt: frontal + leans to the patient's left, sagittal + leans forwards;
* kyphosis is positive in ``kyphosis``, lordosis in ``lordosis``; a wedge is positive where the front is lower, a disc
  where it opens to the front;
* axial rotation: + turns the vertebra's front to the patient's left.

Every angle comes with a standard deviation, from the planes' own (see `scripts.measure.pose`): how far endplates
deviate from planes, and how far the angle changes between the surfaces at probabilities 0.35 and 0.65. How well that
describes true errors is measured in ``docs/measurements.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from scripts.anatomy.absent import absent_level
from scripts.levels import LEVEL_ORDER, level_name, places_along_spine
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, axial_rotation, tilt
from scripts.measure.credible import DEPTH, HEIGHTS, ROTATION, TILT, WEDGE, WIDTH, withheld_reasons
from scripts.measure.curves import KYPHOSIS, LORDOSIS, TOO_FEW, Curve, cobb_curves, sagittal_angle, why_no_curve
from scripts.measure.midline import CONTRADICTION_DEG, midline_bend
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


@dataclass(frozen=True)
class SpineMeasures:
    """All that is measured.

    Args:
        vertebrae: head to foot.
        curves: in the frontal plane, largest first.
        kyphosis: T4 to T12; None if one of them is missing.
        lordosis: L1 to L5; likewise.
        discs: (upper level, lower level, (frontal, sagittal) angle) of neighbours.
        midline: largest bend of the line through the bodies, between two levels; None for few bodies.
        no_curve: what to say where there are no ``curves``; else empty.
    """

    vertebrae: tuple[VertebraMeasures, ...]
    curves: tuple[Curve, ...]
    kyphosis: Angle | None
    lordosis: Angle | None
    discs: tuple[tuple[int, int, tuple[Angle, Angle]], ...]
    midline: tuple[Angle, int, int] | None = None
    no_curve: str = ""

    @property
    def contradiction(self) -> str:
        """What to say if endplates and the line through the bodies disagree about the largest curve; else nothing."""
        largest = self.curves[0].cobb.degrees if self.curves else 0.0
        if self.midline is None or self.midline[0].degrees - largest < CONTRADICTION_DEG:
            return ""
        angle, upper, lower = self.midline
        bends = f"the line through the bodies bends by {angle.degrees:.0f}° ({level_name(upper)}-{level_name(lower)})"
        if self.no_curve == TOO_FEW:
            return f"{bends}, but too few endplates can be measured for a Cobb angle"
        seen = f"{largest:.0f}°" if self.curves else "no curve"
        return (
            f"{bends}, the reconstructed endplates show {seen}: vertebrae were reconstructed too upright; do not use "
            "their angles"
        )


def measure_spine(poses: list[VertebraPose]) -> SpineMeasures:
    """All measures of the poses of one spine, in any order and with gaps.

    What cannot be true is withheld, and takes no part in any other measure.
    """
    ordered = sorted(poses, key=lambda p: LEVEL_ORDER.index(p.level))
    directions = spine_directions(np.array([pose.origin_mm for pose in ordered]))
    withheld = {
        pose.level: withheld_reasons(pose, axial_rotation(pose).degrees, down)
        for pose, down in zip(ordered, directions, strict=True)
    }
    levels = [pose.level for pose in ordered]
    places = places_along_spine(levels, absent_level(levels, np.array([pose.origin_mm for pose in ordered])))
    heights = {
        place: pose.heights_mm
        for place, pose in zip(places, ordered, strict=True)
        if pose.heights_mm is not None and HEIGHTS not in withheld[pose.level]
    }
    vertebrae = tuple(
        _vertebra(pose, place, heights, withheld[pose.level]) for place, pose in zip(places, ordered, strict=True)
    )
    usable = [pose for pose in ordered if TILT not in withheld[pose.level]]
    known = {pose.level: pose for pose in usable}
    kyphosis = sagittal_angle(known, *KYPHOSIS)
    lordosis = sagittal_angle(known, *LORDOSIS)
    discs = []
    for (place, upper), (below, lower) in pairwise(zip(places, ordered, strict=True)):
        if below - place == 1 and upper.level in known and lower.level in known and lower.upper is not None:
            frontal = tilt(lower.upper, FRONTAL).minus(tilt(upper.lower, FRONTAL))
            sagittal = tilt(lower.upper, SAGITTAL).minus(tilt(upper.lower, SAGITTAL))
            discs.append((upper.level, lower.level, (frontal, sagittal)))
    curves = cobb_curves(usable)
    return SpineMeasures(
        vertebrae,
        curves,
        kyphosis,
        None if lordosis is None else Angle(-lordosis.degrees, lordosis.sd),
        tuple(discs),
        # Where nearly all endplates are withheld, the line is all that is left to say that there is a curve.
        _midline(usable) or _midline(ordered),
        "" if curves else why_no_curve(usable),
    )


def _midline(ordered: list[VertebraPose]) -> tuple[Angle, int, int] | None:
    bend = midline_bend(np.array([pose.origin_mm for pose in ordered]))
    if bend is None:
        return None
    return Angle(bend.degrees, bend.sd), ordered[bend.upper].level, ordered[bend.lower].level


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
