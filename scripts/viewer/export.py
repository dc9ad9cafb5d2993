"""What a user takes away: the folder that ``reconstruct`` writes, or one file of it in the format asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.errors import UserError
from scripts.io.atomic import write_text
from scripts.job.output import write_reconstruction
from scripts.render.report_tables import SPINE_FILE, VERTEBRAE_FILE
from scripts.spine.assembly import ReconstructedVertebra
from scripts.spine.mesh import write_meshes
from scripts.viewer.archive import write_archive
from scripts.viewer.case import reconstruction_of
from scripts.viewer.memory import opened, predictor

RECONSTRUCTION = "reconstruction"


def export(folder: Path, kind: str, levels: list[str]) -> str:
    """Write one of `KINDS`, or all as a zip, for some levels, as they were reconstructed from the present marks.

    Args:
        folder: of the case.
        kind: key of `KINDS`, or ``zip``.
        levels: names.

    Returns:
        the path of the file.

    Raises:
        UserError: no such kind, or a level that is outdated or was not reconstructed.
    """
    if kind not in (*KINDS, "zip"):
        raise UserError(f"there is no export '{kind}'; there are zip, {', '.join(KINDS)}")
    case, result, _ = reconstruction_of(folder, levels)
    if kind == "zip":
        return str(write_archive(folder, case.films, case.marks, result, predictor()))
    write_reconstruction(folder / RECONSTRUCTION, case.films, case.marks, result, predictor())
    return str(KINDS[kind](folder, result.parts))


def _one(name: str) -> Callable[[Path, list[ReconstructedVertebra]], Path]:
    return lambda folder, _: folder / RECONSTRUCTION / name


def _surfaces(kind: str) -> Callable[[Path, list[ReconstructedVertebra]], Path]:
    def write(folder: Path, parts: list[ReconstructedVertebra]) -> Path:
        """A closed surface a vertebra, patient RAS mm; several come as a zip: in one file they would merge."""
        target = folder / kind
        shutil.rmtree(target, ignore_errors=True)
        write_meshes({part.vertebra.level: part.mesh for part in parts}, target, (kind,))
        files = sorted((target / "meshes").iterdir())
        if len(files) == 1:
            return files[0]
        return Path(shutil.make_archive(str(folder / f"spine_{kind}"), "zip", target / "meshes"))

    return write


def _dicom(folder: Path, _: list[ReconstructedVertebra]) -> Path:
    from scripts.export.export import export_dicom
    from scripts.export.identity import exportable

    output, headers = folder / "dicom", opened(folder).films.headers
    export_dicom(folder / RECONSTRUCTION, output, headers)
    notes = exportable(headers)[1]
    if notes:
        write_text(output / "warnings.txt", "\n".join(notes) + "\n")
    return Path(shutil.make_archive(str(folder / "dicom"), "zip", output))


KINDS: dict[str, Callable[[Path, list[ReconstructedVertebra]], Path]] = {
    "nii.gz": _one("spine.nii.gz"),
    "glb": _one("spine.glb"),
    "png": _one("preview.png"),
    "json": _one("report.json"),
    "html": _one("report.html"),
    "stl": _surfaces("stl"),
    "obj": _surfaces("obj"),
    "ply": _surfaces("ply"),
    "csv": _one(VERTEBRAE_FILE),
    "angles": _one(SPINE_FILE),
    "dicom": _dicom,
}
