"""One case turned into radiographs, a labelmap and one pair of files a vertebra."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from scripts.anatomy.landmarks import FILE_NAME as LANDMARKS_FILE
from scripts.anatomy.landmarks import SpineLandmarks, find_landmarks, known_landmarks, split_marks, write_landmarks
from scripts.data.cases import CaseFiles
from scripts.data.contact_sheet import write_contact_sheet
from scripts.data.items import VertebraItem
from scripts.data.metal import MetalEvidence
from scripts.data.patient import PatientVolume, canonical_patient
from scripts.data.subset import SpineRecord
from scripts.data.variants import VariantRange, misaligned
from scripts.data.volumes import MAX_BORDER_CONTACT_MM2, read_case
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.cropping import Cube, clipped_fraction, crop_cube, network_input, place_cube, turned_upright
from scripts.geometry.film import FilmOptions, make_film
from scripts.geometry.frames import Grid
from scripts.geometry.leaning import UPRIGHT, Lean, spine_leans
from scripts.geometry.projector import BONE_GAIN, project_pair
from scripts.io.annotations import Annotations, Mark, ViewMarks, write_annotations
from scripts.io.documents import read_json, write_json
from scripts.io.nifti import write_film, write_nifti, write_quantised
from scripts.levels import in_order, level_name

CASE_FILE = "case.json"


@dataclass(frozen=True)
class PrepareOptions:
    """What shapes the prepared files; a changed option rebuilds them.

    Args:
        beams: of the simulated radiographs; each patient gets one of them by chance.
        bone_gain: slope of the attenuation of bone over CT numbers relative to water's; 1 is a film at the CT's own
            energy.
        max_border_contact_mm2: a vertebra whose mask touches the border of the field of view over more than this is
            cut, and kept out of the data lists.
        max_clipped_fraction: a vertebra of which a larger share than this lies outside its cube is kept out of the data
            lists.
        variants: random deformations to add for each training patient.
        variant_range: how far they go.
        film: effects on the stored films, for training or testing on such; none by default.
        along_spine: patches, label and cube turned along the line of the marks as ``reconstruct`` turns them, and a
            file that says where each voxel is seen.
        seed: of the split and of the variants.
    """

    beams: tuple[Beam, ...] = (Beam.PARALLEL,)
    bone_gain: float = BONE_GAIN
    max_border_contact_mm2: float = MAX_BORDER_CONTACT_MM2
    max_clipped_fraction: float = 0.01
    variants: int = 0
    variant_range: VariantRange = field(default_factory=VariantRange)
    film: FilmOptions = field(default_factory=FilmOptions)
    along_spine: bool = False
    seed: int = 0


@dataclass(frozen=True)
class PreparedCase:
    """What a case gave.

    Args:
        spine: about the whole of it.
        items: one a vertebra, head to foot.
    """

    spine: SpineRecord
    items: tuple[VertebraItem, ...]


def prepare_case(case: CaseFiles, folder: Path, options: PrepareOptions, variant: int = 0) -> PreparedCase:
    """Write a case's films, labelmap, annotations, vertebrae and contact sheet into an empty folder.

    Args:
        case: its files.
        folder: where to write.
        options: what shapes the files: beams, bone gain, limits, deformations.
        variant: 0 for the patient as scanned, else the number of the random deformation.

    Returns:
        its items, paths relative to ``folder``, and the spine's record.

    Raises:
        UserError: the case cannot be used: a file is missing or unreadable, or CT and mask do not fit each other.
    """
    rng = np.random.default_rng([options.seed, variant, *case.key.encode()])
    volumes = read_case(case, rng)
    patient = canonical_patient(volumes, options.bone_gain, options.variant_range, rng if variant else None)
    # No number is drawn where there is no choice: the other numbers stay what they are.
    beam = options.beams[int(rng.integers(len(options.beams)))] if len(options.beams) > 1 else options.beams[0]
    geometry = geometry_of_grid(patient.grid, beam)
    # What took the films; everything but them and their marks is placed by the nominal geometry.
    taken = misaligned(geometry, options.variant_range, rng) if variant else geometry
    films = project_pair(patient.attenuation, patient.grid.affine, taken)
    if options.film != FilmOptions():
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        ap, lat = (make_film(film, options.film, patient.grid.spacing_mm, noise) for film in films)
        films = (ap, lat)
    gone = [number for number in volumes.unfit if number not in patient.centroids]
    lost = [f"{level_name(number)} left out: {volumes.unfit[number]}" for number in gone]
    spine = SpineRecord(
        case=case.key,
        subject=case.subject,
        series=case.series,
        levels=tuple(in_order([n for n in volumes.border_contact_mm2 if n not in volumes.unfit])),
        metal=volumes.metal,
        centroid_convention=volumes.centroid_convention,
        behind_mm=round(patient.orientation.behind_mm, 1),
        notes=volumes.notes + tuple(lost),
    )
    if variant:
        case = replace(case, series=f"{case.series}~v{variant:02d}")
    write_films(folder, films, geometry)
    write_nifti(folder / "labelmap.nii.gz", patient.labels, patient.grid.affine)
    known = None if variant else known_landmarks(case.mask)
    _, s1_mm = split_marks({} if variant else case.unlabelled_mm)
    # The middle of debris, or of half a vertebra, is not used as a mark.
    doubtful = volumes.unfit.keys() - patient.annotated
    found = find_landmarks(
        patient.labels,
        patient.grid,
        {number: place for number, place in patient.centroids.items() if number not in doubtful},
        s1_mm=known.s1_mm if known else s1_mm,
        complete=known.complete if known else False,
    )
    write_landmarks(folder / LANDMARKS_FILE, found)
    write_annotations(folder / "annotations.json", reference_annotations(case.key, found, taken))
    jitter = options.variant_range.centroid_noise_mm if variant else 0.0
    places = []
    for number in in_order(list(patient.centroids)):
        marked = patient.centroids[number] + rng.normal(0, jitter, 3)
        places.append(_place(number, marked, (geometry, taken), patient.grid))
    if options.along_spine:
        sure = [place for place in places if place.level not in doubtful]
        leans = spine_leans(np.array([place.seen.body_centroid_mm for place in sure]))
        known_leans = {place.level: lean for place, lean in zip(sure, leans, strict=True)}
        places = [replace(place, lean=known_leans.get(place.level, UPRIGHT)) for place in places]
    items = []
    for place in places:
        contact = round(volumes.border_contact_mm2[place.level], 1)
        item = _write_vertebra(folder, case, patient, films, geometry, place, contact)
        excluded = _why_excluded(item, options) or volumes.unfit.get(place.level, "")
        items.append(replace(item, excluded=excluded, no_mark=place.level in doubtful))
    if not variant:
        write_contact_sheet(folder, (films[0].numpy(), films[1].numpy()), patient, geometry, items, case.key)
    prepared = PreparedCase(replace(spine, usable=any(not item.excluded for item in items)), tuple(items))
    write_json(folder / CASE_FILE, asdict(prepared))
    return prepared


def read_case_file(path: Path) -> PreparedCase:
    """What `prepare_case` wrote into ``case.json``.

    Raises:
        UserError: the file is damaged.
    """
    stored = read_json(path)
    spine = stored["spine"]
    record = SpineRecord(
        **{
            **spine,
            "levels": tuple(spine["levels"]),
            "metal": MetalEvidence(**spine["metal"]),
            "notes": tuple(spine["notes"]),
            # Older files do not say it.
            "usable": any(not row["excluded"] for row in stored["items"]),
        }
    )
    items = (VertebraItem(**{**row, "centroid_mm": tuple(row["centroid_mm"])}) for row in stored["items"])
    return PreparedCase(record, tuple(items))


def reference_annotations(name: str, landmarks: SpineLandmarks, geometry: BiplanarGeometry) -> Annotations:
    """Annotations of both views from known landmarks in space."""
    marks: tuple[list[Mark], list[Mark]] = ([], [])
    for vertebra in landmarks.vertebrae:
        quads = (vertebra.coronal_mm, vertebra.sagittal_mm)
        for which, (view, quad) in enumerate(zip((geometry.ap, geometry.lat), quads, strict=True)):
            row, column = view.project(vertebra.centroid_mm)[0]
            corners = None if quad is None else tuple((float(r), float(c)) for r, c in view.project(quad))
            marks[which].append(Mark(vertebra.level, (float(row), float(column)), corners))
    return Annotations(
        ViewMarks(geometry.ap.shape, tuple(marks[0])), ViewMarks(geometry.lat.shape, tuple(marks[1])), name
    )


def write_films(folder: Path, films: tuple[torch.Tensor, torch.Tensor], geometry: BiplanarGeometry) -> None:
    """``ap.nii.gz`` and ``lat.nii.gz``, and ``geometry.json`` where their headers cannot say it all."""
    write_film(folder / "ap.nii.gz", films[0].numpy(), geometry.ap)
    write_film(folder / "lat.nii.gz", films[1].numpy(), geometry.lat)
    if geometry.ap.beam is not Beam.PARALLEL:
        write_json(folder / "geometry.json", geometry.to_dict())


@dataclass(frozen=True)
class _Place:
    """A vertebra, and where reconstruction will believe it to be.

    Args:
        level: VerSe number.
        cube: the vertebra's own; the label is cut there.
        seen: where the marks put it by the nominal geometry; patches are cut there.
        pixels: its marks in AP and LAT, (2,) each.
        lean: None if patches are to be cut upright.
    """

    level: int
    cube: Cube
    seen: Cube
    pixels: tuple[np.ndarray, np.ndarray]
    lean: Lean | None = None


def _place(
    level: int, marked_mm: np.ndarray, geometries: tuple[BiplanarGeometry, BiplanarGeometry], lattice: Grid
) -> _Place:
    nominal, taken = geometries
    ap_pixels, lat_pixels = taken.project(marked_mm)
    believed_mm = marked_mm if taken is nominal else nominal.back_project(ap_pixels, lat_pixels)[0][0]
    cubes = place_cube(marked_mm, lattice), place_cube(believed_mm, lattice)
    return _Place(level, *cubes, (ap_pixels[0], lat_pixels[0]))


def _write_vertebra(
    folder: Path,
    case: CaseFiles,
    patient: PatientVolume,
    films: tuple[torch.Tensor, torch.Tensor],
    geometry: BiplanarGeometry,
    place: _Place,
    border_contact_mm2: float,
) -> VertebraItem:
    name, cube, lean = level_name(place.level), place.cube, place.lean or UPRIGHT
    mask = patient.labels == place.level
    image = network_input(films, place.pixels, geometry, place.seen, lean)
    write_quantised(folder / f"{name}_xray.nii.gz", image.permute(1, 2, 0)[:, :, None].numpy(), cube.grid.affine)
    write_nifti(folder / f"{name}_mask.nii.gz", turned_upright(crop_cube(mask, cube), lean), cube.grid.affine)
    x, y, z = (round(v, 3) for v in cube.body_centroid_mm)
    return VertebraItem(
        image=f"{name}_xray.nii.gz",
        label=f"{name}_mask.nii.gz",
        subject=case.subject,
        series=case.series,
        level=name,
        centroid_mm=(x, y, z),
        centroid_source="annotated" if place.level in patient.annotated else "estimated",
        clipped_fraction=round(clipped_fraction(mask, cube), 5),
        border_contact_mm2=border_contact_mm2,
        source=case.source,
        licence=case.licence,
        along_spine=place.lean is not None,
        label_origin=case.label_origin,
    )


def _why_excluded(item: VertebraItem, options: PrepareOptions) -> str:
    if item.border_contact_mm2 > options.max_border_contact_mm2:
        return f"cut by the border of the field of view over {item.border_contact_mm2:.0f} mm2"
    if item.clipped_fraction > options.max_clipped_fraction:
        return f"{item.clipped_fraction:.1%} of it lies outside its cube"
    return ""
