"""The whole main job, films on disk to a measured spine: what the command line, the hospital's services and the MONAI
Deploy application have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.films.inputs import read_films
from scripts.io.annotations import Annotations, read_annotations
from scripts.io.dicom_out.export import export_dicom
from scripts.localization.annotate import annotate_films
from scripts.localization.localizer import Localizer
from scripts.networks.predictor import Predictor
from scripts.spine.output import DEFAULT_OUTPUT, OutputOptions, write_reconstruction
from scripts.spine.reconstruction import FilmPair, Reconstruction, read_film_pair, reconstruct_pair

DICOM_FOLDER = "dicom"


@dataclass(frozen=True)
class Job:
    """Two films, and what is known and wanted of them.

    Args:
        ap: frontal film, or a folder that holds it.
        lat: lateral film, or a folder that holds it; it may be the same folder.
        annotations: marks; found by the annotation network if None.
        geometry: how the films were taken, see `scripts.io.geometry_file`.
        spacing: mm a pixel in the patient of the AP and of the LAT film, where they do not say it.
        mirror: films to mirror left to right, of ``ap`` and ``lat``.
        invert: films whose bones are dark.
        levels: VerSe numbers to reconstruct; all that are marked in both films if empty.
    """

    ap: Path
    lat: Path
    annotations: Path | None = None
    geometry: Path | None = None
    spacing: tuple[float, float] | None = None
    mirror: tuple[str, ...] = ()
    invert: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()

    @property
    def film_options(self) -> dict[str, Any]:
        """What `read_pair` takes besides the files."""
        return {"spacing": self.spacing, "mirror": self.mirror, "invert": self.invert}


class Networks:
    """Both networks, each loaded when it is first needed, and then kept.

    Args:
        weights: of the generator; the bundle's own if None.
        localizer_weights: of the annotation network, likewise.
        device: torch device; CUDA if there is one and None is given.
        batch_size: vertebrae at a time.
        precision: of the generator; see `choose_precision`.
    """

    def __init__(
        self,
        weights: Path | None = None,
        localizer_weights: Path | None = None,
        device: str | None = None,
        batch_size: int = 4,
        precision: str = "auto",
    ) -> None:
        self._weights, self._localizer_weights = weights, localizer_weights
        self._device, self._batch_size, self._precision = device, batch_size, precision

    @cached_property
    def predictor(self) -> Predictor:
        """Patches to vertebrae."""
        return Predictor(self._weights, self._device, self._batch_size, precision=self._precision, fit_shapes=True)

    @cached_property
    def localizer(self) -> Localizer:
        """Films to marks."""
        return Localizer(self._localizer_weights, self._device)


def find_marks(job: Job, networks: Networks) -> Annotations:
    """The job's own marks, or those that the annotation network finds.

    Raises:
        UserError: the films or marks cannot be read, or show no vertebra.
    """
    if job.annotations is not None:
        return read_annotations(job.annotations)
    films = read_films(job.ap, job.lat, job.geometry, **job.film_options)
    return annotate_films(films, networks.localizer)[0]


def reconstruct_films(job: Job, marks: Annotations, networks: Networks) -> tuple[FilmPair, Reconstruction]:
    """The films, in one frame and with a scale, and the spine in memory.

    Raises:
        UserError: see `read_film_pair` and `reconstruct_pair`.
    """
    films = read_film_pair(job.ap, job.lat, job.geometry, marks, **job.film_options)
    result = reconstruct_pair(films, marks, networks.predictor, list(job.levels) or None)
    result.warnings.extend(line for line in marks.warnings if line not in result.warnings)
    return films, result


def run_job(
    job: Job,
    output: Path,
    networks: Networks,
    truth: Path | None = None,
    dicom: bool = False,
    options: OutputOptions = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Films to a folder, whole or not at all.

    Args:
        job: what to reconstruct.
        output: see `write_reconstruction`.
        networks: both.
        truth: true labelmap to compare with.
        dicom: also write ``dicom/``, with patient and study of DICOM films.
        options: what else the folder holds.

    Returns:
        the content of ``report.json``.

    Raises:
        UserError: as of the steps.
    """
    marks = find_marks(job, networks)
    films, result = reconstruct_films(job, marks, networks)
    report = write_reconstruction(output, films, marks, result, networks.predictor, truth, options)
    if dicom:
        export_dicom(output, output / DICOM_FOLDER, list(films.headers))
    return report
