"""Reading a case's CT and labelmap, with the defects that real files have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from scripts.anatomy.centroids import read_verse_centroids
from scripts.data.cases import CaseFiles
from scripts.data.meshes import labelmap_from_meshes
from scripts.data.metal import MetalEvidence, find_metal
from scripts.errors import UserError
from scripts.geometry.components import largest_part
from scripts.geometry.frames import Grid, resample
from scripts.io.nifti import read_nifti
from scripts.levels import LABEL_MAPS, level_number
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
    """

    hu: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    border_contact_mm2: dict[int, float]
    annotated: dict[int, np.ndarray]
    metal: MetalEvidence
    centroid_convention: str = ""


def read_case(case: CaseFiles, rng: np.random.Generator) -> CaseVolumes:
    """CT numbers, VerSe labels and annotated centroids of a case.

    Args:
        case: its files.
        rng: source of what is painted where there is no CT.

    Raises:
        UserError: a file is missing or unreadable, CT and mask differ in their grid, the CT is no CT, or the mask has
            no vertebra in it.
    """
    if case.ct is None and not case.paint:
        raise UserError("no CT: a mask alone cannot be projected")
    if case.mask is None:
        raise UserError("no vertebra mask")
    if case.mask.is_dir():
        mask, affine = labelmap_from_meshes(case.mask, case.axcodes or "LPS")
    else:
        mask, affine = read_nifti(case.mask)
        affine = _corrected_affine(affine, case)
    if mask.ndim != 3:
        raise UserError(f"{case.mask.name}: a labelmap is 3D, this has shape {mask.shape}")
    labels = _verse_labels(mask, case)
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
    metal = find_metal(hu, labels, _voxel_size(affine))
    return CaseVolumes(hu, labels, affine, contact, annotated, metal, convention)


def _read_ct(
    case: CaseFiles, path: Path, shape: tuple[int, ...], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """CT numbers, and where the case says what marks them, the voxels outside the scanned field."""
    stored, ct_affine = read_nifti(path)
    if stored.ndim != 3:
        raise UserError(f"{path.name}: a CT is 3D, this has shape {stored.shape}")
    # A tenth of a voxel at the far corner still puts every voxel in its place.
    off = np.abs((_corrected_affine(ct_affine, case) - affine) @ np.array([*stored.shape, 1.0])).max()
    if stored.shape != shape or off > 0.1 * _voxel_size(affine).min():
        raise UserError(f"CT {stored.shape} and mask {shape} are not on the same grid")
    outside = None
    if case.outside_value is not None:
        # The value may occur in the patient too; what is outside hangs together with the border of the array.
        regions, _ = ndimage.label(stored == case.outside_value)
        faces = [np.take(regions, index, axis) for axis in range(3) for index in (0, -1)]
        at_border = np.unique(np.concatenate([face.ravel() for face in faces]))
        outside = np.isin(regions, at_border[at_border > 0])
    return remove_table(_hounsfield(stored, case), affine), outside


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


def _verse_labels(mask: np.ndarray, case: CaseFiles) -> np.ndarray:
    if case.labels not in LABEL_MAPS:
        raise UserError(f"unknown label numbering '{case.labels}'; use {', '.join(LABEL_MAPS)}")
    numbers = _label_numbers(mask)
    wanted = {level_number(name) for name in case.levels}
    table: np.ndarray = np.zeros(256, np.uint8)
    for stored, verse in LABEL_MAPS[case.labels].items():
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
