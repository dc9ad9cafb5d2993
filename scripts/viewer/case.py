"""One opened case: two films, their marks, and the vertebrae reconstructed from them so far.

Everything lies in the case's own folder, so that a process that dies takes nothing with it. These functions run in the
engine's process (`scripts.viewer.engine`) and take and give plain values only.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.geometry.cropping import network_input, smooth_for_pitch
from scripts.io.annotations import Annotations, ViewMarks, read_annotations, write_annotations
from scripts.io.atomic import write_text
from scripts.levels import LEVEL_ORDER, level_name, level_number
from scripts.networks.predictor import Predictor
from scripts.spine.assembly import LocatedVertebra, largest_component, locate_vertebrae, patient_lattice
from scripts.spine.mesh import vertebra_mesh
from scripts.spine.reconstruct import MAX_RESIDUAL_MM, FilmPair, pixel_size, read_film_pair
from scripts.viewer.outlines import vertebra_outline

MARKS_FILE = "annotations.json"
REQUEST_FILE = "request.json"


@dataclass
class Piece:
    """A reconstructed vertebra.

    Args:
        key: of the marks and films it was made from.
        vertebra: where it lies.
        probability: (120, 120, 120) float32.
    """

    key: str
    vertebra: LocatedVertebra
    probability: np.ndarray


@dataclass
class OpenCase:
    """A case in memory; all of it can be read again from its folder."""

    films: FilmPair
    smooth: tuple[torch.Tensor, torch.Tensor]
    marks: Annotations
    pieces: dict[int, Piece] = field(default_factory=dict)


_OPEN: dict[Path, OpenCase] = {}


@cache
def predictor() -> Predictor:
    """The network, loaded once a process."""
    return Predictor(batch_size=1)


def warm_up() -> str:
    """Load the network; the name of its weights."""
    return predictor().weights.name


def open_case(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Read two films and their marks.

    Args:
        folder: of the case; it holds the uploaded files.
        request: ``ap``, ``lat`` and, if there are any, ``annotations`` and ``geometry``: names of files in the folder;
            ``spacing``, ``mirror`` and ``invert`` as in `scripts.io.radiographs.pair.read_pair`; ``name`` of the case.

    Returns:
        see `describe`.

    Raises:
        UserError: the films cannot be read or do not belong together.
    """
    write_text(folder / REQUEST_FILE, json.dumps(request))
    if request.get("annotations"):
        marks = read_annotations(folder / request["annotations"])
    else:
        marks = _find_marks(folder, request)
    write_annotations(folder / MARKS_FILE, marks)
    _OPEN.pop(folder, None)
    case = opened(folder)
    for name, film in (("ap", case.films.ap), ("lat", case.films.lat)):
        _write_picture(folder / f"{name}.png", film)
    return describe(folder)


def describe(folder: Path) -> dict[str, Any]:
    """What the page needs to know of a case: views, geometry, marks, residuals, warnings."""
    case = opened(folder)
    views = {}
    for name, film, view in (("ap", case.films.ap, case.films.geometry.ap), ("lat", case.films.lat, case.films.geometry.lat)):
        views[name] = {"shape": list(film.shape), "pixel_mm": list(pixel_size(view))}
    return {
        "views": views,
        "geometry": case.films.geometry.to_dict(),
        "scale_sd": list(case.films.scale_sd),
        "warnings": list(case.films.warnings),
        "name": case.marks.case,
        "marks": json.loads((folder / MARKS_FILE).read_text())["views"],
        "vertebrae": _rows(case),
        "levels": [{"name": level_name(n), "colour": "#{:02x}{:02x}{:02x}".format(*level_colour(n))} for n in LEVEL_ORDER],
        "weights": predictor().weights.name,
    }


def set_marks(folder: Path, views: dict[str, Any]) -> dict[str, Any]:
    """Replace the marks.

    Args:
        folder: of the case.
        views: as in ``annotations.json``.

    Returns:
        ``vertebrae`` (residual and whether it is reconstructed as marked), and the geometry, which follows the marks
        where the films do not know their own.

    Raises:
        UserError: they are no marks of these films; the old ones stay.
    """
    case = opened(folder)
    proposal = folder / ".proposed.json"
    stored = json.loads((folder / MARKS_FILE).read_text())
    write_text(proposal, json.dumps({**stored, "views": views}))
    marks = read_annotations(proposal)
    for name, film, view in (("AP", case.films.ap, marks.ap), ("LAT", case.films.lat, marks.lat)):
        if film.shape != view.shape:
            raise UserError(f"the {name} marks were set on a film of {view.shape}, this one has {film.shape} pixels")
    proposal.replace(folder / MARKS_FILE)
    pieces = case.pieces
    _OPEN.pop(folder)
    case = opened(folder)
    case.pieces.update(pieces)
    return {"vertebrae": _rows(case), "geometry": case.films.geometry.to_dict(), "warnings": list(case.films.warnings)}


def reconstruct_level(folder: Path, name: str) -> dict[str, Any]:
    """One vertebra; at once if nothing it depends on has changed.

    Args:
        folder: of the case.
        name: of the level.

    Returns:
        ``level``, ``key`` (of the mesh), ``confidence``, ``residual_mm``, ``volume_cm3``, ``seconds``, ``outlines``
        (polygons of film pixels a view).

    Raises:
        UserError: it is not marked in both views, its marks do not belong together, or nothing was found there.
    """
    case, level = opened(folder), level_number(name)
    started = time.perf_counter()
    vertebra = _locate(case, level)
    if vertebra.residual_mm > MAX_RESIDUAL_MM:
        raise UserError(f"{name}: its two marks miss each other by {vertebra.residual_mm:.0f} mm")
    key = _key(case, level)
    piece = case.pieces.get(level)
    if piece is None or piece.key != key:
        geometry = case.films.geometry
        inputs = [network_input(case.smooth, vertebra.pixels, geometry, vertebra.cube)]
        probability = largest_component(next(iter(predictor()(inputs))))
        if not (probability > 0.5).any():
            raise UserError(f"{name}: the network found no vertebra at its marks")
        piece = Piece(key, vertebra, probability)
        _write_surface(folder / f"{name}.mesh", piece)
        case.pieces[level] = piece
    mask = piece.probability > 0.5
    grid = piece.vertebra.cube.grid
    geometry = case.films.geometry
    return {
        "level": name,
        "key": key,
        "confidence": round(float(piece.probability[mask].mean()), 3),
        "residual_mm": round(vertebra.residual_mm, 2),
        "volume_cm3": round(float(mask.sum()) * grid.spacing_mm**3 / 1000, 1),
        "outlines": {n: vertebra_outline(mask, grid, v) for n, v in (("ap", geometry.ap), ("lat", geometry.lat))},
        "seconds": round(time.perf_counter() - started, 3),
    }


def pieces_of(folder: Path, names: list[str]) -> tuple[OpenCase, list[Piece]]:
    """The case, and its reconstructed vertebrae head to foot; those that are missing are made."""
    for name in names:
        reconstruct_level(folder, name)
    case = opened(folder)
    wanted = {level_number(name) for name in names}
    return case, [case.pieces[number] for number in case.marks.paired_levels() if number in wanted]


def opened(folder: Path) -> OpenCase:
    """The case in memory, read from its folder if this process has not seen it yet."""
    if folder not in _OPEN:
        request = json.loads((folder / REQUEST_FILE).read_text())
        marks = read_annotations(folder / MARKS_FILE)
        films = _read_films(folder, request, marks)
        smooth = [
            torch.from_numpy(smooth_for_pitch(film, pixel_size(view)))
            for film, view in ((films.ap, films.geometry.ap), (films.lat, films.geometry.lat))
        ]
        _OPEN[folder] = OpenCase(films, (smooth[0], smooth[1]), marks)
    return _OPEN[folder]


def _read_films(folder: Path, request: dict[str, Any], marks: Annotations | None) -> FilmPair:
    geometry = folder / request["geometry"] if request.get("geometry") else None
    spacing = request.get("spacing")
    options = {
        "spacing": tuple(spacing) if spacing else None,
        "mirror": request.get("mirror", []),
        "invert": request.get("invert", []),
    }
    paired = marks if marks is not None and marks.paired_levels() else None
    return read_film_pair(folder / request["ap"], folder / request["lat"], geometry, paired, **options)


def _find_marks(folder: Path, request: dict[str, Any]) -> Annotations:
    """No marks were given: none to begin with."""
    films = _read_films(folder, request, None)
    shapes = [(film.shape[0], film.shape[1]) for film in (films.ap, films.lat)]
    return Annotations(ViewMarks(shapes[0], ()), ViewMarks(shapes[1], ()), str(request.get("name", "")))


def _locate(case: OpenCase, level: int) -> LocatedVertebra:
    geometry = case.films.geometry
    return locate_vertebrae(case.marks, geometry, patient_lattice(geometry), [level])[0]


def _key(case: OpenCase, level: int) -> str:
    marks = [view.by_level()[level].centroid for view in (case.marks.ap, case.marks.lat)]
    facts = json.dumps([marks, case.films.geometry.to_dict(), str(predictor().weights)])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _rows(case: OpenCase) -> list[dict[str, Any]]:
    rows = []
    for number in case.marks.paired_levels():
        vertebra = _locate(case, number)
        piece = case.pieces.get(number)
        rows.append(
            {
                "level": level_name(number),
                "residual_mm": round(vertebra.residual_mm, 2),
                "centroid_mm": [round(value, 2) for value in vertebra.cube.body_centroid_mm],
                "reconstructed": piece is not None and piece.key == _key(case, number),
            }
        )
    return rows


def _write_surface(path: Path, piece: Piece) -> None:
    """Little-endian: number of vertices, number of triangles (uint32), positions (float32, RAS mm), indices (uint32)."""
    mesh = vertebra_mesh(piece.probability, piece.vertebra.cube.grid.affine)
    counts = np.array([len(mesh.vertices), len(mesh.faces)], "<u4")
    work = path.with_name(f".{path.name}")
    work.write_bytes(counts.tobytes() + mesh.vertices.astype("<f4").tobytes() + mesh.faces.astype("<u4").tobytes())
    work.replace(path)


def _write_picture(path: Path, film: np.ndarray) -> None:
    low, high = np.percentile(film, (0.2, 99.8))
    grey = np.clip((film - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(path)
