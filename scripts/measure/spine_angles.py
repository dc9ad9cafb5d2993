"""The angles of the whole spine as they are shown and reported: between the program's end vertebrae or the user's.

The program chooses the Cobb angles' end vertebrae (`scripts.measure.curves`), and T4-T12 and L1-L5 in the sagittal
plane. A pair that the user chose stands in place of the program's curve to the same side with which it shares most of
the spine, so that the choice holds when marks move and the program would choose otherwise; where it shares nothing, it
is one more curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from scripts.io.annotations import EndVertebrae
from scripts.levels import in_order, level_name, places_along_spine, region
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, whole_degrees
from scripts.measure.curves import KYPHOSIS, LORDOSIS, Curve, cobb_curves, curve_between, sagittal_angle
from scripts.measure.pose import VertebraPose

PLANES = {"cobb": FRONTAL, "kyphosis": SAGITTAL, "lordosis": SAGITTAL}
NAMES = {"cobb": "Cobb", "kyphosis": "Kyphosis", "lordosis": "Lordosis"}
# Why there is no angle at a vertebra that there is not.
NOT_RECONSTRUCTED = "not reconstructed"
# The usual end vertebrae, and the region of which two vertebrae make the angle worth asking for.
_SAGITTAL = {"kyphosis": (KYPHOSIS, "thoracic"), "lordosis": (LORDOSIS, "lumbar")}


class ChosenBy(str, Enum):
    """Who chose the end vertebrae."""

    PROGRAM = "program"
    USER = "user"


@dataclass(frozen=True)
class SpineAngle:
    """One angle of the spine.

    Args:
        measure: ``cobb``, ``kyphosis`` or ``lordosis``.
        upper: VerSe number of the upper end vertebra, whose upper endplate is measured.
        lower: of the lower one, whose lower endplate is measured.
        chosen_by: who chose both.
        angle: kyphosis and lordosis are positive as such, a Cobb angle is never negative; None if not to be measured.
        missing: why it is None, else empty.
        curve: apex and side of a Cobb angle.
    """

    measure: str
    upper: int
    lower: int
    chosen_by: ChosenBy
    angle: Angle | None
    missing: str = ""
    curve: Curve | None = None

    @property
    def plane(self) -> int:
        """`FRONTAL` or `SAGITTAL`."""
        return PLANES[self.measure]

    @property
    def drawn(self) -> str:
        """What is written at its lines, as Cobb 34°."""
        return f"{NAMES[self.measure]} {whole_degrees(self.angle.degrees)}°" if self.angle else ""

    @property
    def ends(self) -> str:
        """Both end vertebrae, as T5-T11."""
        return f"{level_name(self.upper)}-{level_name(self.lower)}"


def spine_angles(
    poses: Mapping[int, VertebraPose], unusable: Mapping[int, str], chosen: Sequence[EndVertebrae] = ()
) -> tuple[SpineAngle, ...]:
    """Cobb angles, largest first, then kyphosis and lordosis.

    Args:
        poses: of vertebrae that may be used, by VerSe number.
        unusable: why others may not, likewise.
        chosen: end vertebrae that the user chose.
    """
    ordered = [poses[number] for number in in_order(list(poses))]
    program = [_of_curve(curve, ChosenBy.PROGRAM) for curve in cobb_curves(ordered)]
    found, replaced = [], []
    for ends in (ends for ends in chosen if ends.measure == "cobb"):
        own_curve = _between(poses, unusable, ends, ChosenBy.USER)
        alike = [curve for curve in program if _same_side(curve, own_curve)]
        nearest = max(alike, key=lambda curve: _shared(curve, ends), default=None)
        if nearest is not None and _shared(nearest, ends) > 0:
            replaced.append(nearest)
        found.append(own_curve)
    angles = sorted(
        [*found, *(curve for curve in program if curve not in replaced)],
        key=lambda a: -(a.angle.degrees if a.angle else 0.0),
    )
    for measure, (usual, where) in _SAGITTAL.items():
        own = [ends for ends in chosen if ends.measure == measure]
        for ends in own:
            angles.append(_between(poses, unusable, ends, ChosenBy.USER))
        if not own and sum(region(number) == where for number in {*poses, *unusable}) >= 2:
            angles.append(_between(poses, unusable, EndVertebrae(measure, *usual), ChosenBy.PROGRAM))
    return tuple(angles)


def _of_curve(curve: Curve, by: ChosenBy) -> SpineAngle:
    return SpineAngle("cobb", curve.upper, curve.lower, by, curve.cobb, curve=curve)


def _same_side(one: SpineAngle, other: SpineAngle) -> bool:
    """Whether two curves bend to one side, or nothing is known of the other."""
    return one.curve is None or other.curve is None or one.curve.convex_to == other.curve.convex_to


def _shared(curve: SpineAngle, ends: EndVertebrae) -> int:
    """How many steps from vertebra to vertebra two curves have in common; negative if they are apart."""
    a, b, c, d = places_along_spine([curve.upper, curve.lower, ends.upper, ends.lower])
    return min(b, d) - max(a, c)


def _between(
    poses: Mapping[int, VertebraPose], unusable: Mapping[int, str], ends: EndVertebrae, by: ChosenBy
) -> SpineAngle:
    """The angle between given end vertebrae, or why there is none."""
    missing = [
        f"{level_name(n)}: {unusable.get(n, NOT_RECONSTRUCTED)}" for n in (ends.upper, ends.lower) if n not in poses
    ]
    if ends.upper in poses and poses[ends.upper].upper is None:
        missing.append(f"{level_name(ends.upper)} has no upper endplate that could be measured")
    if missing:
        return SpineAngle(ends.measure, ends.upper, ends.lower, by, None, "; ".join(missing))
    if ends.measure == "cobb":
        numbers = in_order(list(poses))
        within = numbers[numbers.index(ends.upper) : numbers.index(ends.lower) + 1]
        return _of_curve(curve_between([poses[n] for n in within if poses[n].upper is not None]), by)
    angle = sagittal_angle(dict(poses), ends.upper, ends.lower)
    assert angle is not None
    if ends.measure == "lordosis":
        angle = Angle(-angle.degrees, angle.sd)
    return SpineAngle(ends.measure, ends.upper, ends.lower, by, angle)
