"""Parts of stored films, as collimated films show them: a few vertebrae, and little beside them.

``python -m scripts.localization.film_parts --films FILMS --output PARTS [--parts 4] [--seed 0]`` cuts parts from every
pair of a folder made by `scripts.localization.films`, for `evaluate-localization`. C1, C2 and the sacrum are in none of
them, so that the levels cannot be counted from an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scripts.command import run_module
from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.localization.film_cases import FilmCase, film_pairs, film_subject, read_film_case, write_film_cases
from scripts.localization.levels import NAMES, S1_INDEX


@dataclass(frozen=True)
class PartOptions:
    """How parts are cut; each pair is the smallest and the largest that is drawn.

    Args:
        vertebrae: that a part shows.
        beyond: of the film above the first and below the last centroid, in distances of neighbours.
        beside_mm: of the film beside the outermost centroids.
    """

    vertebrae: tuple[int, int] = (4, 8)
    beyond: tuple[float, float] = (0.6, 1.0)
    beside_mm: tuple[float, float] = (35.0, 90.0)


def cut_part(case: FilmCase, options: PartOptions, rng: np.random.Generator) -> FilmCase | None:
    """A part of a film pair; None if it shows too few vertebrae between C2 and the sacrum.

    Args:
        case: the pair.
        options: how large a part is.
        rng: source.
    """
    shown = [
        ((points >= 0) & (points < film.shape)).all(1) for points, film in zip(case.centroids, case.films, strict=True)
    ]
    inner = (case.levels > NAMES.index("C2")) & (case.levels != S1_INDEX)
    listed = np.flatnonzero(inner & shown[0] & shown[1])
    least, most = options.vertebrae
    if len(listed) < least:
        return None
    count = int(rng.integers(least, min(most, len(listed)) + 1))
    first = int(rng.integers(len(listed) - count + 1))
    part = listed[first : first + count]
    films, centroids, corners, views = [], [], [], []
    geometry = case.geometry
    for which, view in enumerate((geometry.ap, geometry.lat)):
        points, film = case.centroids[which][part], case.films[which]
        pitch = float(np.median(np.abs(np.diff(points[:, 0]))))
        room = np.stack(
            [rng.uniform(*options.beyond, 2) * pitch, rng.uniform(*options.beside_mm, 2) / view.pixel_mm[1]]
        )
        start = np.maximum(points.min(0) - room[:, 0], 0).astype(int)
        stop = np.minimum(points.max(0) + room[:, 1] + 1, film.shape).astype(int)
        films.append(film[start[0] : stop[0], start[1] : stop[1]])
        centroids.append(case.centroids[which] - start)
        corners.append(case.corners[which] - start)
        views.append(_cut_view(view, start, films[-1].shape))
    return replace(
        case,
        films=(films[0], films[1]),
        centroids=(centroids[0], centroids[1]),
        corners=(corners[0], corners[1]),
        geometry=BiplanarGeometry(views[0], views[1]),
    )


def _cut_view(view: View, start: np.ndarray, shape: tuple[int, ...]) -> View:
    row, column = np.array(view.principal_point) - start
    return replace(view, principal_point=(float(row), float(column)), shape=(shape[0], shape[1]))


def cut_parts(films: str, output: Path, parts: int = 4, seed: int = 0) -> None:
    """Write parts of every pair, one file for each file of films.

    Args:
        films: folder made by `scripts.localization.films`.
        output: folder.
        parts: of each pair.
        seed: of them.

    Raises:
        UserError: there are no films, or none shows enough vertebrae.
    """
    rng = np.random.default_rng(seed)
    cut: dict[Path, list[FilmCase]] = {}
    for path, pair in film_pairs(films):
        found = (cut_part(read_film_case(path, pair), PartOptions(), rng) for _ in range(parts))
        cut.setdefault(path, []).extend(part for part in found if part is not None)
    if not any(cut.values()):
        raise UserError(f"{films}: no film pair shows {PartOptions().vertebrae[0]} vertebrae between C2 and the sacrum")
    output.mkdir(parents=True, exist_ok=True)
    for path, cases in cut.items():
        if cases:
            write_film_cases(output / path.name, cases, film_subject(path))
        print(f"{path.stem}: {len(cases)} parts")


if __name__ == "__main__":
    run_module(cut_parts)
