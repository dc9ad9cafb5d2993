"""One zip with everything: the folder of a reconstruction in every format, and a README that says what each file is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from scripts.errors import UserError
from scripts.export.identity import exportable
from scripts.films.film import Films
from scripts.io.annotations import Annotations
from scripts.io.atomic import write_text
from scripts.job.options import OutputOptions
from scripts.job.output import write_reconstruction
from scripts.reconstruction.predictor import Predictor
from scripts.spine.reconstruction import Reconstruction

# Pattern of files -> what they are, in the order in which a reader wants them.
CONTENTS = {
    "report.html": "The report: pictures, angles, sizes and what to check. Open it in a browser; it prints on A4.",
    "report.json": "The same for programs: every number, warning and version.",
    "vertebrae.csv": "A table with one row for each vertebra: status, who set its marks, position, angles and sizes.",
    "spine.csv": "A table with one row for each angle of the spine: end vertebrae, who chose them, degrees.",
    "preview.png": "A picture: both films with marks, outlines, end plates and angles, and the spine.",
    "annotations.json": "The marks. Open it with the films in the viewer, or with reconstruct --annotations.",
    "spine.nii.gz": "The vertebrae as a labelled volume (NIfTI, mm, RAS; 8 = T1 ... 19 = T12, 20 = L1 ...).",
    "spine.glb": "All surfaces in one file (glTF), with colours.",
    "meshes/*.stl": "One closed surface for each vertebra, mm, for printing and most programs.",
    "meshes/*.obj": "The same surfaces as OBJ.",
    "meshes/*.ply": "The same surfaces as PLY.",
    "dicom/*.seg.dcm": "All vertebrae as one DICOM Segmentation.",
    "dicom/*.stl.dcm": "One DICOM Encapsulated STL for each vertebra.",
}
EVERYTHING = OutputOptions(dicom=True, mesh_formats=("stl", "obj", "ply"))


def write_archive(
    folder: Path, films: Films, annotations: Annotations, result: Reconstruction, predictor: Predictor
) -> Path:
    """Write ``reconstruction.zip``.

    Args:
        folder: to write to.
        films: the radiographs.
        annotations: their marks.
        result: what was reconstructed.
        predictor: by which network.

    Returns:
        the file.
    """
    options, left_out = EVERYTHING, ""
    try:
        exportable(films.headers)
    except UserError as error:
        # The rest is of use without DICOM; the README says why there is none.
        options, left_out = replace(EVERYTHING, dicom=False), f"There are no DICOM objects: {error}.\n\n"
    target = folder / "everything"
    report = write_reconstruction(target, films, annotations, result, predictor, options)
    write_text(target / "README.txt", _readme(target, report["made"], report["levels"], left_out))
    return Path(shutil.make_archive(str(folder / "reconstruction"), "zip", target))


def _readme(folder: Path, made: str, levels: str, left_out: str) -> str:
    """Of the files that are there."""
    lines = "\n".join(f"{name}\n    {what}" for name, what in CONTENTS.items() if any(folder.glob(name)))
    return (
        f"Vertebrae from two radiographs, made {made}; {levels}.\nResearch software: not for diagnosis.\n\n"
        f"{left_out}{lines}\n"
    )
