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

from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR
from scripts.levels import LEVEL_NUMBERS, LEVEL_ORDER, level_name
from scripts.measure.credible import DEPTH, HEIGHTS, ROTATION, TILT, WEDGE, WIDTH, withheld_reasons
from scripts.measure.midline import CONTRADICTION_DEG, midline_bend
from scripts.measure.pose import Endplate, VertebraPose, spine_directions

FRONTAL, SAGITTAL = 0, 1
# A curve below this is no curve: an endplate's tilt is not known to a degree.
MIN_CURVE_DEG = 5.0


@dataclass(frozen=True)
class Angle:
    """An angle and its standard deviation, degrees."""

    degrees: float
    sd: float

    def minus(self, other: Angle) -> Angle:
        """Difference of two independent angles."""
        return Angle(self.degrees - other.degrees, float(np.hypot(self.sd, other.sd)))


@dataclass(frozen=True)
class Curve:
    """A curve in the frontal plane.

    Args:
        cobb: between the upper endplate of the upper end vertebra and the lower one of the lower end vertebra; not
            negative.
        upper: VerSe number of the upper end vertebra.
        lower: of the lower one.
        apex: of the vertebra farthest from the line between both.
        convex_to: ``left`` or ``right`` of the patient.
    """

    cobb: Angle
    upper: int
    lower: int
    apex: int
    convex_to: str


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
    """

    vertebrae: tuple[VertebraMeasures, ...]
    curves: tuple[Curve, ...]
    kyphosis: Angle | None
    lordosis: Angle | None
    discs: tuple[tuple[int, int, tuple[Angle, Angle]], ...]
    midline: tuple[Angle, int, int] | None = None

    @property
    def contradiction(self) -> str:
        """What to say if endplates and the line through the bodies disagree about the largest curve; else nothing."""
        largest = self.curves[0].cobb.degrees if self.curves else 0.0
        if self.midline is None or self.midline[0].degrees - largest < CONTRADICTION_DEG:
            return ""
        angle, upper, lower = self.midline
        seen = f"{largest:.0f}°" if self.curves else "no curve"
        return (
            f"the line through the bodies bends by {angle.degrees:.0f}° ({level_name(upper)}-{level_name(lower)}), the "
            f"reconstructed endplates show {seen}: vertebrae were reconstructed too upright; do not use their angles"
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
    heights = {
        pose.level: pose.heights_mm
        for pose in ordered
        if pose.heights_mm is not None and HEIGHTS not in withheld[pose.level]
    }
    vertebrae = tuple(_vertebra(pose, heights, withheld[pose.level]) for pose in ordered)
    usable = [pose for pose in ordered if TILT not in withheld[pose.level]]
    known = {pose.level: pose for pose in usable}
    kyphosis = sagittal_angle(known, "T4", "T12")
    lordosis = sagittal_angle(known, "L1", "L5")
    discs = []
    for upper, lower in pairwise(usable):
        if lower.upper is not None and _neighbours(upper.level, lower.level):
            frontal = tilt(lower.upper, FRONTAL).minus(tilt(upper.lower, FRONTAL))
            sagittal = tilt(lower.upper, SAGITTAL).minus(tilt(upper.lower, SAGITTAL))
            discs.append((upper.level, lower.level, (frontal, sagittal)))
    return SpineMeasures(
        vertebrae,
        cobb_curves(usable),
        kyphosis,
        None if lordosis is None else Angle(-lordosis.degrees, lordosis.sd),
        tuple(discs),
        _midline(ordered),
    )


def _midline(ordered: list[VertebraPose]) -> tuple[Angle, int, int] | None:
    bend = midline_bend(np.array([pose.origin_mm for pose in ordered]))
    if bend is None:
        return None
    return Angle(bend.degrees, bend.sd), ordered[bend.upper].level, ordered[bend.lower].level


def tilt(plate: Endplate, plane: int) -> Angle:
    """How an endplate leans in the patient's frontal or sagittal plane."""
    sideways = LEFT if plane == FRONTAL else -POSTERIOR
    up = float(plate.normal @ -INFERIOR)
    return Angle(float(np.degrees(np.arctan2(plate.normal @ sideways, up))), plate.sd_deg[plane])


def axial_rotation(pose: VertebraPose) -> Angle:
    """How far the front is turned to the patient's left, seen along the patient's long axis."""
    forwards = pose.axes[0]
    angle = np.degrees(np.arctan2(forwards @ LEFT, forwards @ -POSTERIOR))
    return Angle(float(angle), pose.axial_sd_deg)


def sagittal_angle(poses: dict[int, VertebraPose], first: str, last: str) -> Angle | None:
    """From the upper endplate of one level to the lower one of another; + is kyphosis. None if one is missing."""
    upper, lower = poses.get(LEVEL_NUMBERS[first]), poses.get(LEVEL_NUMBERS[last])
    if upper is None or upper.upper is None or lower is None:
        return None
    return tilt(upper.upper, SAGITTAL).minus(tilt(lower.lower, SAGITTAL))


def cobb_curves(ordered: list[VertebraPose]) -> tuple[Curve, ...]:
    """Curves in the frontal plane: the largest angle between any two endplates, then those above and below it.

    End vertebrae are the most tilted ones, as in the usual definition: the pair of an upper endplate and a lower one
    further down whose tilts differ most. Curves above and below share the end vertebrae of the one beside them and turn
    the other way.

    Args:
        ordered: head to foot.
    """
    usable = [pose for pose in ordered if pose.upper is not None]
    if len(usable) < 3:
        return ()
    major = _largest(usable, 0)
    if major is None:
        return ()
    curves = [major]
    # Upwards and downwards from the major curve; each next one turns the other way.
    for step in (-1, 1):
        here = major
        while True:
            ends = [pose.level for pose in usable]
            part = usable[: ends.index(here.upper) + 1] if step < 0 else usable[ends.index(here.lower) :]
            found = _largest(part, -1 if here.convex_to == "left" else 1)
            if found is None:
                break
            curves.append(found)
            here = found
    return tuple(sorted(curves, key=lambda curve: -curve.cobb.degrees))


def _largest(poses: list[VertebraPose], side: int) -> Curve | None:
    """The largest curve; side 1: convex to the left only, -1: to the right only, 0: either."""
    best: tuple[float, int, int] | None = None
    upper = [tilt(pose.upper, FRONTAL) for pose in poses if pose.upper is not None]
    lower = [tilt(pose.lower, FRONTAL) for pose in poses]
    for i in range(len(poses)):
        for j in range(i + 2, len(poses)):
            # Convex to the left: the upper end leans to the right, the lower one to the left.
            difference = lower[j].degrees - upper[i].degrees
            size = abs(difference) if side == 0 else difference * side
            if size >= MIN_CURVE_DEG and (best is None or size > best[0]):
                best = (size, i, j)
    if best is None:
        return None
    size, i, j = best
    bend = lower[j].minus(upper[i])
    sideways = np.array([pose.origin_mm @ LEFT for pose in poses[i : j + 1]])
    height = np.array([pose.origin_mm @ INFERIOR for pose in poses[i : j + 1]])
    chord = np.interp(height, height[[0, -1]], sideways[[0, -1]])
    away = (sideways - chord) * np.sign(bend.degrees)
    apex = i + 1 + int(away[1:-1].argmax())
    return Curve(
        Angle(abs(bend.degrees), bend.sd),
        poses[i].level,
        poses[j].level,
        poses[apex].level,
        "left" if bend.degrees > 0 else "right",
    )


def _vertebra(
    pose: VertebraPose, heights: dict[int, tuple[float, float, float]], withheld: dict[str, str]
) -> VertebraMeasures:
    plates = [plate for plate in (pose.upper, pose.lower) if plate is not None]
    tilts, wedges = [], []
    for plane in (FRONTAL, SAGITTAL):
        both = [tilt(plate, plane) for plate in plates]
        sd = float(np.linalg.norm([angle.sd for angle in both])) / len(both)
        tilts.append(Angle(float(np.mean([angle.degrees for angle in both])), sd))
        wedges.append(both[0].minus(both[-1]))
    own = heights.get(pose.level)
    # The crush ratio asks both neighbours, or the one that is there.
    beside = [
        h[2] for number, h in heights.items() if _neighbours(number, pose.level) or _neighbours(pose.level, number)
    ]
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


def _neighbours(upper: int, lower: int) -> bool:
    """Whether one level can lie right above another; T13 and L6 and a missing T12 are allowed for."""
    names = (level_name(upper), level_name(lower))
    if names in (("T12", "L1"), ("T13", "L1"), ("T12", "T13"), ("T11", "L1")):
        return True
    return LEVEL_ORDER.index(lower) - LEVEL_ORDER.index(upper) == 1 and "T13" not in names
