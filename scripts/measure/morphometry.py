"""What a spine surgeon measures of a spine, from vertebra poses: angles as on films.

Angles are those between endplates, projected on the patient's frontal or sagittal plane, as if drawn on a film; the
pair's own geometry (source, magnification) plays no role. Signs:

* kyphosis is positive in ``kyphosis``, lordosis in ``lordosis``;
* a disc is positive where it opens to the front (sagittal) or to the patient's left (frontal).

Every angle comes with a standard deviation, from the planes' own (see `scripts.measure.pose`): how far endplates
deviate from planes, and how far the angle changes between the surfaces at probabilities 0.35 and 0.65. How well that
describes true errors is measured in ``docs/measurements.md``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scripts.levels import level_name
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, tilt, whole_degrees
from scripts.measure.credible import TILT
from scripts.measure.curves import KYPHOSIS, LORDOSIS, TOO_FEW, Curve, cobb_curves, sagittal_angle, why_no_curve
from scripts.measure.midline import CONTRADICTION_DEG, midline_bend
from scripts.measure.pose import VertebraPose
from scripts.measure.vertebrae import VertebraMeasures, head_to_foot, measure_vertebrae, places_of


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
        plates_at_midline: degrees between the endplates at the ends of ``midline``; 0 if they are not known.
    """

    vertebrae: tuple[VertebraMeasures, ...]
    curves: tuple[Curve, ...]
    kyphosis: Angle | None
    lordosis: Angle | None
    discs: tuple[tuple[int, int, tuple[Angle, Angle]], ...]
    midline: tuple[Angle, int, int] | None = None
    no_curve: str = ""
    plates_at_midline: float = 0.0

    @property
    def contradiction(self) -> str:
        """What to say if endplates and the line through the bodies disagree about the largest curve; else nothing."""
        if self.midline is None:
            return ""
        largest = self.curves[0].cobb.degrees if self.curves else 0.0
        angle, upper, lower = self.midline
        ends = f"{level_name(upper)}-{level_name(lower)}"
        bends = f"the line through the bodies bends by {whole_degrees(angle.degrees)}° ({ends})"
        if largest - angle.degrees >= CONTRADICTION_DEG:
            curve = f"{whole_degrees(largest)}° ({level_name(self.curves[0].upper)}-{level_name(self.curves[0].lower)})"
            return f"the Cobb angle of {curve} rests on one or two vertebrae: {bends}; check its end vertebrae"
        # The line is smoother than the endplates and may take several curves for one.
        if angle.degrees - max(largest, self.plates_at_midline) < CONTRADICTION_DEG:
            return ""
        if self.no_curve == TOO_FEW:
            return f"{bends}, but too few endplates can be measured for a Cobb angle"
        seen = f"{whole_degrees(largest)}°" if self.curves else "no curve"
        return (
            f"{bends}, the reconstructed endplates show {seen}: vertebrae were reconstructed too upright; do not use "
            "their angles"
        )


def measure_spine(poses: list[VertebraPose], doubted: Collection[int] = ()) -> SpineMeasures:
    """All measures of one spine.

    Args:
        poses: in any order and with gaps.
        doubted: VerSe numbers of those that are not to be used. Like those whose endplates cannot be true they take no
            part in the measures of the spine.
    """
    ordered = head_to_foot(poses)
    vertebrae = measure_vertebrae(ordered)
    possible = [pose for pose, own in zip(ordered, vertebrae, strict=True) if TILT not in own.withheld]
    usable = [pose for pose in possible if pose.level not in doubted]
    known = {pose.level: pose for pose in usable}
    kyphosis = sagittal_angle(known, *KYPHOSIS)
    lordosis = sagittal_angle(known, *LORDOSIS)
    discs = []
    for (place, upper), (below, lower) in pairwise(zip(places_of(ordered), ordered, strict=True)):
        if below - place == 1 and upper.level in known and lower.level in known and lower.upper is not None:
            frontal = tilt(lower.upper, FRONTAL).minus(tilt(upper.lower, FRONTAL))
            sagittal = tilt(lower.upper, SAGITTAL).minus(tilt(upper.lower, SAGITTAL))
            discs.append((upper.level, lower.level, (frontal, sagittal)))
    curves = cobb_curves(usable)
    # Where nearly all endplates are withheld, the line is all that is left to say that there is a curve.
    midline = _midline(usable) or _midline(possible) or _midline(ordered)
    return SpineMeasures(
        vertebrae,
        curves,
        kyphosis,
        None if lordosis is None else Angle(-lordosis.degrees, lordosis.sd),
        tuple(discs),
        midline,
        "" if curves else why_no_curve(usable),
        _between_plates(known, midline),
    )


def _between_plates(known: dict[int, VertebraPose], midline: tuple[Angle, int, int] | None) -> float:
    """Size of the angle between the endplates at the ends of the line, 0 if they are not known."""
    upper, lower = (known.get(level) for level in midline[1:]) if midline else (None, None)
    if upper is None or upper.upper is None or lower is None:
        return 0.0
    return abs(tilt(lower.lower, FRONTAL).minus(tilt(upper.upper, FRONTAL)).degrees)


def _midline(ordered: list[VertebraPose]) -> tuple[Angle, int, int] | None:
    bend = midline_bend(np.array([pose.origin_mm for pose in ordered]))
    if bend is None:
        return None
    return Angle(bend.degrees, bend.sd), ordered[bend.upper].level, ordered[bend.lower].level
