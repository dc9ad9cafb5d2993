"""NIfTI files: volumes, labelmaps, and radiographs with their geometry in the header."""

from __future__ import annotations

import logging
import math
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, View
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR

# Line integrals in steps of 1/4096: a lateral of 38 cm of water reaches 7.7, and 16 bits reach 16.
FILM_STEP = 1.0 / 4096
# NIfTI's codes of unknown (taken as mm), metre, millimetre and micron.
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
PERPENDICULAR = 0.01  # cosine of rows and columns that are
# What is wrong with a header is said in our words, in one line.
nib.imageglobals.logger.setLevel(logging.CRITICAL + 1)
DEFLATES_BY = 1100  # gzip makes nothing smaller than by this factor


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array and 4x4 affine of a NIfTI file; the affine in mm, whatever unit the header has.

    Raises:
        UserError: missing, truncated, not NIfTI, or its header is impossible.
    """
    try:
        with np.errstate(all="ignore"):
            image = nib.load(path)
            _check_content(image, path)
            array, affine = np.asanyarray(image.dataobj), np.asarray(image.affine, float)  # type: ignore[attr-defined]
            unit = int(image.header["xyzt_units"]) % 8  # type: ignore[attr-defined]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UserError:
        raise
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f"{path}: not a readable NIfTI file, truncated or damaged ({type(error).__name__})") from error
    # What nibabel makes of a header that it cannot follow has many names.
    except Exception as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"{path}: its NIfTI header cannot be read ({reason})") from error
    if not np.isfinite(affine).all():
        raise UserError(f"{path}: the affine in its header is NaN or infinite")
    if unit not in MM_PER_UNIT:
        raise UserError(f"{path}: the unit of length in its header (xyzt_units {unit}) is none of NIfTI's")
    affine[:3] *= MM_PER_UNIT[unit]
    return array, affine


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """A NIfTI file in mm with nothing in its header but the geometry; the same array gives the same bytes."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_quantised(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Values of 0 to 16 as 16-bit integers with a scale in the header (what line integrals need and no more).

    Integers know no NaN: values with NaN are written as float32, in the same steps.
    """
    steps = np.clip(np.rint(values / FILM_STEP), 0, 65535)
    if not np.isfinite(values).all():
        write_nifti(path, (steps * FILM_STEP).astype(np.float32), affine)
        return
    stored = steps.astype(np.uint16)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(FILM_STEP, 0)
    nib.save(image, path)


def film_affine(view: View) -> np.ndarray:
    """Pixel index (row, column, 0) -> world mm in the plane of the isocentre."""
    size = view.pixel_mm
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(view.row_direction) * size[0]
    affine[:3, 1] = np.asarray(view.column_direction) * size[1]
    affine[:3, 2] = view.beam_direction
    affine[:3, 3] = np.asarray(view.isocentre_mm) - affine[:3, :2] @ np.asarray(view.principal_point)
    return affine


def write_film(path: Path, film: np.ndarray, view: View) -> None:
    """A radiograph (rows, columns) of line integrals; its affine says where its pixels lie in the patient."""
    write_quantised(path, film, film_affine(view))


def read_film(path: Path, frontal: bool) -> tuple[np.ndarray, View]:
    """A radiograph and, from its affine, its parallel-beam geometry.

    Args:
        path: a 2D NIfTI whose first axis is the rows.
        frontal: whether an AP view is expected, else a LAT view.

    Returns:
        (rows, columns) float32 and the view.

    Raises:
        UserError: not readable, not 2D, not finite, blank, or its affine is that of another view or a flipped one.
    """
    name = "AP" if frontal else "LAT"
    array, affine = read_nifti(path)
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise UserError(f"{path}: a radiograph is 2D, this has shape {array.shape}")
    if array.dtype.names:
        array = np.mean([array[name] for name in array.dtype.names if name in "RGB"], axis=0)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: its pixels are no numbers of grey (NIfTI data type {array.dtype})")
    with np.errstate(over="ignore"):
        film: np.ndarray = array.astype(np.float32)
    if not np.isfinite(film).all():
        raise UserError(f"{path}: {int((~np.isfinite(film)).sum())} pixels are NaN or infinite")
    if film.max() <= film.min():
        raise UserError(f"{path}: blank, every pixel is {film.flat[0]:g}")
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    if not (spacing > 0).all():
        raise UserError(f"{path}: no pixel spacing in its header")
    row, column = (affine[:3, :2] / spacing).T
    wanted = LEFT if frontal else POSTERIOR
    if row @ INFERIOR < 0.9 or column @ wanted < 0.9:
        axes = "".join(code or "?" for code in nib.aff2axcodes(affine)[:2])
        raise UserError(
            f"{path}: rows and columns grow towards {axes} (nearest axes), an {name} view needs "
            f"I{'L' if frontal else 'P'}; is it flipped, transposed or the other view?"
        )
    if abs(row @ column) > PERPENDICULAR:
        raise UserError(f"{path}: rows and columns are not perpendicular by the affine in its header")
    beam = POSTERIOR if frontal else -LEFT
    beam = beam - (beam @ row) * row - (beam @ column) * column
    rows, columns = film.shape
    origin = affine[:3, 3]
    view = View(
        beam=Beam.PARALLEL,
        row_direction=tuple(row.tolist()),
        column_direction=tuple(column.tolist()),
        beam_direction=tuple((beam / np.linalg.norm(beam)).tolist()),
        isocentre_mm=tuple(origin.tolist()),
        principal_point=(0.0, 0.0),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        shape=(rows, columns),
    )
    return film, view


def _check_content(image: object, path: Path) -> None:
    """Refuse a header that promises more than its file can hold, before memory is asked for it, or has no voxel size.

    nibabel takes a size of 0 for 1 mm.
    """
    with nib.openers.ImageOpener(str(path)) as stream:
        sizes = type(image.header).from_fileobj(stream, check=False)["pixdim"]  # type: ignore[attr-defined]
    header = image.header  # type: ignore[attr-defined]
    shape = [int(n) for n in header.get_data_shape()]
    if min(shape, default=0) < 1:
        raise UserError(f"{path}: an array of {' x '.join(map(str, shape))} in its header is impossible")
    if header["sform_code"] == 0 and (sizes[1 : min(len(shape), 3) + 1] == 0).any():
        raise UserError(f"{path}: no pixel spacing in its header (pixdim is 0)")
    wanted = math.prod(shape) * header.get_data_dtype().itemsize
    there = path.stat().st_size * (DEFLATES_BY if path.name.lower().endswith(".gz") else 1)
    if wanted > there:
        size = " x ".join(map(str, shape))
        raise UserError(f"{path}: truncated or damaged, its header promises {size} values and the file is too short")
