"""Curves of the spine: which end vertebrae the program chooses, and the angle between any two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import INFERIOR, LEFT
from scripts.levels import LEVEL_NUMBERS
from scripts.measure.angles import FRONTAL, SAGITTAL, Angle, tilt
from scripts.measure.bends import one_way_bends
from scripts.measure.pose import VertebraPose
from scripts.measure.vertebrae import places_of

# A curve below this is no curve: an endplate's tilt is not known to a degree.
MIN_CURVE_DEG = 5.0
# Vertebrae with both endplates from which on there can be a curve.
FEWEST = 3
TOO_FEW = "no Cobb angle: fewer than three vertebrae with usable endplates"
# The usual end vertebrae of the sagittal curves.
KYPHOSIS = LEVEL_NUMBERS["T4"], LEVEL_NUMBERS["T12"]
LORDOSIS = LEVEL_NUMBERS["L1"], LEVEL_NUMBERS["L5"]


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


def sagittal_angle(poses: dict[int, VertebraPose], first: int, last: int) -> Angle | None:
    """From the upper endplate of one level to the lower one of another; + is kyphosis. None if one is missing."""
    upper, lower = poses.get(first), poses.get(last)
    if upper is None or upper.upper is None or lower is None:
        return None
    return tilt(upper.upper, SAGITTAL).minus(tilt(lower.lower, SAGITTAL))


def cobb_curves(ordered: list[VertebraPose]) -> tuple[Curve, ...]:
    """Curves in the frontal plane, largest first.

    End vertebrae are the most tilted ones, as in the usual definition: the pair of an upper endplate and a lower one
    further down whose tilts differ most, and so above, below and between the curves found. A curve bends one way: where
    the spine bends back inside, there are several (`scripts.measure.bends`), which share end vertebrae.

    Args:
        ordered: head to foot.
    """
    usable = _with_both_endplates(ordered)
    if len(usable) < FEWEST:
        return ()
    bends = one_way_bends(
        np.array([tilt(pose.upper, FRONTAL).degrees for pose in usable if pose.upper is not None]),
        np.array([tilt(pose.lower, FRONTAL).degrees for pose in usable]),
        places_of(usable),
        MIN_CURVE_DEG,
    )
    return tuple(curve_between(usable[first : last + 1]) for first, last in bends)


def why_no_curve(ordered: list[VertebraPose]) -> str:
    """What to say where `cobb_curves` finds none: the spine is straight, or there is too little to measure."""
    if len(_with_both_endplates(ordered)) < FEWEST:
        return TOO_FEW
    return f"no curve of {MIN_CURVE_DEG:.0f}° in the frontal plane"


def _with_both_endplates(poses: list[VertebraPose]) -> list[VertebraPose]:
    return [pose for pose in poses if pose.upper is not None]


def curve_between(poses: list[VertebraPose]) -> Curve:
    """The curve from the upper endplate of the first of some vertebrae to the lower one of the last.

    Args:
        poses: head to foot, at least two, all with an upper endplate.
    """
    assert poses[0].upper is not None
    bend = tilt(poses[-1].lower, FRONTAL).minus(tilt(poses[0].upper, FRONTAL))
    sideways = np.array([pose.origin_mm @ LEFT for pose in poses])
    height = np.array([pose.origin_mm @ INFERIOR for pose in poses])
    chord = np.interp(height, height[[0, -1]], sideways[[0, -1]])
    away = (sideways - chord) * np.sign(bend.degrees)
    return Curve(
        Angle(abs(bend.degrees), bend.sd),
        poses[0].level,
        poses[-1].level,
        # Of neighbours, neither of which lies off the line between both, the upper one.
        poses[1 + int(away[1:-1].argmax())].level if len(poses) > 2 else poses[0].level,
        "left" if bend.degrees > 0 else "right",
    )
