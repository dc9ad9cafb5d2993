"""Which machines take the films that the annotation network is trained and measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid


@dataclass(frozen=True)
class MachineRange:
    """Which machines take the films.

    Args:
        slot_share: of pairs taken by a slot scanner.
        cone_share: of pairs taken by an ordinary tube.
        isocentre_mm: smallest and largest distance of the tube from the isocentre.
        detector_mm: smallest and largest distance of the detector behind it.
        turn_deg: largest turn of the patient about the long axis, common to both views.
        tilt_deg: largest tilt of the patient in each plane.
        error_deg: largest turn of each view by itself.
    """

    slot_share: float = 0.25
    cone_share: float = 0.35
    isocentre_mm: tuple[float, float] = (850.0, 1800.0)
    detector_mm: tuple[float, float] = (150.0, 450.0)
    turn_deg: float = 10.0
    tilt_deg: float = 5.0
    error_deg: float = 3.0


def draw_geometry(
    grid: Grid, machines: MachineRange, rng: np.random.Generator | np.random.RandomState
) -> BiplanarGeometry:
    """Two views of a patient in a random machine; pixels of the grid's spacing in the plane of its centre."""
    chance = rng.random()
    beam = Beam.CONE if chance < machines.cone_share else Beam.PARALLEL
    if machines.cone_share <= chance < machines.cone_share + machines.slot_share:
        beam = Beam.SLOT
    isocentre = rng.uniform(*machines.isocentre_mm, 2)
    detector = isocentre + rng.uniform(*machines.detector_mm, 2)
    geometry = geometry_of_grid(
        grid, beam, (float(isocentre[0]), float(isocentre[1])), (float(detector[0]), float(detector[1]))
    )
    yaw = rng.uniform(-1, 1) * machines.turn_deg
    frontal, sagittal = rng.uniform(-1, 1, 2) * machines.tilt_deg
    own = rng.uniform(-1, 1, (2, 2)) * machines.error_deg
    ap = geometry.ap.turned(yaw + own[0, 0], sagittal + own[0, 1], frontal)
    lat = geometry.lat.turned(yaw + own[1, 0], frontal + own[1, 1], sagittal)
    return BiplanarGeometry(ap, lat)
