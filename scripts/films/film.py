"""What a radiograph is once it has been read, and what two of one patient are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scripts.errors import UserError
from scripts.geometry.biplanar import DIVERGENCE, Beam, BiplanarGeometry, View
from scripts.io.annotations import Annotations

if TYPE_CHECKING:
    from pydicom import Dataset

Field = tuple[int, int, int, int]


class Projection(str, Enum):
    """Which of the two views."""

    FRONTAL = "AP"
    LATERAL = "LAT"


class ScaleKind(str, Enum):
    """How far lengths on a film can be trusted, in the words of the report."""

    CALIBRATED = "calibrated"
    UNSURE = "magnification perhaps not corrected"
    DETECTOR = "scale of the detector, magnification unknown: 5 to 30 % too large"
    ESTIMATED = "estimated, films not calibrated"


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
        turned_deg: yaw, pitch and roll of the view in degrees, about its isocentre.
        simultaneous: both views were taken at once by a machine that scans them together, so that rows are shared;
            of cones only the heights of the central rays are.
    """

    beam: Beam | None = None
    source_to_detector_mm: float | None = None
    source_to_isocentre_mm: float | None = None
    reversed: bool | None = None
    principal_point: tuple[float, float] | None = None
    turned_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    simultaneous: bool = False

    @property
    def magnification(self) -> np.ndarray:
        """(rows, columns): mm on the detector of a mm in the isocentre's plane; 1 where rays do not diverge."""
        if self.beam is None or not self.source_to_detector_mm or not self.source_to_isocentre_mm:
            return np.ones(2)
        return np.where(DIVERGENCE[self.beam], self.source_to_detector_mm / self.source_to_isocentre_mm, 1.0)


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
        scale_kind: how far it can be trusted; likewise.
        placed: where it lies in the world, for files whose header says so (NIfTI).
        scale_fault: why the file's own scale cannot be used; the film is then refused unless the user gives one.
        aspect: height over width of a pixel, for files that say no more of its size.
        detector_mm: (row, column) size of a pixel on the detector, if ``spacing_mm`` follows from it and the distances.
        header: the DICOM data set without its pixels, for references in DICOM outputs; it identifies the patient and
            goes nowhere else.
        pixels_sha256: digest of the values that a DICOM file stores; empty for other files.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    optics: Optics = field(default_factory=Optics)
    field: Field = (0, 0, 0, 0)
    warnings: tuple[str, ...] = ()
    scale_notes: tuple[str, ...] = ()
    placed: View | None = None
    scale_fault: str = ""
    aspect: float = 1.0
    detector_mm: tuple[float, float] | None = None
    header: Dataset | None = None
    pixels_sha256: str = ""
    scale_kind: ScaleKind = ScaleKind.CALIBRATED

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its pixels, as a hexadecimal number."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()

    def warned(self, *lines: str) -> Radiograph:
        """The same with more warnings."""
        return replace(self, warnings=(*self.warnings, *lines))

    @property
    def there(self) -> bool:
        """Whether there is a film at all: `NO_FILM` stands where only the other view was taken."""
        return self.pixels.size > 1


# Stands where only the other view was taken.
NO_FILM = Radiograph(np.zeros((1, 1), np.float32), None)


@dataclass(frozen=True)
class FilmView:
    """One of two films together with how it was taken.

    Args:
        name: ``AP`` or ``LAT``.
        film: the radiograph.
        view: its geometry.
        scale_sd: relative standard deviation of its scale.
    """

    name: str
    film: Radiograph
    view: View
    scale_sd: float

    @property
    def key(self) -> str:
        """Its name in files: ``ap`` or ``lat``."""
        return self.name.lower()

    @property
    def scale_kind(self) -> ScaleKind:
        """How far lengths on it can be trusted."""
        return ScaleKind.ESTIMATED if self.scale_sd else self.film.scale_kind


@dataclass(frozen=True)
class Films:
    """Two radiographs of one patient, and all that is known of how they were taken.

    Args:
        ap: frontal film, or `NO_FILM`.
        lat: lateral film, or `NO_FILM`.
        geometry: of both. Where a film is uncalibrated its pixels count as 1 mm; where the films are not registered
            they are put together by their centres. `scripts.films.calibration.calibrate` mends both from the marks.
        registered: whether it is known how the two films lie to each other.
        warnings: everything that was assumed, for the report.
        scale_sd: relative standard deviation of each film's scale, 0 where it is given.
        name: of the first file.
    """

    ap: Radiograph
    lat: Radiograph
    geometry: BiplanarGeometry
    registered: bool
    warnings: tuple[str, ...] = ()
    scale_sd: tuple[float, float] = (0.0, 0.0)
    name: str = ""

    @property
    def views(self) -> tuple[FilmView, FilmView]:
        """AP and LAT."""
        return (
            FilmView("AP", self.ap, self.geometry.ap, self.scale_sd[0]),
            FilmView("LAT", self.lat, self.geometry.lat, self.scale_sd[1]),
        )

    @property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) float32 of both."""
        return self.ap.pixels, self.lat.pixels

    @property
    def shown(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Pixels (rows, columns) float32 of both films, None for a film that was not given."""
        ap, lat = (film.pixels if film.there else None for film in (self.ap, self.lat))
        return ap, lat

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, columns) of both; (1, 1) of a film that there is not."""
        ap, lat = ((pixels.shape[0], pixels.shape[1]) for pixels in self.pixels)
        return ap, lat

    @property
    def in_one_frame(self) -> bool:
        """Whether scale and place of both films are known, so that their geometry holds."""
        return self.registered and self.ap.spacing_mm is not None and self.lat.spacing_mm is not None

    @property
    def headers(self) -> list[Dataset | None]:
        """Headers of DICOM films, for references in DICOM outputs only: they identify the patient."""
        return [self.ap.header, self.lat.header]

    def check_marks(self, annotations: Annotations) -> None:
        """Raise a UserError if marks were set on films of another size."""
        for view, marks in zip(self.views, (annotations.ap, annotations.lat), strict=True):
            shape = view.film.pixels.shape
            if shape != marks.shape:
                turned = "; the film has been turned since (a picture's EXIF orientation is applied)"
                raise UserError(
                    f"the {view.name} marks were set on a film of {marks.shape}, "
                    f"this one has {shape} pixels{turned if shape == marks.shape[::-1] else ''}"
                )
