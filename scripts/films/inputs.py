"""Films to annotate, from files of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.pair import read_pair, read_radiograph
from scripts.geometry.biplanar import BiplanarGeometry

Size = tuple[float, float]


@dataclass(frozen=True)
class Films:
    """One or two films and what their files say of them.

    Args:
        pixels: AP and LAT, (rows, columns), bones bright; None for a film that there is not.
        geometry: of both, where the files say how they lie to each other and what their pixels measure.
        pixel_mm: (row, column) size of each film's pixels in the patient; None where it is not known.
        name: of the first file.
        warnings: what was assumed when they were read.
    """

    pixels: tuple[np.ndarray | None, np.ndarray | None]
    geometry: BiplanarGeometry | None = None
    pixel_mm: tuple[Size | None, Size | None] = (None, None)
    name: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, columns) of both; one pixel for a film that there is not."""
        ap, lat = ((1, 1) if film is None else (film.shape[0], film.shape[1]) for film in self.pixels)
        return ap, lat


def read_films(
    ap: Path | None,
    lat: Path | None,
    geometry: Path | None = None,
    spacing: Size | None = None,
    mirror: Sequence[str] = (),
    invert: Sequence[str] = (),
) -> Films:
    """Both films, or one of them; see `scripts.films.pair.read_pair` for what they may be.

    Args:
        ap: frontal film, or None.
        lat: lateral film, or None.
        geometry: YAML or JSON file.
        spacing: mm a pixel of the AP and of the LAT film.
        mirror: views to mirror left to right.
        invert: views whose bones are dark.

    Raises:
        UserError: neither is given; one alone with what only a pair has; or as of `read_pair`.
    """
    if ap is not None and lat is not None:
        pair = read_pair(ap, lat, spacing, geometry, mirror, invert)
        known = pair.registered and (all(pair.calibrated) or geometry is not None)
        return Films(
            (pair.ap.pixels, pair.lat.pixels),
            pair.geometry if known else None,
            (pair.ap.spacing_mm, pair.lat.spacing_mm),
            _name(ap),
            pair.assumptions,
        )
    path = ap or lat
    if path is None:
        raise UserError("give --ap or --lat, or both")
    if geometry is not None or mirror or invert:
        raise UserError("--geometry, --mirror and --invert are for two films")
    film = read_radiograph(path, Projection.FRONTAL if ap else Projection.LATERAL)
    size = film.spacing_mm if spacing is None else (spacing[0 if ap else 1],) * 2
    notes = (*film.warnings, *(film.scale_notes if spacing is None else ()))
    if ap:
        return Films((film.pixels, None), None, (size, None), _name(path), notes)
    return Films((None, film.pixels), None, (None, size), _name(path), notes)


def _name(path: Path) -> str:
    return path.name.split(".")[0]
