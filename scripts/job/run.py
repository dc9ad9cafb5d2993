"""The whole main job, films on disk to a measured spine: what the command line, the hospital's services and the MONAI
Deploy application have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.export.export import export_dicom
from scripts.films.calibration import calibrate
from scripts.films.film import Films
from scripts.films.pair import read_films
from scripts.io.annotations import Annotations, read_annotations
from scripts.job.output import DEFAULT_OUTPUT, OutputOptions, write_reconstruction
from scripts.localization.anchors import Anchor, renumber
from scripts.localization.annotate import annotate_films
from scripts.localization.localizer import Localizer
from scripts.reconstruction.predictor import Predictor
from scripts.spine.reconstruction import Reconstruction
from scripts.spine.session import reconstruct_films

DICOM_FOLDER = "dicom"


@dataclass(frozen=True)
class Job:
    """Two films, and what is known and wanted of them.

    Args:
        ap: frontal film, or a folder that holds it.
        lat: lateral film, or a folder that holds it; it may be the same folder.
        annotations: marks; found by the annotation network if None.
        geometry: how the films were taken, see `scripts.films.geometry_file`.
        spacing: mm a pixel in the patient of the AP and of the LAT film, where they do not say it.
        mirror: films to mirror left to right, of ``ap`` and ``lat``.
        invert: films whose bones are dark.
        levels: VerSe numbers to reconstruct; all that are marked in both films if empty.
        anchors: levels that the user settles; marks that are given are renumbered by them.
    """

    ap: Path
    lat: Path
    annotations: Path | None = None
    geometry: Path | None = None
    spacing: tuple[float, float] | None = None
    mirror: tuple[str, ...] = ()
    invert: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    anchors: tuple[Anchor, ...] = ()


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


def read_job_films(job: Job) -> Films:
    """The job's films as their files say.

    Raises:
        UserError: see `read_films`.
    """
    return read_films(job.ap, job.lat, job.spacing, job.geometry, job.mirror, job.invert)


def find_marks(job: Job, films: Films, networks: Networks) -> Annotations:
    """The job's own marks, or those that the annotation network finds.

    Raises:
        UserError: the marks cannot be read, the films show no vertebra, or the anchors do not fit.
    """
    if job.annotations is not None:
        return renumber(read_annotations(job.annotations), job.anchors)
    return annotate_films(films, networks.localizer, anchors=job.anchors)[0]


def reconstruct_job(job: Job, films: Films, marks: Annotations, networks: Networks) -> tuple[Films, Reconstruction]:
    """The films, in one frame and with a scale, and the spine in memory.

    Raises:
        UserError: see `calibrate` and `reconstruct_films`.
    """
    films = calibrate(films, marks)
    result = reconstruct_films(films, marks, networks.predictor, list(job.levels) or None)
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
    films = read_job_films(job)
    marks = find_marks(job, films, networks)
    films, result = reconstruct_job(job, films, marks, networks)
    report = write_reconstruction(output, films, marks, result, networks.predictor, truth, options)
    if dicom:
        export_dicom(output, output / DICOM_FOLDER, films.headers)
    return report
