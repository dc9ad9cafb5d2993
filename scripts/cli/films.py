"""Two films to marks, to a spine, to DICOM, to the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import UserError
from scripts.films.options import AS_THE_FILES_SAY, ReadingOptions
from scripts.job.options import Job, NetworkOptions, OutputOptions
from scripts.localization.anchors import Anchors

if TYPE_CHECKING:
    from pydicom import Dataset


def annotate(
    output: Path,
    reading: ReadingOptions,
    ap: Path | None = None,
    lat: Path | None = None,
    anchor: Anchors = (),
    interpolate: bool = False,
    weights: Path | None = None,
    generator_weights: Path | None = None,
    device: str | None = None,
) -> None:
    """Find every vertebra in two radiographs: levels, corners and centroids, matched, with confidence.

    Args:
        output: annotations.json to write; a picture of it is written beside it.
        reading: how the films are to be read.
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF), or the folder of a study; may be left out.
        lat: lateral radiograph; may be left out.
        anchor: a level that you know, as L5 (the lowest whole vertebra) or T12@lat:ROW,COLUMN (the one there).
        interpolate: add what no view shows between two vertebrae, flagged and without confidence.
        weights: of the annotation network, .pt or .ts file; the bundle's own if left out.
        generator_weights: of the reconstruction network, which is asked for a second opinion on levels.
        device: cpu, cuda, ...
    """
    from scripts.films.pair import read_films
    from scripts.job.run import Networks
    from scripts.levels import level_name
    from scripts.localization.annotate import annotate_films, check_annotated, write_annotated
    from scripts.spine.patch_levels import PatchLevels

    check_annotated(output, (ap, lat, reading.geometry, weights, generator_weights))
    films = read_films(ap, lat, reading)
    both = films.ap.there and films.lat.there
    networks = Networks(NetworkOptions(generator_weights, weights, device))
    read_patches = PatchLevels(networks.predictor) if both else None
    marks, found = annotate_films(films, networks.localizer, interpolate, anchor, read_patches)
    picture = write_annotated(output, films, marks, found)
    for view, found_there in zip(films.views, (marks.ap, marks.lat), strict=True):
        if view.film.there:
            levels = " ".join(f"{level_name(m.level)}({m.confidence:.2f})" for m in found_there.marks)
            print(f"{view.name:>3}: {levels}")
    for warning in marks.warnings:
        print(f"warning: {warning}")
    print(f"  {output}\n  {picture}")


def reconstruct(job: Job, output: Path, outputs: OutputOptions, networks: NetworkOptions) -> None:
    """Reconstruct the vertebrae of two radiographs.

    Args:
        job: the films, and what is known and wanted of them.
        output: folder for spine.nii.gz, meshes/, spine.glb, preview.png, report.html, report.json, vertebrae.csv,
            spine.csv and annotations.json.
        outputs: what else the folder holds.
        networks: which networks do it.
    """
    from scripts.job.output import CONTENT
    from scripts.job.run import Networks, run_job

    report = run_job(job, output, Networks(networks), outputs)
    for row in report["vertebrae"]:
        dice = f"  Dice {row['dice']:.3f}  HD95 {row['hd95_mm']:.1f} mm" if "dice" in row else ""
        print(f"{row['level']:>4}  {row['volume_cm3']:6.1f} cm3{dice}")
    for warning in report["warnings"]:
        print(f"warning: {warning}")
    if "mean_dice" in report:
        measured = sum("dice" in row for row in report["vertebrae"])
        print(
            f"mean Dice {report['mean_dice']:.3f} over the {measured} vertebrae that the truth has "
            f"(average vertebrae of their levels at the marks: {report['mean_average_dice']:.3f}; "
            f"ellipsoids of their size: {report['mean_ellipsoid_at_mark_dice']:.3f} at the marks, "
            f"{report['mean_ellipsoid_dice']:.3f} at their true centres)"
        )
    print(f"{len(report['vertebrae'])} vertebrae in {sum(report['seconds'].values()):.1f} s -> {output}")
    for name in (*CONTENT, outputs.turntable):
        if name and (output / name).exists():
            print(f"  {output / name}")


def export(reconstruction: Path, output: Path, ap: Path | None = None, lat: Path | None = None) -> None:
    """Write a reconstruction as DICOM: a segmentation object and an encapsulated STL a vertebra.

    Args:
        reconstruction: folder that reconstruct made.
        output: folder to write.
        ap: frontal film it was made from; a DICOM film gives the objects its patient and study.
        lat: lateral film it was made from.
    """
    from scripts.export.export import export_dicom, film_files, film_headers
    from scripts.export.identity import exportable
    from scripts.export.same_films import check_same_films, films_left_out

    if (ap is None) != (lat is None):
        raise UserError("export takes both films or none: --ap and --lat")
    films: list[Dataset | None] = []
    notes: list[str] = []
    if ap is not None and lat is not None:
        files = film_files(ap, lat)
        films = film_headers(*files)
        notes = check_same_films(reconstruction, *files)
        if not any(films):
            notes.append("neither film is a DICOM file: the objects belong to no patient")
    else:
        notes = films_left_out(reconstruction)
    for line in (*notes, *exportable(films)[1]):
        print(f"warning: {line}")
    for path in export_dicom(reconstruction, output, films):
        print(f"  {path}")


def view(
    reading: ReadingOptions,
    ap: Path | None = None,
    lat: Path | None = None,
    annotations: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    browser: bool = True,
    name: str = "",
) -> None:
    """Open the interactive interface in the browser, with the sample patient or with two films.

    Args:
        reading: how the films are to be read.
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF).
        lat: lateral radiograph.
        annotations: annotations.json with the vertebrae's marks.
        host: address to serve on; on another than this machine's own a token is asked for.
        port: to serve on; 0 for a free one.
        browser: open it.
        name: under which a proxy offers it, as spine.example.org; a token is then asked for.
    """
    from scripts.viewer.serve import view_case

    said = {key: value for key, value in vars(reading).items() if value != getattr(AS_THE_FILES_SAY, key)}
    files = {"ap": ap, "lat": lat, "annotations": annotations}
    given = {key: value for key, value in files.items() if value} | said
    if given and not (ap and lat):
        raise UserError("view needs both films, --ap and --lat, or neither")
    view_case(given or None, host, port, browser, name)
