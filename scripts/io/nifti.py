"""NIfTI files: volumes, labelmaps, and radiographs with their geometry in the header."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, View
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR
from scripts.io.nifti_header import axes_doubt, check_header, label_names, raw_header, spacing_doubt, unit_mm

# Line integrals in steps of 1/4096: a lateral of 38 cm of water reaches 7.7, and 16 bits reach 16.
FILM_STEP = 1.0 / 4096
# Of NIfTI-2, the longer one.
HEADER_BYTES = 540
# Of the unit vectors along a volume's axes; that of a gantry tilted by 45 degrees is 0.7.
LEAST_DETERMINANT = 0.1
# Cosine of rows and columns that are perpendicular.
PERPENDICULAR = 0.01
ShapeCheck = Callable[[tuple[int, ...], str], None]


@dataclass(frozen=True)
class NiftiFile:
    """What a NIfTI file holds.

    Args:
        array: its values, scaled as the header says; axes of length 1 beyond the third are left out.
        affine: 4x4 index -> RAS mm, whatever the header's unit of length.
        names: label number -> name, where the header has a table of labels.
        spacing_doubt: why its voxel size is not known; empty if it is.
        axes_doubt: why it is not known where its axes point; empty if it is.
    """

    array: np.ndarray
    affine: np.ndarray
    names: dict[int, str]
    spacing_doubt: str = ""
    axes_doubt: str = ""


def read_nifti(path: Path, check_shape: ShapeCheck | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Array and 4x4 affine, index -> RAS mm, of a NIfTI file.

    Args:
        path: the file.
        check_shape: called with the lengths of the axes and the file's name before the values are unpacked; raises
            where they are too large.

    Raises:
        UserError: missing, truncated, not NIfTI, or with a header that cannot be true or contradicts itself about voxel
            size or axes.
    """
    file = open_nifti(path, check_shape)
    if doubt := file.spacing_doubt or file.axes_doubt:
        raise UserError(f"{path}: {doubt}")
    return file.array, file.affine


def read_volume(path: Path, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Array (X, Y, Z) and 4x4 affine of a NIfTI file with one number a voxel.

    Args:
        path: the file; one of (X, Y, Z, 1) is read too.
        what: it is to hold, for the error.

    Raises:
        UserError: missing, truncated, not NIfTI, a header that cannot be true, colours, complex numbers, or not 3D.
    """
    array, affine = read_nifti(path)
    check_volume(array, affine, what, str(path))
    return array, affine


def check_volume(array: np.ndarray, affine: np.ndarray, what: str, name: str) -> None:
    """Raise a `UserError` where an array is not a volume (X, Y, Z) of real numbers with a proper affine."""
    if array.dtype.names or np.iscomplexobj(array):
        kind = f"colours ({''.join(array.dtype.names)})" if array.dtype.names else "complex numbers"
        raise UserError(f"{name}: holds {kind}, {what} has one number a voxel")
    if array.ndim != 3:
        raise UserError(f"{name}: {what} is 3D, this has shape {array.shape}")
    axes = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    if abs(np.linalg.det(axes)) < LEAST_DETERMINANT:
        raise UserError(f"{name}: two axes of its affine are alike or nothing: no geometry of a volume")


def open_nifti(path: Path, check_shape: ShapeCheck | None = None) -> NiftiFile:
    """A NIfTI file with what its header says and leaves in doubt.

    Args:
        path: the file.
        check_shape: given the lengths of the axes and the file's name before the values are unpacked; raises where they
            are too many.

    Raises:
        UserError: missing, truncated, not NIfTI, or with a header that cannot be true.
    """
    try:
        with _quiet(), np.errstate(all="ignore"):
            image = nib.load(path)
            header = raw_header(image)
            if header is not None:
                check_header(header, path)
            if check_shape is not None:
                check_shape(image.shape, str(path))  # type: ignore[attr-defined]
            array = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
            affine = np.array(image.affine, float)  # type: ignore[attr-defined]
            if header is not None:
                affine[:3] *= unit_mm(header)
            return NiftiFile(
                array.reshape(array.shape[:3]) if array.ndim > 3 and set(array.shape[3:]) == {1} else array,
                affine,
                label_names(image.header) if header is not None else {},
                spacing_doubt(header) if header is not None else "",
                axes_doubt(header) if header is not None else "",
            )
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except MemoryError as error:
        raise UserError(f"{path}: too large for this machine's memory") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: truncated or damaged ({type(error).__name__})") from error
    except nib.filebasedimages.ImageFileError as error:
        raise UserError(f"{path}: {_what_instead(path)}") from error
    except nib.spatialimages.HeaderDataError as error:
        raise UserError(f"{path}: its header is not valid ({_first_line(error)})") from error
    except OSError as error:
        # nibabel raises these with no number of the system's where the data end early.
        reason = error.strerror or f"truncated or damaged ({_first_line(error)})"
        raise UserError(f"{path}: {reason}") from error
    except Exception as error:
        # Whatever else a strange file brings about in nibabel; tests name those that are known.
        raise UserError(f"{path}: cannot be read as NIfTI ({type(error).__name__}: {_first_line(error)})") from error


def _what_instead(path: Path) -> str:
    """What a file is whose beginning nibabel cannot read, for the error."""
    if path.is_dir():
        return "a folder"
    if not path.stat().st_size:
        return "an empty file"
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as stream:
                stream.read(HEADER_BYTES)
        except gzip.BadGzipFile:
            return "not compressed by gzip, although its name says so"
        except (EOFError, zlib.error) as error:
            return f"truncated or damaged ({type(error).__name__})"
    return "not a NIfTI file"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from writing what it mends to the terminal, without the file's name; `check_header` has it."""
    logger = nib.imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


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


def read_film(path: Path, frontal: bool, check_shape: ShapeCheck | None = None) -> tuple[np.ndarray, View]:
    """A radiograph and, from its affine, its parallel-beam geometry.

    Args:
        path: a 2D NIfTI whose first axis is the rows.
        frontal: whether an AP view is expected, else a LAT view.
        check_shape: called with the lengths of the axes and the file's name before the values are unpacked; raises
            where they are too large.

    Returns:
        (rows, columns) float32 and the view.

    Raises:
        UserError: not readable, not 2D, not finite, blank, or its affine is that of another view or a flipped one.
    """
    name = "AP" if frontal else "LAT"
    array, affine = read_nifti(path, check_shape)
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
