"""The whole main job, films on disk to a measured spine: what the command line, the hospital's services and the MONAI
Deploy application have in common."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.export.identity import exportable
from scripts.films.calibration import calibrate
from scripts.films.film import Films
from scripts.films.mark_order import check_order
from scripts.films.marked_films import marks_of_films
from scripts.films.pair import read_films
from scripts.io.annotations import Annotations, read_annotations
from scripts.io.inputs import keep_inputs
from scripts.job.options import Job, NetworkOptions, OutputOptions
from scripts.job.output import ANNOTATIONS_FILE, DEFAULT_OUTPUT, check_output, write_reconstruction
from scripts.localization.anchors import renumber
from scripts.localization.annotate import annotate_films
from scripts.localization.localizer import Localizer
from scripts.reconstruction.predictor import Predictor
from scripts.spine.patch_levels import PatchLevels
from scripts.spine.reconstruction import Reconstruction
from scripts.spine.refine_marks import refine_marks
from scripts.spine.session import reconstruct_films

SHIPPED = NetworkOptions()


class Networks:
    """Both networks, each loaded when it is first needed, and then kept.

    Args:
        options: which, and how they compute.
    """

    def __init__(self, options: NetworkOptions = SHIPPED) -> None:
        self._options = options

    @cached_property
    def predictor(self) -> Predictor:
        """Patches to vertebrae."""
        o = self._options
        return Predictor(o.weights, o.device, o.batch_size, precision=o.precision)

    @cached_property
    def localizer(self) -> Localizer:
        """Films to marks."""
        return Localizer(self._options.localizer_weights, self._options.device)


def read_job_films(job: Job) -> Films:
    """The job's films as their files say.

    Raises:
        UserError: a film is missing, unreadable or of the other view, the two do not belong together, or the geometry
            does not fit.
    """
    return read_films(job.ap, job.lat, job.reading)


def find_marks(job: Job, films: Films, networks: Networks) -> Annotations:
    """The job's own marks, or those that the annotation network finds, moved to where the other one sees the bodies.

    Raises:
        UserError: the marks cannot be read or run the wrong way, the films show no vertebra, or the anchors do not fit.
    """
    if job.annotations is not None:
        marks = read_annotations(job.annotations)
        check_order(marks, str(job.annotations))
        return renumber(marks_of_films(films, marks), job.anchor)
    read_patches = PatchLevels(networks.predictor)
    found, _ = annotate_films(films, networks.localizer, anchors=job.anchor, read_patches=read_patches)
    return refine_marks(films, found, networks.predictor)


def reconstruct_job(job: Job, films: Films, marks: Annotations, networks: Networks) -> tuple[Films, Reconstruction]:
    """The films, in one frame and with a scale, and the spine in memory.

    Raises:
        UserError: the marks are too few or do not belong to these films, or a level cannot be found.
    """
    films = calibrate(films, marks)
    result = reconstruct_films(films, marks, networks.predictor, list(job.levels) or None)
    result.warnings.extend(line for line in marks.warnings if line not in result.warnings)
    return films, result


def check_places(job: Job, output: Path, options: OutputOptions) -> None:
    """Refuse, before any work is done, an output that cannot be written or would replace what is the user's.

    Args:
        job: whose files are read.
        output: folder to write.
        options: what it is to hold.

    Raises:
        UserError: see `check_output`; or a film, marks, geometry or truth lie in the output folder.
    """
    check_output(output, options)
    # Marks may be those of the reconstruction that this one replaces: they are written again.
    earlier = job.annotations and os.path.realpath(job.annotations) == os.path.realpath(output / ANNOTATIONS_FILE)
    marks_file = None if earlier else job.annotations
    keep_inputs([output], (job.ap, job.lat, marks_file, job.reading.geometry, options.truth))


def run_job(job: Job, output: Path, networks: Networks, options: OutputOptions = DEFAULT_OUTPUT) -> dict[str, Any]:
    """Films to a folder, whole or not at all.

    Args:
        job: what to reconstruct.
        output: folder to write; an older reconstruction there is replaced.
        networks: both.
        options: what the folder holds beside what it always does.

    Returns:
        the content of ``report.json``.

    Raises:
        UserError: a film, a mark or an option is wrong, the patient's ID cannot be copied into DICOM objects, or the
            films show no vertebra.
    """
    check_places(job, output, options)
    films = read_job_films(job)
    if options.dicom:
        exportable(films.headers)
    marks = find_marks(job, films, networks)
    films, result = reconstruct_job(job, films, marks, networks)
    return write_reconstruction(output, films, marks, result, networks.predictor, options)
