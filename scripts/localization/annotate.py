"""The verb ``annotate``: films in, ``annotations.json`` and ``annotations.png`` out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from scripts.errors import UserError
from scripts.films.film import Films
from scripts.films.marked_films import marks_of_films
from scripts.io.annotations import Annotations, Mark, write_annotations
from scripts.io.atomic import check_file
from scripts.io.inputs import keep_inputs
from scripts.levels import LEVEL_ORDER, USUAL_LEVELS, in_order
from scripts.localization.anchors import Anchor
from scripts.localization.found import Localization, to_annotations
from scripts.localization.localizer import Localizer
from scripts.localization.picture import draw_annotations, write_picture

# Films and what was found in them -> as of `scripts.localization.patch_levels.PatchReader`.
FilmPatchReader = Callable[[Films, Localization], np.ndarray | None]


def annotate_films(
    films: Films,
    localizer: Localizer,
    interpolate: bool = False,
    anchors: Sequence[Anchor] = (),
    read_patches: FilmPatchReader | None = None,
) -> tuple[Annotations, Localization]:
    """Marks of all vertebrae of a pair of films, or of one film alone.

    Args:
        films: what to annotate.
        localizer: the network.
        interpolate: add vertebrae that no view shows between two that are not neighbours, flagged, confidence 0.
        anchors: what the user says of levels.
        read_patches: a second opinion on levels (`scripts.spine.patch_levels`); without it the films alone say them.

    Raises:
        UserError: there is no vertebra in the films, or the anchors do not fit what is found.

    >>> from scripts.films.pair import read_films
    >>> from scripts.levels import level_name
    >>> from scripts.paths import BUNDLE_ROOT
    >>> sample = BUNDLE_ROOT / "docs" / "sample"
    >>> films = read_films(sample / "ap.nii.gz", sample / "lat.nii.gz")
    >>> marks, found = annotate_films(films, Localizer(device="cpu"))
    >>> [level_name(number) for number in marks.paired_levels()][-3:]
    ['L1', 'L2', 'L3']
    """
    sizes = (films.ap.spacing_mm, films.lat.spacing_mm)
    reader = partial(read_patches, films) if read_patches else None
    found = localizer(*films.shown, films.geometry if films.in_one_frame else None, sizes, anchors, reader)
    annotations = to_annotations(found, films.shapes, films.name)
    empty = [
        f"{view.name}: no vertebra was found in this film: is it the right one, are its bones bright (--invert)?"
        for view, marks in zip(films.views, (annotations.ap, annotations.lat), strict=True)
        if view.film.there and not marks.marks
    ]
    annotations = replace(annotations, warnings=(*empty, *films.warnings, *annotations.warnings))
    annotations = marks_of_films(films, annotations)
    return (fill_gaps(annotations) if interpolate else annotations), found


def check_annotated(output: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse, before any work is done, where `write_annotated` could not write or would write over what is the user's.

    Args:
        output: the marks' file.
        inputs: what is read.

    Raises:
        UserError: the picture would have the name of the marks, one of the two files is an input or cannot be written,
            or a picture is there that belongs to no earlier marks.
    """
    if output.suffix.lower() == ".png":
        raise UserError(f"{output}: is the name of the picture; give the marks' file another, as annotations.json")
    picture = output.with_suffix(".png")
    keep_inputs((output, picture), inputs)
    if picture.exists() and not output.exists():
        raise UserError(f"{picture}: is there already, and the picture of {output} would replace it")
    for path in (output, picture):
        check_file(path)


def write_annotated(output: Path, films: Films, annotations: Annotations, found: Localization) -> Path:
    """Write ``annotations.json`` and the picture beside it; returns the picture's path."""
    output.parent.mkdir(parents=True, exist_ok=True)
    picture = output.with_suffix(".png")
    drawn = draw_annotations(films.shown, annotations, found.pixel_mm, annotations.case)
    write_annotations(output, annotations)
    write_picture(picture, drawn)
    return picture


def fill_gaps(annotations: Annotations) -> Annotations:
    """Evenly spaced marks, flagged as interpolated, for levels that a view lacks between two that it has."""
    views = []
    for view in (annotations.ap, annotations.lat):
        marks = view.by_level()
        added: dict[int, Mark] = {}
        have = in_order(list(marks))
        for upper, lower in itertools.pairwise(have):
            below, above = LEVEL_ORDER.index(upper) + 1, LEVEL_ORDER.index(lower)
            between = [n for n in LEVEL_ORDER[below:above] if n in USUAL_LEVELS]
            first, last = np.array(marks[upper].centroid), np.array(marks[lower].centroid)
            for i, number in enumerate(between, start=1):
                row, column = first + (last - first) * i / (len(between) + 1)
                added[number] = Mark(number, (float(row), float(column)), None, 0.0, "model", None, interpolated=True)
        views.append(replace(view, marks=tuple({**marks, **added}[n] for n in in_order([*marks, *added]))))
    return replace(annotations, ap=views[0], lat=views[1])
