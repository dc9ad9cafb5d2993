"""What a radiograph is once it has been read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from scripts.geometry.biplanar import Beam, View

if TYPE_CHECKING:
    from pydicom import Dataset

Field = tuple[int, int, int, int]


class Projection(str, Enum):
    """Which of the two views."""

    FRONTAL = "AP"
    LATERAL = "LAT"


@dataclass(frozen=True)
class Optics:
    """How the rays ran, as far as a file or the user says.

    Args:
        beam: None if nothing is known; the rays are then taken as parallel.
        source_to_detector_mm: along the central ray.
        source_to_isocentre_mm: to the plane in which the film's spacing holds.
        reversed: the source stood behind the patient (PA) or on the right (left lateral), not in front or on the left;
            None if nothing says.
        principal_point: (row, column) pixel of the central ray; the film's centre if None.
        turned_deg: yaw, pitch and roll of the view, see `View.turned`.
        simultaneous: both views were taken at once by a machine that scans them together, so that rows are shared.
    """

    beam: Beam | None = None
    source_to_detector_mm: float | None = None
    source_to_isocentre_mm: float | None = None
    reversed: bool | None = None
    principal_point: tuple[float, float] | None = None
    turned_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    simultaneous: bool = False


@dataclass(frozen=True)
class Radiograph:
    """One film in our display convention: bones bright, patient's right at the left in AP, facing left in LAT.

    Args:
        pixels: (rows, columns) float32. Beyond ``field`` they hold the field's lowest value.
        spacing_mm: (row, column) size of a pixel in the patient's plane; None if uncalibrated.
        optics: how the rays ran.
        field: (top, left, bottom, right) of the exposed part, end exclusive.
        warnings: what was assumed, without anything that identifies a patient.
        scale_notes: where the scale comes from; without meaning once the user gives another.
        placed: where it lies in the world, for files whose header says so (NIfTI).
        header: the DICOM data set without its pixels, for references in DICOM outputs; it identifies the patient and
            goes nowhere else.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    optics: Optics = field(default_factory=Optics)
    field: Field = (0, 0, 0, 0)
    warnings: tuple[str, ...] = ()
    scale_notes: tuple[str, ...] = ()
    placed: View | None = None
    header: Dataset | None = None

    def warned(self, *lines: str) -> Radiograph:
        """The same with more warnings."""
        return replace(self, warnings=(*self.warnings, *lines))
