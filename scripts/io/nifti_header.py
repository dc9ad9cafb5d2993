"""What a NIfTI header says, and whether it can be true: numbers, sizes, units, geometry, names of labels."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np

from scripts.errors import UserError

# NIfTI's codes of unknown (taken as mm), metre, millimetre and micron; the spatial part of xyzt_units.
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# Deflate cannot do better.
MOST_COMPRESSED = 1032
# Voxel sizes of sform and pixdim that differ by more than this share contradict each other.
SAME_SIZE = 0.02
# Cosine between an axis of the qform and of the sform, below which they contradict each other.
SAME_AXIS = 0.9


def raw_header(image: nib.spatialimages.SpatialImage) -> nib.Nifti1Header | None:
    """The header as it is in the file, which nibabel mends without a word; None of other formats than NIfTI."""
    if not isinstance(image, nib.nifti1.Nifti1Pair):
        return None
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj("rb") as stream:
        return type(image.header).from_fileobj(stream, check=False)


def check_header(header: nib.Nifti1Header, path: Path) -> None:
    """Refuse what cannot be true, by the name of its field.

    Args:
        header: of `raw_header`.
        path: of the file, whose size bounds that of the array.

    Raises:
        UserError: NaN or infinity in what is read, no size, an unknown unit, more voxels than the file holds.
    """
    fields = {"pixdim": header["pixdim"][1:4], "vox_offset": header["vox_offset"]}
    if header["sform_code"] > 0:
        fields |= {name: header[name] for name in ("srow_x", "srow_y", "srow_z")}
    if header["qform_code"] > 0:
        names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
        fields |= {name: header[name] for name in names}
    # A slope of NaN means none; nibabel itself writes it.
    if not np.isnan(header["scl_slope"]):
        fields |= {name: header[name] for name in ("scl_slope", "scl_inter")}
    for name, values in fields.items():
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name} in its header is NaN or infinite")
    if header["qform_code"] > 0 and sum(float(header[f"quatern_{axis}"]) ** 2 for axis in "bcd") > 1.001:
        raise UserError(f"{path}: quatern_b, quatern_c and quatern_d in its header are no rotation")
    unit = int(header["xyzt_units"]) & 7
    if unit not in UNIT_MM:
        raise UserError(f"{path}: the unit of length in its header (xyzt_units {unit}) is none of NIfTI's")
    shape = [int(n) for n in header["dim"][1 : 1 + max(int(header["dim"][0]), 0)]]
    said = " x ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise UserError(f"{path}: dim in its header says {said or 'nothing'}: no size of an image")
    if header.is_single and header["vox_offset"] < header.single_vox_offset:
        raise UserError(
            f"{path}: vox_offset in its header is {float(header['vox_offset']):g}, within the header itself"
        )
    size = int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize
    packed = {".nii": 1, ".gz": MOST_COMPRESSED}.get(path.suffix.lower())
    if header.is_single and packed and size > packed * path.stat().st_size:
        raise UserError(
            f"{path}: its header says {said} voxels ({size / 1e6:.3g} MB), more than a file of "
            f"{path.stat().st_size} bytes can hold: truncated or damaged"
        )


def unit_mm(header: nib.Nifti1Header) -> float:
    """Length of the header's unit in mm."""
    return UNIT_MM[int(header["xyzt_units"]) & 7]


def spacing_doubt(header: nib.Nifti1Header) -> str:
    """Why the voxel size is not known: it is missing, or said in two ways; empty if it is known."""
    shape = header["dim"][1:4]
    sized = [axis for axis in range(min(int(header["dim"][0]), 3)) if shape[axis] > 1]
    pixdim = np.abs(header["pixdim"][1:4].astype(float))
    if header["sform_code"] <= 0:
        return "" if all(pixdim[axis] > 0 for axis in sized) else "pixdim in its header is 0: no voxel size"
    said = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    if any(said[axis] <= 0 for axis in sized):
        return "sform in its header is 0 along an axis: no voxel size"
    if all(pixdim[axis] == 0 or abs(said[axis] / pixdim[axis] - 1) <= SAME_SIZE for axis in sized):
        return ""
    sizes = (" x ".join(f"{unit_mm(header) * float(size[axis]):.4g}" for axis in sized) for size in (said, pixdim))
    return "its header contradicts itself: sform says voxels of {} mm, pixdim {} mm".format(*sizes)


def axes_doubt(header: nib.Nifti1Header) -> str:
    """Why it is not known where the axes point; empty if it is known."""
    if header["qform_code"] <= 0 and header["sform_code"] <= 0:
        return "neither qform nor sform in its header: where its axes point is not known"
    if header["qform_code"] <= 0 or header["sform_code"] <= 0 or not header.get_sform()[:3, :3].any(0).all():
        return ""
    forms = [form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (header.get_qform(), header.get_sform())]
    if ((forms[0] * forms[1]).sum(0) >= SAME_AXIS).all():
        return ""
    codes = ["".join(map(str, nib.aff2axcodes(nib.affines.from_matvec(form)))) for form in forms]
    return f"its header contradicts itself: axes {codes[0]} by its qform, {codes[1]} by its sform"


def label_names(header: nib.Nifti1Header) -> dict[int, str]:
    """Names of label numbers in a table of labels (``<Label Key="27">vertebrae_L5</Label>``), as TotalSegmentator has.

    Anything else is ignored: extensions may contain anything.
    """
    names: dict[int, str] = {}
    for extension in header.extensions:
        content = extension.get_content()
        try:
            root = ElementTree.fromstring(content.strip(b"\0 \n") if isinstance(content, bytes) else str(content))
            names |= {int(label.attrib["Key"]): (label.text or "").strip() for label in root.iter("Label")}
        except (ElementTree.ParseError, KeyError, ValueError):
            continue
    return names
