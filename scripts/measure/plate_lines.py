"""Endplates and angles as lines to be drawn: the very planes that the angles are computed from.

In the frontal plane through an endplate's middle its plane leaves a line that leans by the endplate's tilt
(`scripts.measure.angles`), and so in the sagittal plane. Both lines are drawn in space, the frontal one on the AP and
the sagittal one on the LAT film, projected by the films' own geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.geometry.frames import INFERIOR
from scripts.levels import region
from scripts.measure.angles import FRONTAL, SAGITTAL, SIDES, tilt
from scripts.measure.credible import SIZES_MM
from scripts.measure.pose import Endplate, VertebraPose
from scripts.measure.spine_angles import SpineAngle

# How far the lines of an angle reach from the middle of their endplate: to where they converge, and to the other side.
REACH_MM, OTHER_MM = 55.0, 25.0


@dataclass(frozen=True)
class FilmLines:
    """What is drawn on one film, film pixels (row, column).

    Args:
        plates: VerSe number -> (N, 2 ends, 2), the endplates' lines from above.
        angles: angle -> (2, 2, 2), the upper and the lower end vertebra's line; where they converge comes second.
    """

    plates: dict[int, np.ndarray]
    angles: dict[SpineAngle, np.ndarray]


def plate_lines(pose: VertebraPose) -> np.ndarray:
    """The lines of a vertebra's endplates.

    Args:
        pose: of the vertebra.

    Returns:
        (N, 2 planes, 2 ends, 3) world mm, N endplates from above, the frontal line before the sagittal one.
    """
    widest, deepest = (most for _, most in SIZES_MM[region(pose.level)][:2])
    halves = min(pose.width_mm, widest) / 2, min(pose.depth_mm, deepest) / 2
    plates = [plate for plate in (pose.upper, pose.lower) if plate is not None]
    return np.array(
        [[_line(plate, plane, -halves[plane], halves[plane]) for plane in (FRONTAL, SAGITTAL)] for plate in plates]
    )


def angle_lines(angle: SpineAngle, poses: Mapping[int, VertebraPose]) -> np.ndarray | None:
    """The lines of an angle.

    Args:
        angle: of the spine.
        poses: all of them, by VerSe number.

    Returns:
        (2, 2, 3) world mm, the upper and the lower end vertebra's line; the end at which they converge comes second.
        None if the angle was not measured.
    """
    upper = poses[angle.upper].upper if angle.angle is not None else None
    if upper is None:
        return None
    lower = poses[angle.lower].lower
    # They converge to the left if the upper one falls to the left of the lower one.
    side = 1 if tilt(upper, angle.plane).degrees > tilt(lower, angle.plane).degrees else -1
    return np.array([_line(plate, angle.plane, -side * OTHER_MM, side * REACH_MM) for plate in (upper, lower)])


def film_lines(
    poses: Mapping[int, VertebraPose], angles: Sequence[SpineAngle], geometry: BiplanarGeometry
) -> tuple[FilmLines, FilmLines]:
    """All endplates and angles as they are drawn on the AP and on the LAT film.

    Args:
        poses: whose endplates can be true, by VerSe number.
        angles: of the spine.
        geometry: of the films.
    """
    plates = {number: plate_lines(pose) for number, pose in poses.items()}
    found = {angle: lines for angle in angles if (lines := angle_lines(angle, poses)) is not None}

    def of(plane: int, view: View) -> FilmLines:
        return FilmLines(
            {number: _on_film(lines[:, plane], view) for number, lines in plates.items()},
            {angle: _on_film(lines, view) for angle, lines in found.items() if angle.plane == plane},
        )

    return of(FRONTAL, geometry.ap), of(SAGITTAL, geometry.lat)


def _on_film(lines_mm: np.ndarray, view: View) -> np.ndarray:
    """Points in the world (..., 3) as pixels (..., 2)."""
    return view.project(lines_mm.reshape(-1, 3)).reshape(*lines_mm.shape[:-1], 2)


def _line(plate: Endplate, plane: int, start_mm: float, end_mm: float) -> np.ndarray:
    """(2, 3) from one place to another along an endplate, as seen in a plane; + is to the left, or forwards."""
    lean = np.radians(tilt(plate, plane).degrees)
    along = np.cos(lean) * SIDES[plane] + np.sin(lean) * INFERIOR
    return np.stack([plate.centre_mm + start_mm * along, plate.centre_mm + end_mm * along])
