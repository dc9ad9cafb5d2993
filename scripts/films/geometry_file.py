"""``--geometry FILE``: the acquisition in a few lines of YAML, or an exact geometry as ``prepare`` writes it.

The YAML form is described by ``geometry.schema.json`` and docs/films.md; it says what a header would say (distances,
spacing, where the source stood). The exact form holds both views in full (`BiplanarGeometry.to_dict`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Optics
from scripts.geometry.biplanar import Beam, BiplanarGeometry
from scripts.io.documents import check_schema, read_small

SCHEMA_FILE = Path(__file__).with_name("geometry.schema.json")
REVERSED_SOURCES = ("posterior", "right")


@dataclass(frozen=True)
class PairSetup:
    """What a geometry file says.

    Args:
        exact: both views in full; if given the rest says nothing.
        ap: optics of the frontal film.
        lat: optics of the lateral film.
        ap_spacing_mm: (row, column) in the plane of the isocentre, None if left to the film.
        lat_spacing_mm: (row, column) in the plane of the isocentre, None if left to the film.
    """

    exact: BiplanarGeometry | None = None
    ap: Optics = field(default_factory=Optics)
    lat: Optics = field(default_factory=Optics)
    ap_spacing_mm: tuple[float, float] | None = None
    lat_spacing_mm: tuple[float, float] | None = None


def read_geometry(path: Path) -> PairSetup:
    """Read and check a geometry file.

    Raises:
        UserError: missing, neither YAML nor JSON, a number that is not finite, against the schema, or impossible.
    """
    document = read_small(path, "geometry file")
    if isinstance(document, dict) and isinstance(document.get("ap"), dict) and "row_direction" in document["ap"]:
        try:
            return PairSetup(exact=BiplanarGeometry.from_dict(document))
        except (UserError, AttributeError) as error:
            raise UserError(f"{path}: not a readable geometry file ({error})") from error
    check_schema(document, SCHEMA_FILE, str(path))
    beam, together = Beam(document["beam"]), bool(document.get("simultaneous", False))
    (ap, ap_spacing), (lat, lat_spacing) = (
        _view(document.get(name) or {}, beam, together, f"{path}: at $.{name}") for name in ("ap", "lat")
    )
    return PairSetup(None, ap, lat, ap_spacing, lat_spacing)


def _view(values: dict[str, Any], beam: Beam, together: bool, where: str) -> tuple[Optics, tuple[float, float] | None]:
    to_detector, to_isocentre = values.get("source_to_detector_mm"), values.get("source_to_isocentre_mm")
    if beam is not Beam.PARALLEL:
        if to_detector is None or to_isocentre is None:
            raise UserError(f"{where}: a {beam.value} beam needs source_to_detector_mm and source_to_isocentre_mm")
        if to_isocentre >= to_detector:
            raise UserError(f"{where}: the isocentre lies beyond the detector ({to_isocentre:g} >= {to_detector:g} mm)")
    elif to_detector is not None or to_isocentre is not None:
        raise UserError(f"{where}: a parallel beam has no source distances; is it a cone?")
    point = values.get("principal_point")
    optics = Optics(
        beam=beam,
        source_to_detector_mm=to_detector,
        source_to_isocentre_mm=to_isocentre,
        reversed=values["source"] in REVERSED_SOURCES if "source" in values else None,
        principal_point=None if point is None else (float(point[0]), float(point[1])),
        turned_deg=tuple(float(values.get(f"{name}_deg", 0.0)) for name in ("yaw", "pitch", "roll")),  # type: ignore[arg-type]
        simultaneous=together,
    )
    given = values.get("pixel_spacing_mm")
    if given is None:
        return optics, None
    spacing = np.broadcast_to(np.asarray(given, float), 2)
    if values.get("spacing_at", "isocentre") == "detector":
        spacing = spacing / optics.magnification
    return optics, (float(spacing[0]), float(spacing[1]))
