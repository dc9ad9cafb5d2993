"""How much the line through the vertebral bodies bends: a curve's size that no reconstructed endplate can flatter.

A network that has seen too few tilted vertebrae draws them too upright, and the Cobb angle of their endplates comes out
too small while the bodies still lie where the marks put them. The line through the bodies knows nothing of shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import UnivariateSpline

from scripts.geometry.frames import INFERIOR, LEFT
from scripts.measure.bends import one_way_bends

FEWEST = 5
# How far a body's middle may lie beside the line, mm: marks are not better.
SLACK_MM = 2.0
# Standard deviation of the difference to the Cobb angle between true endplates, see docs/measurements.md.
SD_DEG = 8.0
# From here on line and endplates contradict each other.
CONTRADICTION_DEG = 12.0


@dataclass(frozen=True)
class MidlineBend:
    """The largest angle between two tangents of the line, in the frontal plane, between which it bends one way.

    Args:
        degrees: of it.
        sd: as an estimate of the Cobb angle.
        upper: index of the upper of the two bodies.
        lower: of the lower one.
    """

    degrees: float
    sd: float
    upper: int
    lower: int


def midline_bend(middles_mm: np.ndarray) -> MidlineBend | None:
    """The bend of the line through bodies; None for fewer than `FEWEST`.

    Args:
        middles_mm: (N, 3) world, head to foot.
    """
    if len(middles_mm) < FEWEST:
        return None
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(middles_mm, axis=0), axis=1))])
    slack = len(middles_mm) * SLACK_MM**2
    sideways, down = (
        UnivariateSpline(along, middles_mm @ axis, s=slack).derivative()(along) for axis in (LEFT, INFERIOR)
    )
    tangents = np.degrees(np.arctan2(sideways, down))
    upper, lower = one_way_bends(tangents, tangents, range(len(tangents)))[0]
    return MidlineBend(float(abs(tangents[lower] - tangents[upper])), SD_DEG, upper, lower)
