"""One opened case: two films, their marks, and the vertebrae reconstructed from them so far.

Everything lies in the case's own folder, so that a process that dies takes nothing with it. These functions run in the
engine's process (`scripts.serving.engine`) and take and give plain values only.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.films.film import Films
from scripts.films.mark_order import order_complaints
from scripts.films.marked_films import accepted, marks_of_films, other_films
from scripts.films.scale_check import check_scale
from scripts.io.annotations import Annotations, ViewMarks, parse_annotations, read_annotations, write_annotations
from scripts.io.documents import read_json, write_json
from scripts.levels import LEVEL_ORDER, level_name, level_number
from scripts.localization.annotate import annotate_films
from scripts.localization.warning_lines import LEVELS_UNCERTAIN
from scripts.spine.assembly import locate_vertebrae, patient_lattice
from scripts.spine.patch_levels import PatchLevels
from scripts.spine.reconstruction import Reconstruction
from scripts.spine.refine_marks import refine_marks
from scripts.viewer.choice import picture_file
from scripts.viewer.fingerprints import films_fingerprint, level_fingerprints, marks_fingerprint
from scripts.viewer.memory import (
    MARKS_FILE,
    REQUEST_FILE,
    OpenCase,
    films_of,
    keep_open,
    localizer,
    opened,
    predictor,
)
from scripts.viewer.outlines import vertebra_outline
from scripts.viewer.pictures import write_film_picture
from scripts.viewer.surface_files import forget_old, surface_file, write_surface


def warm_up() -> str:
    """Load the network; the name of its weights."""
    return predictor().weights.name


def open_case(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Read two films and their marks.

    Args:
        folder: of the case; it holds the uploaded files.
        request: ``ap``, ``lat`` and, if there are any, ``annotations`` and ``geometry``: names of files in the folder;
            ``spacing``, ``turn``, ``mirror`` and ``invert`` as in `scripts.films.options.ReadingOptions`; ``title``,
            the case's name where no marks have one.

    Returns:
        see `describe`.

    Raises:
        UserError: the films cannot be read or do not belong together.
    """
    read_case(folder, request)
    return mark_case(folder)


def read_case(folder: Path, request: dict[str, Any]) -> None:
    """The first half of `open_case`: reads the films."""
    write_json(folder / REQUEST_FILE, request)
    for view in films_of(folder).views:
        write_film_picture(picture_file(folder, view.key), view.film.pixels)


def mark_case(folder: Path) -> dict[str, Any]:
    """The second half of `open_case`: reads the marks, or finds them."""
    request = read_json(folder / REQUEST_FILE)
    films = films_of(folder)
    if request.get("annotations"):
        marks = marks_of_films(films, read_annotations(folder / request["annotations"]))
        if other_films(marks):
            # Their name is that of another case.
            marks = replace(marks, case=request.get("title", marks.case))
    else:
        found = _find_marks(films)
        marks = replace(found, case=request.get("title", found.case))
    write_annotations(folder / MARKS_FILE, marks)
    # As the file rounds them, and as the page sends them back: the same marks have the same fingerprint.
    keep_open(folder, films, read_annotations(folder / MARKS_FILE))
    return describe(folder)


def describe(folder: Path) -> dict[str, Any]:
    """What the page needs to know of a case: views, marks, levels, and what follows from the marks."""
    case = opened(folder)
    stored = read_json(folder / MARKS_FILE)
    return {
        "views": {
            v.key: {"shape": list(v.film.pixels.shape), "pixel_mm": list(v.view.pixel_mm)} for v in case.films.views
        },
        # Where the films do not know their own frame, every mark moves all others.
        "follows_marks": not case.as_read.in_one_frame,
        "films": films_fingerprint(case.as_read),
        "levels_uncertain": case.marks.levels_uncertain,
        "levels_confirmed": case.marks.levels_confirmed,
        "end_vertebrae": stored.get("end_vertebrae", []),
        "name": case.marks.case,
        "marks": stored["views"],
        **_following(folder, case),
        "levels": [
            {"name": level_name(n), "colour": "#{:02x}{:02x}{:02x}".format(*level_colour(n))} for n in LEVEL_ORDER
        ],
        "weights": predictor().weights.name,
    }


def set_marks(folder: Path, sent: dict[str, Any]) -> dict[str, Any]:
    """Replace the marks.

    Args:
        folder: of the case.
        sent: ``views``, ``levels_uncertain``, ``levels_confirmed`` and ``end_vertebrae`` as in ``annotations.json``.

    Returns:
        what follows from the marks: ``vertebrae`` with their residuals, the ``geometry`` and ``scale_sd`` (for films
        that do not know their own), ``warnings``, and fingerprints: ``keys`` of the vertebrae that were reconstructed
        at some time, and ``spine`` of all marks together. A reconstruction is of these marks if it bears its
        level's key.

    Raises:
        UserError: they are no marks of these films; the old ones stay.
    """
    case = opened(folder)
    stored = read_json(folder / MARKS_FILE)
    said = {key: bool(sent.get(key)) for key in ("levels_uncertain", "levels_confirmed")}
    document = {**stored, "views": sent["views"], **said, "end_vertebrae": sent.get("end_vertebrae", [])}
    marks = parse_annotations(document, "the marks")
    case.films.check_marks(marks)
    ap, lat = replace(marks.ap, film=case.marks.ap.film), replace(marks.lat, film=case.marks.lat.film)
    marks = replace(marks, ap=ap, lat=lat)
    if marks.levels_confirmed:
        marks = accepted(case.as_read, marks)
    for key, view in (("ap", marks.ap), ("lat", marks.lat)):
        document["views"][key]["film"] = view.film
    document["warnings"] = list(marks.warnings)
    # Films that know their own scale and frame stay as they are, and with them all that was reconstructed.
    case = keep_open(folder, case.as_read, marks, case.session)
    write_json(folder / MARKS_FILE, document)
    return _following(folder, case)


def reconstruct_level(folder: Path, name: str) -> dict[str, Any]:
    """One vertebra; at once if nothing it depends on has changed.

    Args:
        folder: of the case.
        name: of the level.

    Returns:
        ``level``, ``key`` and ``spine`` (see `set_marks`), ``marks`` that it was made from, ``residual_mm``,
        ``volume_cm3``, ``seconds``, ``outlines`` (polygons of film pixels a view). Whether it may be used is asked of
        all together (`scripts.viewer.measure`): neighbours take part in that.

    Raises:
        UserError: it is not marked in both views, its marks do not belong together, or nothing was found there.
    """
    case, level = opened(folder), level_number(name)
    started = time.perf_counter()
    part = case.session.reconstruct(case.marks, [level]).parts[0]
    if not part.found:
        raise UserError(f"{name}: the network found no vertebra at its marks")
    key = level_fingerprints(case, [level])[name]
    path = surface_file(folder, name, key)
    if not path.is_file():
        write_surface(path, part)
    path.touch()
    forget_old(folder, name)
    grid, geometry = part.vertebra.cube.grid, case.films.geometry
    return {
        "level": name,
        "key": key,
        "spine": marks_fingerprint(case),
        "marks": {n: list(m.by_level()[level].centroid) for n, m in (("ap", case.marks.ap), ("lat", case.marks.lat))},
        "residual_mm": round(part.vertebra.residual_mm, 2),
        "volume_cm3": round(float(part.mask.sum()) * grid.spacing_mm**3 / 1000, 1),
        "outlines": {n: vertebra_outline(part, v) for n, v in (("ap", geometry.ap), ("lat", geometry.lat))},
        "seconds": round(time.perf_counter() - started, 3),
    }


def reconstruction_of(folder: Path, names: list[str]) -> tuple[OpenCase, Reconstruction, dict[str, str]]:
    """The case, some of its vertebrae together, and their fingerprints.

    Raises:
        UserError: one of them was not reconstructed from the present marks, or see
            `scripts.spine.session.Session.reconstruct`.
    """
    case = opened(folder)
    levels = [level_number(name) for name in names]
    keys = level_fingerprints(case, [level for level in levels if level in case.marks.paired_levels()])
    old = [name for name in names if name not in keys or not surface_file(folder, name, keys[name]).is_file()]
    if old:
        raise UserError(f"outdated or not reconstructed: {', '.join(old)}. Reconstruct again, or untick what is old")
    return case, case.session.reconstruct(case.marks, levels), keys


def _find_marks(films: Films) -> Annotations:
    """What the networks find; none where they find nothing, so that they can be set by hand."""
    try:
        found, _ = annotate_films(films, localizer(), read_patches=PatchLevels(predictor()))
        return refine_marks(films, found, predictor())
    except UserError:
        return Annotations(ViewMarks(films.shapes[0], ()), ViewMarks(films.shapes[1], ()))


def _warnings(case: OpenCase) -> list[str]:
    """Of the order of the marks, of the films, and of the annotation network as long as its marks are as it set them.

    That levels are uncertain is asked on the page, not listed here.
    """
    marks = [mark for view in (case.marks.ap, case.marks.lat) for mark in view.marks]
    # A mark with another name than the network gave it has no probabilities of names any more.
    as_found = all(mark.set_by == "model" and mark.level_posterior for mark in marks)
    own = case.marks.warnings if as_found else ()
    found = [line for line in own if not line.startswith(LEVELS_UNCERTAIN)]
    refusals, order = order_complaints(case.marks)
    # Marks that run the wrong way have no size that could be questioned.
    scale = [] if refusals else check_scale(case.films, case.marks)
    return list(dict.fromkeys([*other_films(case.marks), *refusals, *order, *scale, *case.films.warnings, *found]))


def _following(folder: Path, case: OpenCase) -> dict[str, Any]:
    """What follows from the marks, see `set_marks`."""
    seen = {path.name.split(".")[0] for path in folder.glob("*.mesh")}
    made = [number for number in case.marks.paired_levels() if level_name(number) in seen]
    try:
        keys = level_fingerprints(case, made) if made else {}
    except UserError:
        # Nothing can be made from such marks, so that nothing was; the warnings say why.
        keys = {}
    return {
        "vertebrae": _rows(case),
        "geometry": case.films.geometry.to_dict(),
        "scale_sd": list(case.films.scale_sd),
        "warnings": _warnings(case),
        "keys": keys,
        "made": [name for name, key in keys.items() if surface_file(folder, name, key).is_file()],
        "spine": marks_fingerprint(case),
    }


def _rows(case: OpenCase) -> list[dict[str, Any]]:
    if not case.marks.paired_levels():
        return []
    geometry = case.films.geometry
    return [
        {
            "level": level_name(vertebra.level),
            "residual_mm": round(vertebra.residual_mm, 2),
            "centroid_mm": [round(value, 2) for value in vertebra.cube.body_centroid_mm],
        }
        for vertebra in locate_vertebrae(case.marks, geometry, patient_lattice(geometry))
    ]
