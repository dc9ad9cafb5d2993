"""Pairs of films with what can be seen in them, and the files that hold all pairs of a patient."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import UserError
from scripts.films.options import VIEWS
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.atomic import atomic_path

# Of stored films, in the patient.
PIXEL_MM = 2.0


@dataclass(frozen=True)
class FilmCase:
    """One pair of films and what can be seen in it.

    Args:
        films: AP and LAT, (rows, columns) float32 line integrals.
        levels: (N,) places in the level table, head to foot; S1 is the last of the table.
        centroids: AP and LAT, (N, 2) pixels.
        corners: AP and LAT, (N, 4, 2) pixels, superior left, superior right, inferior right, inferior left in the
            image; NaN where unknown.
        geometry: of the films.
        complete: whether every vertebra in the films is listed.
    """

    films: tuple[np.ndarray, np.ndarray]
    levels: np.ndarray
    centroids: tuple[np.ndarray, np.ndarray]
    corners: tuple[np.ndarray, np.ndarray]
    geometry: BiplanarGeometry
    complete: bool


def on_film(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(...,) whether points (..., 2), row and column, lie on a film of (rows, columns); NaN does not."""
    with np.errstate(invalid="ignore"):
        inside: np.ndarray = ((points >= 0) & (points <= np.array(shape) - 1)).all(-1)
    return inside


def write_film_cases(path: Path, cases: list[FilmCase], subject: str = "") -> None:
    """One file with all pairs of a patient; films as float16.

    Args:
        path: of the file.
        cases: the pairs.
        subject: the patient; what the file's name begins with, up to an underscore, if empty.
    """
    about = [{"geometry": c.geometry.to_dict(), "complete": c.complete, "subject": subject} for c in cases]
    content: dict[str, Any] = {"about": json.dumps(about)}
    for i, case in enumerate(cases):
        content[f"levels{i}"] = case.levels
        for name, film, centroids, corners in zip(VIEWS, case.films, case.centroids, case.corners, strict=True):
            content[f"{name}{i}"] = film.astype(np.float16)
            content[f"{name}{i}_centroids"] = centroids.astype(np.float32)
            content[f"{name}{i}_corners"] = corners.astype(np.float32)
    with atomic_path(path) as work, work.open("wb") as stream:
        np.savez_compressed(stream, **content)


def count_pairs(path: Path) -> int:
    """How many pairs a file of `write_film_cases` holds."""
    with _opened(path) as stored:
        return len(json.loads(str(stored["about"])))


def film_subject(path: Path) -> str:
    """The patient of a file of `write_film_cases`."""
    with _opened(path) as stored:
        rows = json.loads(str(stored["about"]))
    named = rows[0].get("subject", "") if rows else ""
    return named or path.stem.split("~")[0].split("_")[0]


def read_film_case(path: Path, pair: int) -> FilmCase:
    """One pair of a file of `write_film_cases`.

    Raises:
        UserError: the file is not such a stored pair.
    """
    with _opened(path) as stored:
        row = json.loads(str(stored["about"]))[pair]
        films, centroids, corners = (
            tuple(stored[f"{name}{pair}{suffix}"].astype(np.float32) for name in VIEWS)
            for suffix in ("", "_centroids", "_corners")
        )
        geometry = BiplanarGeometry.from_dict(row["geometry"])
        return FilmCase(films, stored[f"levels{pair}"], centroids, corners, geometry, row["complete"])


def film_pairs(folder: str) -> list[tuple[Path, int]]:
    """All pairs in a folder: file and number of the pair in it.

    Args:
        folder: made by `scripts.localization.films.build_films`; or several with commas between them.

    Raises:
        UserError: the folder has no stored pairs.
    """
    paths = [path for part in folder.split(",") for path in sorted(Path(part).glob("*.npz"))]
    if not paths:
        raise UserError(f"{folder}: no stored films; make them by python -m scripts.localization.films")
    return [(path, i) for path in paths for i in range(count_pairs(path))]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as stored:
            yield stored
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no file of stored films ({error})") from error
