"""Two films of one patient and the geometry between them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.films.appearance import seems_inverted
from scripts.films.dicom import inverted, read_dicom
from scripts.films.film import NO_FILM, Films, Optics, Projection, Radiograph
from scripts.films.geometry_file import read_geometry
from scripts.films.given import as_given
from scripts.films.kind import FilmKind, film_kind, film_stem
from scripts.films.options import AS_THE_FILES_SAY, ReadingOptions, quarters
from scripts.films.patient import check_same_patient, not_one_scan
from scripts.films.picture import read_picture
from scripts.films.plausible import check_pixels, check_size
from scripts.films.spacing import impossible_spacing
from scripts.films.study import choose_film
from scripts.films.turning import mirrored, told_inverted, turned
from scripts.geometry.biplanar import DIVERGENCE, Beam, BiplanarGeometry, View, as_vector
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR
from scripts.io.nifti import read_film

FRONTAL, LATERAL = Projection.FRONTAL, Projection.LATERAL
MAX_HEIGHT_DIFFERENCE_MM = 1.0


def read_films(ap: Path | None, lat: Path | None, options: ReadingOptions = AS_THE_FILES_SAY) -> Films:
    """Both films, checked against each other, or one of them alone.

    Args:
        ap: frontal film (DICOM, NIfTI, PNG, JPEG, TIFF), or a folder from which the one frontal film is taken; None if
            only the LAT was taken.
        lat: lateral film, or a folder from which the one lateral film is taken; None if only the AP was taken.
        options: what is known of the films beside what their files say.

    Raises:
        UserError: neither is given, one alone with what only a pair has, or one file for both; a film is unreadable or
            the other view; the two show different patients or heights, or the geometry does not fit.

    >>> from scripts.paths import BUNDLE_ROOT
    >>> sample = BUNDLE_ROOT / "docs" / "sample"
    >>> films = read_films(sample / "ap.nii.gz", sample / "lat.nii.gz")
    >>> [(view.name, view.film.pixels.shape, view.view.pixel_mm) for view in films.views]
    [('AP', (333, 360), (1.0, 1.0)), ('LAT', (333, 275), (1.0, 1.0))]
    """
    if ap is None or lat is None:
        if options.geometry is not None:
            raise UserError("--geometry is for two films")
        return _read_one(ap, lat, options)
    # A folder may hold both films.
    if ap.is_file() and lat.is_file() and ap.samefile(lat):
        raise UserError(f"{lat}: the same file for --ap and --lat; give the film of each view, or one view alone")
    setup = read_geometry(options.geometry) if options.geometry is not None else None
    exact = setup.exact if setup is not None else None
    frontal, lateral = (_read_view(path, wanted, options) for path, wanted in ((ap, FRONTAL), (lat, LATERAL)))
    placed = frontal.placed is not None and lateral.placed is not None
    notes = [] if placed else check_same_patient(frontal.header, lateral.header, f"{ap} and {lat}")
    frontal, lateral = (
        check_size(as_given(film, wanted, spacing, setup, options.geometry), wanted.value, str(path))
        for film, wanted, spacing, path in zip(
            (frontal, lateral), (FRONTAL, LATERAL), options.spacing, (ap, lat), strict=True
        )
    )
    if setup is None and (apart := not_one_scan(frontal, lateral)):
        notes.append(apart)
        frontal, lateral = (replace(f, optics=replace(f.optics, simultaneous=False)) for f in (frontal, lateral))
    geometry = exact or pair_geometry(frontal, lateral)
    registered = exact is not None or _registered(frontal, lateral)
    if registered:
        _check_heights(geometry, f"{ap} and {lat}")
    lines = [line for film in (frontal, lateral) for line in (*film.warnings, *film.scale_notes)]
    if exact is None:
        lines += [
            line for film, wanted in ((frontal, FRONTAL), (lateral, LATERAL)) for line in _optics_notes(film, wanted)
        ]
    return Films(frontal, lateral, geometry, registered, (*lines, *notes), name=_name(ap))


def read_radiograph(path: Path, wanted: Projection, invert: bool = False) -> Radiograph:
    """One film of any kind.

    Args:
        path: a file, or a folder that holds one film of this view.
        wanted: the view.
        invert: whether its bones are dark although the file does not say so.

    Raises:
        UserError: no such file, not a film of a known format, unreadable, or of the other view.
    """
    if path.is_dir():
        path = choose_film(path, wanted)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    film = _read_file(path, wanted, invert)
    if not seems_inverted(film.pixels, film.field):
        return film
    return film.warned(f"{wanted.value}: its sides are brighter than its middle; if bones are dark, use --invert")


def _read_file(path: Path, wanted: Projection, invert: bool) -> Radiograph:
    kind = film_kind(path)
    if kind is FilmKind.DICOM:
        return read_dicom(path, wanted, invert)
    if kind is FilmKind.NIFTI:
        pixels, view = read_film(path, wanted is FRONTAL, check_pixels)
        row, column = view.pixel_spacing_mm
        if impossible_spacing((row, column)):
            raise UserError(f"{path}: a pixel spacing of {row:g} x {column:g} mm is impossible")
        pixels = inverted(pixels) if invert else pixels
        return Radiograph(pixels, (row, column), field=(0, 0, *pixels.shape), placed=view)
    return read_picture(path, wanted, invert)


def _read_view(path: Path, wanted: Projection, options: ReadingOptions) -> Radiograph:
    """One film; inverted, turned and mirrored if the user says so."""
    name = wanted.value.lower()
    dark = name in _views(options.invert, "invert")
    film = read_radiograph(path, wanted, dark)
    film = told_inverted(film, wanted.value) if dark else film
    degrees = quarters(options.turn)[wanted is LATERAL]
    film = turned(film, degrees, wanted.value, path) if degrees else film
    return mirrored(film, wanted.value, path) if name in _views(options.mirror, "mirror") else film


def _read_one(ap: Path | None, lat: Path | None, options: ReadingOptions) -> Films:
    path = ap or lat
    if path is None:
        raise UserError("give --ap or --lat, or both")
    wanted = FRONTAL if ap else LATERAL
    film = _read_view(path, wanted, options)
    film = as_given(film, wanted, options.spacing[0 if ap else 1], None, None)
    film = check_size(film, wanted.value, str(path))
    both = (film, NO_FILM) if ap else (NO_FILM, film)
    return Films(*both, pair_geometry(*both), False, (*film.warnings, *film.scale_notes), name=_name(path))


def _name(path: Path) -> str:
    """A file's name as text that can be written: bytes that are no UTF-8 become U+FFFD."""
    return film_stem(os.fsencode(path.name).decode("utf-8", "replace"))


def pair_geometry(
    ap: Radiograph,
    lat: Radiograph,
    isocentre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> BiplanarGeometry:
    """The views of two films; a film that its header places in the world stays there.

    Args:
        ap: frontal film. Its isocentre is the world's origin if neither film is placed.
        lat: lateral film.
        isocentre_mm: where the central ray of the film that is not placed, of the lateral one if neither is, is met by
            the plane of its spacing.
    """
    origin = (0.0, 0.0, 0.0)
    frontal = ap.placed or _view(ap, FRONTAL, isocentre_mm if lat.placed else origin)
    lateral = lat.placed or _view(lat, Projection.LATERAL, isocentre_mm)
    return BiplanarGeometry(frontal, lateral)


def _view(film: Radiograph, wanted: Projection, isocentre_mm: tuple[float, float, float]) -> View:
    rows, columns = film.pixels.shape
    optics = film.optics if film.spacing_mm is not None else Optics(reversed=film.optics.reversed)
    beam = optics.beam or Beam.PARALLEL
    to_detector, to_isocentre = optics.source_to_detector_mm, optics.source_to_isocentre_mm
    spacing = np.array(film.spacing_mm or (1.0, 1.0)) * optics.magnification
    column, towards = (LEFT, POSTERIOR) if wanted is FRONTAL else (POSTERIOR, -LEFT)
    # A scanner's rows are heights in the patient: both films begin at the same one. Where rows diverge only those of
    # the central rays are known to be at one height.
    top = 0.0 if optics.simultaneous and not DIVERGENCE[beam][0] else (rows - 1) / 2
    view = View(
        beam=beam,
        row_direction=as_vector(INFERIOR),
        column_direction=as_vector(column),
        beam_direction=as_vector(-towards if optics.reversed else towards),
        isocentre_mm=isocentre_mm,
        principal_point=optics.principal_point or (top, (columns - 1) / 2),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        shape=(rows, columns),
        source_to_isocentre_mm=to_isocentre or math.inf,
        source_to_detector_mm=to_detector or math.inf,
    )
    return view.turned(*optics.turned_deg) if any(optics.turned_deg) else view


def _registered(ap: Radiograph, lat: Radiograph) -> bool:
    if ap.placed is not None and lat.placed is not None:
        return True
    return ap.optics.simultaneous and lat.optics.simultaneous and None not in (ap.spacing_mm, lat.spacing_mm)


def _optics_notes(film: Radiograph, wanted: Projection) -> list[str]:
    """What is taken for granted about a film's rays."""
    name, optics = wanted.value, film.optics
    if film.placed is not None or optics.beam is Beam.PARALLEL:
        return []
    if optics.beam is None:
        return [f"{name}: no source distances; rays taken as parallel"]
    lines = []
    if optics.reversed is None:
        side = "in front of the patient (AP)" if wanted is FRONTAL else "on the patient's left (right lateral)"
        lines.append(f"{name}: nothing says where the X-ray source stood; taken to be {side}, see --geometry")
    if optics.principal_point is None:
        where = "pass under its middle column" if optics.beam is Beam.SLOT else "hit its centre"
        lines.append(f"{name}: the central ray is taken to {where}")
    return lines


def _views(words: Sequence[str], option: str) -> set[str]:
    found = {str(word).strip().lower() for word in words}
    if found - {"ap", "lat"}:
        raise UserError(f"--{option} takes ap, lat or both with a comma, not {', '.join(sorted(found))}")
    return found


def _check_heights(geometry: BiplanarGeometry, where: str) -> None:
    """With rows that are heights in the patient both films must reach equally far."""
    if geometry.ap.beam is Beam.CONE:
        return
    heights = [view.shape[0] * view.pixel_spacing_mm[0] for view in (geometry.ap, geometry.lat)]
    if abs(heights[0] - heights[1]) > MAX_HEIGHT_DIFFERENCE_MM:
        raise UserError(
            f"{where} have different heights, {heights[0]:.0f} and {heights[1]:.0f} mm; rows must be shared"
        )
