"""Two films to marks, to a spine, to DICOM, to the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.cli.arguments import optional_path, parse_spacing, read_anchors, split_words
from scripts.errors import UserError


def annotate(
    output: str,
    ap: str | None = None,
    lat: str | None = None,
    geometry: str | None = None,
    spacing: Any = (),
    mirror: Any = (),
    invert: Any = (),
    anchor: Any = (),
    interpolate: bool = False,
    weights: str | None = None,
    device: str | None = None,
) -> None:
    """Find every vertebra in two radiographs: levels, corners and centroids, matched, with confidence.

    Args:
        output: annotations.json to write; a picture of it is written beside it.
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF), or the folder of a study; may be left out.
        lat: lateral radiograph; may be left out.
        geometry: YAML or JSON file that says how the films were taken; see docs/films.md.
        spacing: mm a pixel in the patient, one number or AP,LAT, for films that do not say it; guessed if left out.
        mirror: films to mirror left to right: ap, lat or ap,lat.
        invert: films whose bones are dark: ap, lat or ap,lat.
        anchor: a level that you know, as L5 (the lowest whole vertebra) or T12@lat:ROW,COLUMN (the one there).
        interpolate: add what no view shows between two vertebrae, flagged and without confidence.
        weights: .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...
    """
    from scripts.films.pair import read_films
    from scripts.levels import level_name
    from scripts.localization.annotate import annotate_films, write_annotated
    from scripts.localization.localizer import Localizer

    paths = [optional_path(p) for p in (ap, lat)]
    place = optional_path(geometry)
    films = read_films(paths[0], paths[1], parse_spacing(spacing), place, split_words(mirror), split_words(invert))
    localizer = Localizer(optional_path(weights), device)
    marks, found = annotate_films(films, localizer, bool(interpolate), read_anchors(anchor))
    target = Path(str(output))
    picture = write_annotated(target, films, marks, found)
    for view, found_there in zip(films.views, (marks.ap, marks.lat), strict=True):
        if view.film.there:
            levels = " ".join(f"{level_name(m.level)}({m.confidence:.2f})" for m in found_there.marks)
            print(f"{view.name:>3}: {levels}")
    for warning in marks.warnings:
        print(f"warning: {warning}")
    print(f"  {target}\n  {picture}")


def reconstruct(
    ap: str,
    lat: str,
    output: str,
    annotations: str | None = None,
    levels: Any = (),
    geometry: str | None = None,
    spacing: Any = (),
    mirror: Any = (),
    invert: Any = (),
    anchor: Any = (),
    truth: str | None = None,
    dicom: bool = False,
    mesh_formats: Any = "stl",
    decimate: float = 1.0,
    turntable: str = "",
    timings: bool = False,
    weights: str | None = None,
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "auto",
) -> None:
    """Reconstruct the vertebrae of two radiographs.

    Args:
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF), or the folder of a study that holds it.
        lat: lateral radiograph, likewise; it may be the same folder.
        annotations: annotations.json with the vertebrae's marks; found by the annotation network if left out.
        output: folder for spine.nii.gz, meshes/, spine.glb, preview.png, report.html, annotations.json and report.json.
        levels: which levels, comma-separated; all marked ones if left out.
        geometry: YAML or JSON file that says how the films were taken; see docs/films.md.
        spacing: mm a pixel in the patient, one number or AP,LAT, for films that do not say it; estimated if left out.
        mirror: films to mirror left to right: ap, lat or ap,lat.
        invert: films whose bones are dark: ap, lat or ap,lat.
        anchor: a level that you know, as L5 (the lowest whole vertebra) or T12@lat:ROW,COLUMN (the one there); the
            others follow from it, those of annotations too.
        truth: true labelmap to compare with.
        dicom: also write dicom/, see export; patient and study are those of DICOM films.
        mesh_formats: of the surfaces in meshes/: stl, obj, ply, comma-separated; spine.glb is always written.
        decimate: share of the surfaces' triangles to keep.
        turntable: name of a film of the turning spine to write, .gif or .mp4.
        timings: write what took how long, and how much memory, into report.json.
        weights: .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...
        batch_size: vertebrae at a time.
        precision: float32, bfloat16 (half the time where processor or GPU have it), or auto, which takes it there.
    """
    from scripts.job.output import OutputOptions
    from scripts.job.run import DICOM_FOLDER, Job, Networks, run_job
    from scripts.levels import level_number

    outputs = OutputOptions(split_words(mesh_formats), float(decimate), str(turntable), bool(timings))
    outputs.check()
    job = Job(
        ap=Path(str(ap)),
        lat=Path(str(lat)),
        annotations=optional_path(annotations),
        geometry=optional_path(geometry),
        spacing=parse_spacing(spacing),
        mirror=split_words(mirror),
        invert=split_words(invert),
        levels=tuple(level_number(name) for name in split_words(levels)),
        anchors=read_anchors(anchor),
    )
    networks = Networks(optional_path(weights), device=device, batch_size=int(batch_size), precision=str(precision))
    folder = Path(str(output))
    report = run_job(job, folder, networks, optional_path(truth), bool(dicom), outputs)
    for row in report["vertebrae"]:
        dice = f"  Dice {row['dice']:.3f}  HD95 {row['hd95_mm']:.1f} mm" if "dice" in row else ""
        print(f"{row['level']:>4}  {row['volume_cm3']:6.1f} cm3{dice}")
    for warning in report["warnings"]:
        print(f"warning: {warning}")
    if "mean_dice" in report:
        print(
            f"mean Dice {report['mean_dice']:.3f} over {len(report['vertebrae'])} vertebrae "
            f"(average vertebrae of their levels at the marks: {report['mean_average_dice']:.3f}; "
            f"ellipsoids of their size: {report['mean_ellipsoid_at_mark_dice']:.3f} at the marks, "
            f"{report['mean_ellipsoid_dice']:.3f} at their true centres)"
        )
    print(f"{len(report['vertebrae'])} vertebrae in {sum(report['seconds'].values()):.1f} s -> {folder}")
    for name in (
        "preview.png",
        "report.html",
        "spine.glb",
        "spine.nii.gz",
        "meshes",
        "report.json",
        *([DICOM_FOLDER] if dicom else []),
    ):
        print(f"  {folder / name}")


def export(reconstruction: str, output: str, ap: str | None = None, lat: str | None = None) -> None:
    """Write a reconstruction as DICOM: a segmentation object and an encapsulated STL a vertebra.

    Args:
        reconstruction: folder that reconstruct made.
        output: folder to write.
        ap: frontal film it was made from; a DICOM film gives the objects its patient and study.
        lat: lateral film it was made from.
    """
    from scripts.export.export import export_dicom, film_headers

    if (ap is None) != (lat is None):
        raise UserError("export takes both films or none: --ap and --lat")
    films = film_headers(Path(str(ap)), Path(str(lat))) if ap is not None and lat is not None else None
    for path in export_dicom(Path(str(reconstruction)), Path(str(output)), films):
        print(f"  {path}")


def view(
    ap: str = "",
    lat: str = "",
    annotations: str = "",
    geometry: str = "",
    spacing: Any = (),
    mirror: Any = (),
    invert: Any = (),
    host: str = "127.0.0.1",
    port: int = 8765,
    browser: bool = True,
) -> None:
    """Open the interactive interface in the browser, with the sample patient or with two films.

    Args:
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF).
        lat: lateral radiograph.
        annotations: annotations.json with the vertebrae's marks.
        geometry: YAML or JSON file that says how the films were taken; see docs/films.md.
        spacing: mm a pixel in the patient, one number or AP,LAT, for films that do not say it.
        mirror: films to mirror left to right: ap, lat or ap,lat.
        invert: films whose bones are dark: ap, lat or ap,lat.
        host: address to serve on; on another than this machine's own a token is asked for.
        port: to serve on; 0 for a free one.
        browser: open it.
    """
    from scripts.viewer.serve import view_case

    if bool(ap) != bool(lat):
        raise UserError("view needs both films, --ap and --lat, or neither")
    first: dict[str, Any] = {
        key: Path(str(value))
        for key, value in (("ap", ap), ("lat", lat), ("annotations", annotations), ("geometry", geometry))
        if value
    }
    if first:
        pair = parse_spacing(spacing)
        first |= {"spacing": list(pair) if pair else None}
        first |= {"mirror": list(split_words(mirror)), "invert": list(split_words(invert))}
    view_case(first or None, str(host), int(port), bool(browser))
