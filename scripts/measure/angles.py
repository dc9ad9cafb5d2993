"""Angles between endplates as they are seen on films: projected on the patient's frontal or sagittal plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR
from scripts.measure.pose import Endplate, VertebraPose

FRONTAL, SAGITTAL = 0, 1
# After the point, in the report.
REPORTED_DIGITS = 2
# Unit vectors to that side of each plane to which a tilt counts as positive: the patient's left, forwards.
SIDES = (LEFT, -POSTERIOR)


@dataclass(frozen=True)
class Angle:
    """An angle and its standard deviation, degrees."""

    degrees: float
    sd: float

    def minus(self, other: Angle) -> Angle:
        """Difference of two independent angles."""
        return Angle(self.degrees - other.degrees, float(np.hypot(self.sd, other.sd)))


def whole_degrees(degrees: float) -> int:
    """An angle as pictures and pages write it: the report's own value, two digits after the point, rounded once.

    >>> whole_degrees(10.501), whole_degrees(10.5), whole_degrees(-0.3)
    (11, 11, 0)
    """
    return math.floor(round(degrees, REPORTED_DIGITS) + 0.5)


def tilt(plate: Endplate, plane: int) -> Angle:
    """How an endplate leans in the patient's frontal or sagittal plane.

    Args:
        plate: of a vertebra.
        plane: `FRONTAL` (positive: towards the patient's left) or `SAGITTAL` (positive: forwards).

    >>> leaning = Endplate(np.zeros(3), np.array([0.0, 0.5, np.sqrt(0.75)]), (1.0, 2.0))  # RAS
    >>> round(tilt(leaning, SAGITTAL).degrees, 6), tilt(leaning, SAGITTAL).sd, round(tilt(leaning, FRONTAL).degrees, 6)
    (30.0, 2.0, 0.0)
    """
    up = float(plate.normal @ -INFERIOR)
    return Angle(float(np.degrees(np.arctan2(plate.normal @ SIDES[plane], up))), plate.sd_deg[plane])


def axial_rotation(pose: VertebraPose) -> Angle:
    """How far the front is turned to the patient's left, seen along the patient's long axis."""
    forwards = pose.axes[0]
    angle = np.degrees(np.arctan2(forwards @ LEFT, forwards @ -POSTERIOR))
    return Angle(float(angle), pose.axial_sd_deg)
