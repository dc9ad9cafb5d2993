"""``python -m scripts VERB``: everything that is not a bundle workflow. Verbs are thin; the work is in their rooms."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fire

from scripts.errors import UserError


def prepare(
    source: str,
    output: str,
    subset: str = "full",
    beam: Any = "parallel",
    variants: int = 0,
    view_angle_error_deg: float = 0.0,
    film: Any = None,
    along_spine: bool = False,
    test: Any = (),
    validation: Any = (),
    training: Any = (),
    test_share: float = 0.2,
    validation_share: float = 0.1,
    max_border_contact_mm2: float = 10.0,
    metal: Any = (),
    no_metal: Any = (),
    seed: int = 0,
    workers: int = 1,
    scheduler: str = "",
) -> None:
    """Turn CT + mask cases into a prepared dataset.

    Args:
        source: folder (VerSe's release layout, or *_ct.nii.gz files with their labelmaps) or a JSON manifest, or
            several with commas between them.
        output: folder of the dataset; a stopped build goes on where it was.
        subset: full, or small: the paper's VerSe-small (no cervical vertebra, T13, L6 or metal; three thoracic ones).
        beam: of the simulated radiographs: parallel, slot or cone; of several with commas between them, each patient
            gets one by chance.
        variants: random deformations to add for each training patient.
        view_angle_error_deg: largest angle by which each view of a variant may be off, unknown to all that follows.
        film: effects on the stored films, as '{"scatter_ratio": 0.2, "photons": 1e5}'; see docs/drr.md.
        along_spine: turn patches and labels along the spine, as reconstruct does, to train for that.
        test: patients that belong to the test list, comma-separated.
        validation: likewise for validation.
        training: likewise for training.
        test_share: share of patients drawn for the test list.
        validation_share: share of the rest drawn for validation.
        max_border_contact_mm2: vertebrae cut by the field of view over more than this are kept out of the lists.
        metal: cases that have metal whatever their CT says, comma-separated; see subset.csv.
        no_metal: cases that have none whatever their CT says.
        seed: of the split and the variants.
        workers: processes.
        scheduler: address of a Dask scheduler, e.g. tcp://10.0.0.1:8786, whose workers do the work.
    """
    from scripts.data.prepare import SplitOptions, prepare_dataset
    from scripts.data.subset import SubsetOptions
    from scripts.data.variants import VariantRange
    from scripts.data.vertebrae import PrepareOptions
    from scripts.geometry.biplanar import Beam
    from scripts.geometry.film import FilmOptions

    if film is not None and not isinstance(film, dict):
        raise UserError(f"--film is a dictionary of effects, not {film!r}")
    try:
        beams = tuple(Beam(word) for word in _words(beam))
    except ValueError as error:
        raise UserError(f"unknown beam '{beam}'; use {', '.join(b.value for b in Beam)}") from error
    options = PrepareOptions(
        beams=beams,
        variants=int(variants),
        variant_range=VariantRange(view_angle_error_deg=float(view_angle_error_deg)),
        film=FilmOptions.from_dict(film or {}),
        along_spine=bool(along_spine),
        max_border_contact_mm2=float(max_border_contact_mm2),
        seed=int(seed),
    )
    split = SplitOptions(test_share, validation_share, _words(test), _words(validation), _words(training))
    chosen = SubsetOptions(str(subset), _words(metal), _words(no_metal))
    places = ",".join(_words(source))
    counts = prepare_dataset(places, Path(str(output)), options, split, int(workers), chosen, str(scheduler))
    folder = Path(str(output))
    print((folder / "table1.md").read_text())
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    for count, file in ((counts["rejected"], "rejected.csv"), (counts["released twice"], "duplicates.csv")):
        if count:
            print(f"which and why: {folder / file}")


def simulate(
    output: str,
    count: int,
    spacing_mm: float = 1.0,
    whole_share: float = 0.25,
    donor_share: float = 0.5,
    hardware_share: float = 0.05,
    scoliosis_share: float = 0.3,
    fracture_share: float = 0.03,
    t13_share: float = 0.03,
    l6_share: float = 0.04,
    without: Any = (),
    subject_weights: Any = None,
    dataset: str = "",
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Simulate CTs of spines from real vertebra shapes, in VerSe's layout: prepare reads them like any CT.

    Args:
        output: folder; patients that are there already are kept.
        count: number of patients.
        spacing_mm: voxel size.
        whole_share: of patients shown from skull to pelvis.
        donor_share: of patients whose body around the spine is a real CT's.
        hardware_share: of patients with screws and rods.
        scoliosis_share: of patients with a scoliosis.
        fracture_share: of vertebrae between T4 and L5.
        t13_share: of patients with a thirteenth thoracic vertebra.
        l6_share: of patients with a sixth lumbar vertebra.
        without: shape subjects not to use, comma-separated.
        subject_weights: how often shape subjects are drawn against 1 of the others, such as '{remus: 0.5}'; idealised
            ones have 0.3 unless named.
        dataset: folder to prepare the patients into right away; see prepare.
        seed: the same seed gives the same patients.
        workers: processes.
    """
    from scripts.anatomy.shapes import subject_weights_with
    from scripts.simulation.deformation import DeformationOptions
    from scripts.simulation.painting import Ingredients
    from scripts.simulation.patient import SimulationOptions
    from scripts.simulation.posture import PostureOptions
    from scripts.simulation.spine import SpineOptions
    from scripts.simulation.write import simulate_dataset

    options = SimulationOptions(
        spacing_mm=float(spacing_mm),
        whole_share=float(whole_share),
        spine=SpineOptions(
            t13_share=float(t13_share),
            l6_share=float(l6_share),
            without=_words(without),
            subject_weights=subject_weights_with(subject_weights),
            posture=PostureOptions(scoliosis_share=float(scoliosis_share)),
            deformation=DeformationOptions(fracture_share=float(fracture_share)),
        ),
        ingredients=Ingredients(donor_share=float(donor_share), hardware_share=float(hardware_share)),
        seed=int(seed),
    )
    content = simulate_dataset(Path(str(output)), int(count), options, int(workers))
    vertebrae = sum(len(truth["levels"]) for truth in content["patients"].values())
    print(f"{len(content['patients'])} patients, {vertebrae} vertebrae -> {output}")
    if dataset:
        prepare(str(output), dataset, seed=seed, workers=workers)
    else:
        print(f"next: python -m scripts prepare --source {output} --output DATASET")


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

    outputs = OutputOptions(_words(mesh_formats), float(decimate), str(turntable), bool(timings))
    outputs.check()
    job = Job(
        ap=Path(str(ap)),
        lat=Path(str(lat)),
        annotations=Path(str(annotations)) if annotations else None,
        geometry=Path(str(geometry)) if geometry else None,
        spacing=_spacing(spacing),
        mirror=_words(mirror),
        invert=_words(invert),
        levels=tuple(level_number(name) for name in _words(levels)),
    )
    networks = Networks(
        Path(weights) if weights else None, device=device, batch_size=int(batch_size), precision=str(precision)
    )
    folder = Path(str(output))
    report = run_job(job, folder, networks, Path(truth) if truth else None, bool(dicom), outputs)
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
        pair = _spacing(spacing)
        first |= {"spacing": list(pair) if pair else None}
        first |= {"mirror": list(_words(mirror)), "invert": list(_words(invert))}
    view_case(first or None, str(host), int(port), bool(browser))


def serve(spool: str, host: str = "127.0.0.1", port: int = 8766, capacity: int = 32, keep_hours: float = 24.0) -> None:
    """Reconstruct what is handed in over HTTP, one pair after the other; see docs/deployment.md.

    Args:
        spool: folder for what waits and what is done; a job that was accepted is never lost.
        host: address to serve on; on another than this machine's own a token is asked for.
        port: to serve on; 0 for a free one.
        capacity: jobs that may wait; more are refused until there is room.
        keep_hours: how long results stay.
    """
    from scripts.deploy.service import serve as serve_jobs

    serve_jobs(Path(str(spool)), str(host), int(port), int(capacity), float(keep_hours))


def listen(
    spool: str,
    send_to: str = "",
    host: str = "127.0.0.1",
    port: int = 11112,
    ae_title: str = "SPINE3D",
    settle_s: float = 30.0,
    keep_hours: float = 24.0,
    geometry: str = "",
) -> None:
    """Receive studies over DICOM, reconstruct each pair of films and send the results on; see docs/deployment.md.

    Args:
        spool: folder for what waits and what is done; a study that was received is never lost.
        send_to: where results go, as AETITLE@host:port; they stay in the spool if left out.
        host: address to listen on.
        port: to listen on; 0 for a free one.
        ae_title: of this node.
        settle_s: a study is complete when it has a pair and nothing has come for so long.
        keep_hours: how long results, and studies without a pair, stay.
        geometry: YAML or JSON file that says how the machine takes its films, where their headers do not; see
            docs/films.md.
    """
    from scripts.deploy.listener import listen as listen_dicom

    listen_dicom(
        Path(str(spool)),
        str(send_to),
        str(host),
        int(port),
        str(ae_title),
        float(settle_s),
        float(keep_hours),
        Path(str(geometry)) if geometry else None,
    )


def evaluate(
    dataset: str,
    output: str,
    weights: str | None = None,
    data_list: str = "test",
    device: str | None = None,
    batch_size: int = 4,
    precision: str = "float32",
    network_only: bool = False,
) -> None:
    """Measure a network on a prepared dataset: metrics.csv (one row a vertebra), average.csv and summary.json.

    Args:
        dataset: folder made by prepare.
        output: folder for the results.
        weights: .pt or .ts file; the bundle's own if left out.
        data_list: test, validation or training.
        device: cpu, cuda, ...
        batch_size: vertebrae at a time.
        precision: float32, bfloat16 or auto, see reconstruct.
        network_only: without tilt, steadying along the spine and fit, as the bundle's workflow measures it.
    """
    from scripts.reconstruction.metrics.evaluate import evaluate_dataset

    summary = evaluate_dataset(
        Path(str(dataset)),
        Path(str(output)),
        Path(weights) if weights else None,
        data_list,
        device,
        int(batch_size),
        str(precision),
        bool(network_only),
    )
    overall, average = summary["all"], summary["average_vertebra"]["all"]
    print(f"{overall['n_vertebrae']} vertebrae of {overall['n_subjects']} patients")
    for name in ("dice", "hd95_mm", "assd_mm", "nsd_1mm", "nsd_2mm"):
        print(
            f"  {name:8} mean {overall[name]['mean']:.3f}  median {overall[name]['median']:.3f}"
            f"  (average vertebra {average[name]['mean']:.3f})"
        )
    print(f"  {Path(str(output)) / 'metrics.csv'}\n  {Path(str(output)) / 'summary.json'}")


def benchmark(
    output: str,
    dataset: str = "",
    models: Any = "all",
    seeds: Any = 0,
    steps: Any = "matrix,report",
    overlays: Any = (),
    overrides: Any = None,
    source: str = "",
    gpus: Any = None,
) -> None:
    """Train, score and compare ReVerteR, its ablations and its rivals; the same command again goes on where it was.

    Args:
        output: folder for runs/ and report/.
        dataset: folder made by prepare; trained on its training list, scored on its test list.
        models: names, or all, baselines, ablations; comma-separated.
        seeds: one training each, comma-separated.
        steps: of matrix, report and speed, comma-separated.
        overlays: config files between train.json and each model's own, comma-separated.
        overrides: config values for all models, as '{"max_epochs": 20}'.
        source: what the dataset was prepared from, for the curve over view angles.
        gpus: ids, comma-separated; all that there are if left out, '' for the CPU.
    """
    from scripts.benchmarks.paper.models import chosen
    from scripts.benchmarks.paper.run import run_benchmark

    if overrides is not None and not isinstance(overrides, dict):
        raise UserError(f"--overrides is a dictionary of config values, not {overrides!r}")
    report, failed = run_benchmark(
        Path(str(output)),
        dataset=str(dataset),
        models=chosen(_words(models)),
        seeds=_words(seeds),
        steps=_words(steps),
        overlays=_words(overlays),
        overrides=_json_words(overrides or {}),
        source=str(source),
        gpus=None if gpus is None else _words(gpus),
    )
    if report:
        print(report)
    for name, reason in failed.items():
        print(f"warning: {name} failed: {reason}")
    if failed:
        raise UserError(f"{len(failed)} of the trainings failed; the same command tries them again")


def verify() -> None:
    """Check this bundle as MONAI's model zoo does, and say what would block a pull request there."""
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.bundle import Bundle
    from scripts.release.zoo import verify as verify_bundle

    blocking = verify_bundle(Bundle(BUNDLE_ROOT))
    if blocking:
        raise UserError(f"{blocking[0]} ({len(blocking)} in all)")


def release(output: str, base_url: str = "", tests: Any = "tests") -> None:
    """Build the zip that is handed out, with exports, checksums, bill of materials and licences; see docs/release.md.

    Args:
        output: folder for all of it.
        base_url: where this folder will be reachable, for large_files.yml.
        tests: which tests must pass, comma-separated; all of them if left out.
    """
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.build import release as build_release
    from scripts.release.bundle import Bundle

    folder = Path(str(output))
    report = build_release(Bundle(BUNDLE_ROOT), folder, str(base_url), _words(tests))
    for name in report["files"]:
        print(folder / name if (folder / name).exists() else f"  with {name}")


def annotate(
    output: str,
    ap: str | None = None,
    lat: str | None = None,
    geometry: str | None = None,
    spacing: Any = (),
    mirror: Any = (),
    invert: Any = (),
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
        interpolate: add what no view shows between two vertebrae, flagged and without confidence.
        weights: .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...
    """
    from scripts.films.pair import read_films
    from scripts.levels import level_name
    from scripts.localization.annotate import annotate_films, write_annotated
    from scripts.localization.localizer import Localizer

    paths = [Path(str(p)) if p else None for p in (ap, lat)]
    place = Path(str(geometry)) if geometry else None
    films = read_films(paths[0], paths[1], _spacing(spacing), place, _words(mirror), _words(invert))
    localizer = Localizer(Path(weights) if weights else None, device)
    marks, found = annotate_films(films, localizer, bool(interpolate))
    target = Path(str(output))
    picture = write_annotated(target, films, marks, found)
    for view, found_there in zip(films.views, (marks.ap, marks.lat), strict=True):
        if view.film.there:
            levels = " ".join(f"{level_name(m.level)}({m.confidence:.2f})" for m in found_there.marks)
            print(f"{view.name:>3}: {levels}")
    for warning in marks.warnings:
        print(f"warning: {warning}")
    print(f"  {target}\n  {picture}")


def evaluate_localization(films: str, output: str, weights: str | None = None, device: str | None = None) -> None:
    """Measure the annotation network on films whose vertebrae are known.

    Args:
        films: folder made by python -m scripts.localization.films.
        output: folder for views.csv, vertebrae.csv, cases.csv, summary.json and summary.md.
        weights: .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...
    """
    from scripts.localization.evaluate import evaluate_films
    from scripts.localization.localizer import Localizer

    evaluate_films(",".join(_words(films)), str(output), Localizer(Path(weights) if weights else None, device))
    print((Path(str(output)) / "summary.md").read_text())


def _words(value: Any) -> tuple[str, ...]:
    """What fire makes of ``a,b``: a tuple, a string or a number."""
    if isinstance(value, (list, tuple)):
        return tuple(str(v).strip() for v in value)
    return tuple(word.strip() for word in str(value).split(",") if word.strip())


def _json_words(value: Any) -> Any:
    """What Fire made of a JSON argument, with JSON's true, false and null, which it takes for words."""
    if isinstance(value, dict):
        return {key: _json_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_words(item) for item in value]
    return {"true": True, "false": False, "null": None}.get(value, value) if isinstance(value, str) else value


def _spacing(value: Any) -> tuple[float, float] | None:
    """``0.14`` or ``0.14,0.15`` as (AP, LAT) mm a pixel; None if not given."""
    try:
        numbers = [float(word) for word in _words(value)]
    except ValueError as error:
        raise UserError(f"--spacing takes mm a pixel, as 0.14 or 0.14,0.15, not {value}") from error
    if len(numbers) > 2:
        raise UserError(f"--spacing takes one number or two (AP,LAT), not {len(numbers)}")
    return (numbers[0], numbers[-1]) if numbers else None


def _check_options(words: list[str]) -> None:
    """Refuse unknown and missing options before any work: fire would call the verb first and complain afterwards."""
    if not words or words[0] not in VERBS or "--help" in words or "-h" in words:
        return
    parameters = inspect.signature(VERBS[words[0]]).parameters
    given = [word[2:].split("=")[0].replace("-", "_") for word in words[1:] if word.startswith("--") and len(word) > 2]
    for name in given:
        if name not in parameters:
            raise UserError(f"{words[0]} has no option --{name}; it has --{', --'.join(parameters)}")
    needed = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in given]
    # Verbs can also be called with their arguments in order; then fire counts them.
    if needed and all(word.startswith("--") for word in words[1:2]):
        raise UserError(f"{words[0]} needs --{', --'.join(needed)}")


VERBS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "simulate": simulate,
    "annotate": annotate,
    "reconstruct": reconstruct,
    "export": export,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "verify": verify,
    "release": release,
    "evaluate-localization": evaluate_localization,
    "view": view,
    "serve": serve,
    "listen": listen,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        exit status: 0 only if the job was done.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("PAGER", "cat")
    # MONAI looks for a GPU decoder of DICOM whenever pydicom is installed; we do not use it.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    try:
        _check_options(words)
        fire.Fire(VERBS, command=words, name="python -m scripts")
        return 0
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
