"""A film with the scale and the rays that the user gives it, by ``--spacing`` or a geometry file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Optics, Projection, Radiograph, ScaleKind
from scripts.films.geometry_file import PairSetup
from scripts.films.plausible import SAME
from scripts.films.spacing import impossible_spacing
from scripts.geometry.biplanar import Beam

Spacing = tuple[float, float]


def as_given(
    film: Radiograph, wanted: Projection, spacing_mm: float | None, setup: PairSetup | None, where: Path | None
) -> Radiograph:
    """A film as the user says that it was taken.

    Args:
        film: as its file says.
        wanted: its view.
        spacing_mm: of ``--spacing``, None if it names no such film.
        setup: content of the geometry file, None if there is none.
        where: the geometry file, for errors.

    Raises:
        UserError: an impossible spacing, one of a film that has its own, one that the geometry file contradicts, or an
            exact geometry of a film of another size.
    """
    name, frontal = wanted.value, wanted is Projection.FRONTAL
    optics, of_file = Optics(), None
    if setup is not None:
        optics, of_file = (setup.ap, setup.ap_spacing_mm) if frontal else (setup.lat, setup.lat_spacing_mm)
    exact = setup.exact if setup is not None else None
    if exact is not None:
        view = exact.ap if frontal else exact.lat
        if view.shape != film.pixels.shape:
            raise UserError(f"{where}: made for films of another size")
        of_file = view.pixel_mm
    if spacing_mm is not None:
        _check_spacing(film, name, spacing_mm, of_file, where)
        film = film if of_file else _with_spacing(film, spacing_mm, name)
    if setup is not None and exact is None:
        film = _with_optics(film, optics, name)
    if of_file is None:
        return film
    notes = () if film.placed is not None else (f"{name}: scale given by the geometry file",)
    return _rescaled(replace(film, detector_mm=None), of_file, *notes)


def _check_spacing(film: Radiograph, name: str, value: float, of_file: Spacing | None, where: Path | None) -> None:
    if impossible_spacing((value, value)):
        raise UserError(f"--spacing of {value:g} mm a pixel is impossible")
    if film.placed is not None:
        raise UserError("--spacing is for films without one; a NIfTI film has its own")
    if of_file is not None and not np.allclose(of_file, value, rtol=SAME):
        raise UserError(
            f"{where}: its {name} pixels measure {of_file[0]:.4g} x {of_file[1]:.4g} mm in the patient, and --spacing "
            f"says {value:g} mm; give one of them"
        )


def _with_spacing(film: Radiograph, value: float, name: str) -> Radiograph:
    row, column = film.spacing_mm or (value, value)
    if abs(row / column - 1) > SAME:
        film = film.warned(
            f"{name}: pixels taken as square, as --spacing says, against {row:g} x {column:g} mm in its file; "
            "pixel_spacing_mm of --geometry takes both"
        )
    note = f"{name}: scale given by the user"
    return _rescaled(replace(film, detector_mm=None), (value, value), note)


def _with_optics(film: Radiograph, optics: Optics, name: str) -> Radiograph:
    of_header = film.optics.reversed
    if None not in (optics.reversed, of_header) and optics.reversed != of_header:
        film = film.warned(f"{name}: the source stood on the other side by the geometry file than by its header")
    if film.placed is not None:
        film = film.warned(
            f"{name}: the geometry file takes the place of what the NIfTI file says of its place: results do not lie "
            "where that file does"
        )
    side = of_header if optics.reversed is None else optics.reversed
    film = replace(film, optics=replace(optics, reversed=side), placed=None)
    # A parallel beam in the file has no distances, and corrects nothing.
    if film.detector_mm is None or optics.beam is Beam.PARALLEL:
        return film
    row, column = (float(value) for value in film.detector_mm / optics.magnification)
    note = f"{name}: scale from ImagerPixelSpacing / magnification {optics.magnification[1]:.3f} of the geometry file"
    return _rescaled(film, (row, column), note)


def _rescaled(film: Radiograph, spacing_mm: Spacing, *notes: str) -> Radiograph:
    """A film with a scale that the user knows; what its file says of its own one has no meaning then."""
    return replace(film, spacing_mm=spacing_mm, scale_notes=notes, scale_kind=ScaleKind.CALIBRATED)
