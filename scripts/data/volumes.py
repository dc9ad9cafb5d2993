"""Reading a case's CT and labelmap, with the defects that real files have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from scripts.anatomy.centroids import read_verse_centroids
from scripts.data.cases import CaseFiles
from scripts.data.fitness import check_field, check_scale, volumes_of, why_unfit
from scripts.data.meshes import labelmap_from_meshes
from scripts.data.metal import MetalEvidence, find_metal
from scripts.data.numbering import LabelNumbers, find_numbering, names_beside
from scripts.errors import UserError
from scripts.geometry.components import largest_part
from scripts.geometry.frames import Grid, resample
from scripts.io.nifti import check_volume, open_nifti
from scripts.levels import LABEL_MAPS, Numbering, level_in_name, level_name, level_number
from scripts.simulation.painting import paint_around_labels

AIR_HU = -1000.0
# A vertebra whose mask touches the border of the field of view over more than this is cut.
MAX_BORDER_CONTACT_MM2 = 10.0


@dataclass(frozen=True)
class CaseVolumes:
    """A case in memory.

    Args:
        hu: (X, Y, Z) float32 CT numbers, table removed.
        labels: (X, Y, Z) uint8, VerSe numbers.
        affine: 4x4 index -> RAS mm of both.
        border_contact_mm2: per VerSe number, the area over which its mask touches the border of the field of view;
            where it is not small the vertebra is cut.
        annotated: per VerSe number, the body centroid of a centroid file in world mm.
        metal: whether there are implants at the spine.
        centroid_convention: of the centroid file; empty without one.
        unfit: per VerSe number, why its mask is not a whole vertebra: debris, in pieces, or a part of one.
        notes: what the user should know, one line each.
    """

    hu: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    border_contact_mm2: dict[int, float]
    annotated: dict[int, np.ndarray]
    metal: MetalEvidence
    centroid_convention: str = ""
    unfit: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without_unfit(self) -> CaseVolumes:
        """Without the masks of what is not a whole vertebra, for those that take vertebrae as they come."""
        if not self.unfit:
            return self
        labels = np.where(np.isin(self.labels, list(self.unfit)), np.uint8(0), self.labels)
        return replace(self, labels=labels, unfit={})


def read_case(case: CaseFiles, rng: np.random.Generator) -> CaseVolumes:
    """CT numbers, VerSe labels and annotated centroids of a case.

    Args:
        case: its files.
        rng: source of what is painted where there is no CT.

    Raises:
        UserError: a file is missing or unreadable, CT and mask differ in their grid, the CT has no CT numbers, or the
            mask has no vertebra in it.
    """
    if case.problem:
        raise UserError(case.problem)
    if case.ct is None and not case.paint:
        raise UserError("no CT: a mask alone cannot be projected")
    if case.mask is None:
        raise UserError("no vertebra mask")
    if case.mask.is_dir():
        mask, affine = labelmap_from_meshes(case.mask, case.axcodes or "LPS")
        numbering = LabelNumbers(LABEL_MAPS[Numbering.VERSE])
    else:
        mask, affine, names = _read_volume(case.mask, "a labelmap", case)
        mask = _label_numbers(mask)
        numbering = find_numbering(mask, affine, _all_names(names, names_beside(case.mask)), case.labels)
    labels = _verse_labels(mask, numbering.levels, case)
    _check_unlabelled(case, labels, affine)
    contact = border_contact(labels, affine)
    outside = None
    annotated: dict[int, np.ndarray] = {}
    convention = ""
    if case.centroids:
        annotated, convention = read_verse_centroids(case.centroids, labels, affine)
    if case.ct is None:
        labels, affine, hu = paint_around_labels(labels, affine, rng)
    else:
        hu, outside = _read_ct(case, case.ct, mask.shape, affine)
    if outside is not None:
        for number, area in _contact_with(outside, labels, affine).items():
            contact[number] += area
    size = _voxel_size(affine)
    cut = {number for number, area in contact.items() if area > MAX_BORDER_CONTACT_MM2}
    unfit = why_unfit(labels, size, cut)
    if unfit and not contact.keys() - unfit.keys():
        number, why = next(iter(unfit.items()))
        raise UserError(f"no whole vertebra in the mask: {level_name(number)} is {why}")
    if case.spacing_mm is None and not case.mask.is_dir():
        check_scale({n: v for n, v in volumes_of(labels, size).items() if n not in cut and n not in unfit})
    metal = find_metal(hu, labels, size)
    return CaseVolumes(hu, labels, affine, contact, annotated, metal, convention, unfit, numbering.notes)


def _check_unlabelled(case: CaseFiles, labels: np.ndarray, affine: np.ndarray) -> None:
    present = np.unique(labels)
    for name, place in case.unlabelled_mm.items():
        if name != "S1" and level_number(name) in present:
            raise UserError(f"{case.key}: unlabelled_mm: {name} has a label in the mask")
        index = np.linalg.solve(affine, [*place, 1.0])[:3]
        if (index < -0.5).any() or (index > np.array(labels.shape) - 0.5).any():
            raise UserError(f"{case.key}: unlabelled_mm: {name} lies outside the CT; give world mm, RAS")


def _read_volume(path: Path, what: str, case: CaseFiles) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Array, affine as the case corrects it, and names of labels; what it does not correct must not be in doubt."""
    file = open_nifti(path)
    if file.spacing_doubt and case.spacing_mm is None:
        raise UserError(f"{path.name}: {file.spacing_doubt}; give spacing_mm in a manifest")
    if file.axes_doubt and not case.axcodes:
        raise UserError(f"{path.name}: {file.axes_doubt}; give axcodes in a manifest")
    affine = _corrected_affine(file.affine, case)
    check_volume(file.array, affine, what, path.name)
    try:
        check_field(file.array.shape, _voxel_size(affine))
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error
    return file.array, affine, file.names


def _all_names(header: dict[int, str], beside: dict[int, str]) -> dict[int, str]:
    for number in header.keys() & beside.keys():
        levels = level_in_name(header[number]), level_in_name(beside[number])
        if None not in levels and levels[0] != levels[1]:
            raise UserError(
                f"label {number} is {header[number]} in the mask's header, {beside[number]} in the JSON file"
            )
    return {**beside, **header}


def _read_ct(
    case: CaseFiles, path: Path, shape: tuple[int, ...], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """CT numbers, and where the case says what marks them, the voxels outside the scanned field."""
    stored, ct_affine, _ = _read_volume(path, "a CT", case)
    ct_shape = stored.shape
    stored, ct_affine = _in_order_of(stored, ct_affine, affine)
    # A tenth of a voxel at the far corner still puts every voxel in its place.
    off = np.abs((ct_affine - affine) @ np.array([*stored.shape, 1.0])).max()
    if stored.shape != shape or off > 0.1 * _voxel_size(affine).min():
        raise UserError(f"CT {ct_shape} and mask {shape} are not on the same grid")
    outside = None
    if case.outside_value is not None:
        # The value may occur in the patient too; what is outside hangs together with the border of the array.
        regions, _ = ndimage.label(stored == case.outside_value)
        faces = [np.take(regions, index, axis) for axis in range(3) for index in (0, -1)]
        at_border = np.unique(np.concatenate([face.ravel() for face in faces]))
        outside = np.isin(regions, at_border[at_border > 0])
    return remove_table(_hounsfield(stored, case), affine), outside


def _in_order_of(array: np.ndarray, affine: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array whose axes are swapped and flipped into the order of another affine's; voxels stay in place."""
    ours, theirs = nib.io_orientation(affine), nib.io_orientation(other)
    if np.array_equal(ours, theirs) or np.isnan(ours).any() or np.isnan(theirs).any():
        return array, affine
    change = nib.orientations.ornt_transform(ours, theirs)
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(array, change))
    return turned, affine @ nib.orientations.inv_ornt_aff(change, array.shape)


def remove_table(hu: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Air in place of everything that does not hang together with the body (table, cushions, cables).

    Found on a grid of about 4 mm: denser than -300 HU, opened, the largest component, its holes (lungs) filled, grown
    by two voxels.

    Args:
        hu: (X, Y, Z).
        affine: 4x4 index -> RAS mm.
    """
    step = np.maximum(np.rint(4.0 / _voxel_size(affine)).astype(int), 1)
    coarse = hu[:: step[0], :: step[1], :: step[2]] > -300
    opened = ndimage.binary_opening(np.pad(coarse, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    body = largest_part(opened)
    if not body.any():
        return hu
    body = ndimage.binary_dilation(ndimage.binary_fill_holes(body), iterations=2)
    whole = np.kron(body, np.ones(step, bool))[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
    return np.where(whole, hu, np.float32(AIR_HU))


def _corrected_affine(affine: np.ndarray, case: CaseFiles) -> np.ndarray:
    corrected = affine.copy()
    if case.axcodes:
        try:
            to_ras = nib.orientations.axcodes2ornt(tuple(case.axcodes.upper()))
        except ValueError as error:
            raise UserError(f"axcodes '{case.axcodes}' are no orientation; use three letters such as LPS") from error
        corrected[:3, :3] = 0
        for array_axis, (world_axis, sign) in enumerate(to_ras):
            corrected[int(world_axis), array_axis] = sign * _voxel_size(affine)[array_axis]
    if case.spacing_mm is not None:
        corrected[:3, :3] *= case.spacing_mm / _voxel_size(corrected)
    return corrected


def _hounsfield(stored: np.ndarray, case: CaseFiles) -> np.ndarray:
    values: np.ndarray = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError("the CT has NaN or infinite voxels")
    hu = values * np.float32(case.hu_scale) + np.float32(case.hu_offset)
    if case.outside_value is not None:
        hu[values == case.outside_value] = AIR_HU
    if hu.min() > -200 or hu.max() < 200:
        raise UserError(
            f"values {hu.min():.0f} to {hu.max():.0f} are no CT numbers; give hu_scale and hu_offset in a manifest"
        )
    return hu


def _verse_labels(numbers: np.ndarray, levels: dict[int, int], case: CaseFiles) -> np.ndarray:
    wanted = {level_number(name) for name in case.levels}
    table: np.ndarray = np.zeros(256, np.uint8)
    for stored, verse in levels.items():
        if not wanted or verse in wanted:
            table[stored] = verse
    labels = table[numbers]
    if not labels.any():
        raise UserError("the mask has no vertebra in it")
    return labels


def _label_numbers(mask: np.ndarray) -> np.ndarray:
    """The mask as uint8, whatever the type that it was saved with; what is uint8 already is not copied."""
    if np.issubdtype(mask.dtype, np.floating):
        if not np.isfinite(mask).all():
            raise UserError("the mask has NaN voxels")
        numbers = np.rint(mask)
        if np.abs(mask - numbers).max() > 0.01:
            raise UserError("the mask holds no label numbers (fractions, or beyond 0-255)")
    else:
        numbers = mask
    if numbers.min() < 0 or numbers.max() > 255:
        raise UserError("the mask holds no label numbers (fractions, or beyond 0-255)")
    return numbers.astype(np.uint8, copy=False)


def border_contact(labels: np.ndarray, affine: np.ndarray) -> dict[int, float]:
    """Area per VerSe number, in mm2, over which its mask touches the border of the array.

    Args:
        labels: (X, Y, Z) uint8, VerSe numbers.
        affine: 4x4 index -> RAS mm.
    """
    size = _voxel_size(affine)
    # Counting is several times faster than sorting, which is what `np.unique` does.
    contact = {number: 0.0 for number, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}
    for axis in range(3):
        face_area = float(np.prod(np.delete(size, axis)))
        for index in (0, -1):
            face = labels[tuple(index if i == axis else slice(None) for i in range(3))]
            counts = np.bincount(face.ravel(), minlength=256)
            for number in contact:
                contact[number] += float(counts[number]) * face_area
    return contact


def resample_hu(hu: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """CT numbers at a grid's voxel centres, float32; air outside the volume.

    Args:
        hu: (X, Y, Z) float32.
        affine: 4x4 index -> RAS mm.
        grid: where to sample.
    """
    # Outside the volume resampling gives 0: that has to mean air.
    above_air = torch.from_numpy(np.ascontiguousarray(hu - np.float32(AIR_HU)))
    return resample(above_air, affine, grid).numpy() + np.float32(AIR_HU)


def _contact_with(outside: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> dict[int, float]:
    """Area per VerSe number, in mm2, over which its mask touches the voxels outside the scanned field."""
    size = _voxel_size(affine)
    contact = {number: 0.0 for number, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}
    for axis in range(3):
        face_area = float(np.prod(np.delete(size, axis)))
        below, above = (
            tuple(part if i == axis else slice(None) for i in range(3)) for part in (slice(None, -1), slice(1, None))
        )
        for inner, outer in ((below, above), (above, below)):
            counts = np.bincount(labels[inner][outside[outer] & ~outside[inner]], minlength=256)
            for number in contact:
                contact[number] += float(counts[number]) * face_area
    return contact


def _voxel_size(affine: np.ndarray) -> np.ndarray:
    return np.linalg.norm(affine[:3, :3], axis=0)
