"""The steps of the job as MONAI Deploy operators: each hands its inputs to a function that knows nothing of Deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec

from scripts.deploy.study import job_of_folder
from scripts.export.identity import exportable
from scripts.job.options import OutputOptions
from scripts.job.output import write_reconstruction
from scripts.job.run import Networks, check_places, find_marks, read_job_films, reconstruct_job

OUTPUTS = OutputOptions(dicom=True, mesh_formats=("stl", "obj"))


class PairSelector(Operator):
    """Chooses the two films of the study in the input folder, and refuses an output that would replace them.

    Args:
        fragment: the application.
        folder: input folder.
        output: output folder, which is checked before any network runs.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, output: Path, **kwargs: Any) -> None:
        self.folder, self.output = folder, output
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Out: a `scripts.job.options.Job`."""
        spec.output("job")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Once."""
        job = job_of_folder(self.folder)
        check_places(job, self.output, OUTPUTS)
        op_output.emit(job, "job")


class NetworkStep(Operator):
    """A step that asks both networks.

    Args:
        fragment: the application.
        networks: both.
    """

    def __init__(self, fragment: Fragment, *args: Any, networks: Networks, **kwargs: Any) -> None:
        self.networks = networks
        super().__init__(fragment, *args, **kwargs)


class Annotator(NetworkStep):
    """Finds the vertebrae in both films, unless the study brought marks."""

    def setup(self, spec: OperatorSpec) -> None:
        """In: a job; out: it, its films and their marks."""
        spec.input("job")
        spec.output("marked")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Once."""
        job = op_input.receive("job")
        films = read_job_films(job)
        exportable(films.headers)
        op_output.emit((job, films, find_marks(job, films, self.networks)), "marked")


class Reconstructor(NetworkStep):
    """Turns films and marks into a spine."""

    def setup(self, spec: OperatorSpec) -> None:
        """In: a job with films and marks; out: films, marks and spine."""
        spec.input("marked")
        spec.output("spine")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Once."""
        job, films, marks = op_input.receive("marked")
        films, result = reconstruct_job(job, films, marks, self.networks)
        op_output.emit((films, marks, result), "spine")


class SpineWriter(Operator):
    """Writes segmentation, encapsulated STL, NIfTI, surfaces, pictures and report.

    Args:
        fragment: the application.
        networks: both; the report names them.
        folder: output folder.
    """

    def __init__(self, fragment: Fragment, *args: Any, networks: Networks, folder: Path, **kwargs: Any) -> None:
        self.networks, self.folder = networks, folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """In: films, marks and spine."""
        spec.input("spine")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Once."""
        films, marks, result = op_input.receive("spine")
        write_reconstruction(self.folder, films, marks, result, self.networks.predictor, OUTPUTS)
