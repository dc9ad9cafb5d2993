"""The main job: two radiographs and their marks in, a spine out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.pair import read_pair
from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.geometry.frames import Grid
from scripts.io.annotations import Annotations
from scripts.levels import level_name
from scripts.networks.predictor import Predictor
from scripts.spine.assembly import LocatedVertebra, Part

if TYPE_CHECKING:
    from pydicom import Dataset

WARN_RESIDUAL_MM = 3.0
MAX_RESIDUAL_MM = 20.0


@dataclass(frozen=True)
class FilmPair:
    """Two radiographs of one patient.

    Args:
        ap: (rows, columns) float32, bones bright.
        lat: likewise.
        geometry: of both.
        warnings: what was assumed when they were read.
        scale_sd: relative standard deviation of each film's scale, 0 where it is known.
        headers: of DICOM films, for references in DICOM outputs only: they identify the patient.
    """

    ap: np.ndarray
    lat: np.ndarray
    geometry: BiplanarGeometry
    warnings: tuple[str, ...] = ()
    scale_sd: tuple[float, float] = (0.0, 0.0)
    headers: tuple[Dataset | None, Dataset | None] = field(default=(None, None), repr=False)


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed spine in memory.

    Args:
        parts: vertebrae, head to foot.
        labels: (I, P, L) uint8, VerSe numbers.
        grid: of the labels.
        seconds: how long each step took.
        warnings: what the user should know.
        computed: vertebrae that went through the network in this call; the others were known.
    """

    parts: list[Part]
    labels: np.ndarray
    grid: Grid
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    computed: int = 0

    @property
    def vertebrae(self) -> list[LocatedVertebra]:
        """Where the vertebrae are, head to foot."""
        return [part.vertebra for part in self.parts]

    @property
    def probabilities(self) -> list[np.ndarray]:
        """One (120, 120, 120) float32 cube each, overlaps resolved."""
        return [part.probability for part in self.parts]


def read_film_pair(
    ap_path: Path,
    lat_path: Path,
    geometry_path: Path | None = None,
    annotations: Annotations | None = None,
    **options: Any,
) -> FilmPair:
    """Both radiographs, checked against each other, in one frame and with a scale.

    Args:
        ap_path: frontal film, or a folder that holds it.
        lat_path: lateral film, or a folder that holds it.
        geometry_path: see `scripts.io.geometry_file`.
        annotations: marks, from which films take the scale and the common frame that their files do not have.
        options: see `read_pair`.

    Raises:
        UserError: see `read_pair` and `calibrate`.
    """
    pair = read_pair(ap_path, lat_path, geometry=geometry_path, **options)
    if annotations is not None:
        pair = calibrate(pair, annotations)
    headers = (pair.ap.header, pair.lat.header)
    return FilmPair(pair.ap.pixels, pair.lat.pixels, pair.geometry, pair.assumptions, pair.scale_sd, headers)


def reconstruct_pair(
    films: FilmPair, annotations: Annotations, predictor: Predictor, levels: list[int] | None = None
) -> Reconstruction:
    """All marked vertebrae of a film pair, once, with a progress bar; see `scripts.spine.session.Session`.

    Args:
        films: the radiographs.
        annotations: their marks.
        predictor: the network.
        levels: VerSe numbers to reconstruct; all that are marked in both views if None.

    Raises:
        UserError: the marks do not belong to these films, or a level cannot be found.
    """
    from scripts.spine.session import Progress, Session

    with tqdm(desc="vertebrae", unit="vertebra", delay=0.1) as bar:

        def show(step: Progress) -> None:
            if step.stage == "network":
                bar.total = step.total
                bar.update(step.done - bar.n)

        return Session(films, predictor).reconstruct(annotations, levels, show)


def check_marks(films: FilmPair, annotations: Annotations) -> None:
    """Raise a UserError if marks were set on films of another size."""
    for name, film, view in (("AP", films.ap, annotations.ap), ("LAT", films.lat, annotations.lat)):
        if film.shape != view.shape:
            raise UserError(f"the {name} marks were set on a film of {view.shape}, this one has {film.shape} pixels")


def residual_warnings(vertebrae: list[LocatedVertebra]) -> list[str]:
    """What is worth knowing about the residuals of the marks.

    Raises:
        UserError: a residual that no single vertebra can have.
    """
    worst = max(vertebrae, key=lambda v: v.residual_mm)
    if worst.residual_mm > MAX_RESIDUAL_MM:
        raise UserError(
            f"the two marks of {level_name(worst.level)} miss each other by {worst.residual_mm:.0f} mm: marks of "
            "different vertebrae, films of different patients, or a view swapped"
        )
    return [
        f"{level_name(v.level)}: the marks of the two views miss each other by {v.residual_mm:.1f} mm"
        for v in vertebrae
        if v.residual_mm > WARN_RESIDUAL_MM
    ]


def pixel_size(view: View) -> tuple[float, float]:
    """Size of a film's pixel in the plane of its isocentre, along (rows, columns), mm."""
    size = view.pixel_size_mm(np.asarray(view.isocentre_mm))[0]
    return float(size[0]), float(size[1])
