"""Small readable inputs of every kind, to be corrupted."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import yaml
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from scripts.geometry.biplanar import geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.io.nifti import film_affine
from scripts.paths import BUNDLE_ROOT

SAMPLE = BUNDLE_ROOT / "docs" / "sample"
ROWS, COLUMNS = 48, 40
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
EXACT = geometry_of_grid(Grid((0.0, 0.0, 0.0), (ROWS, COLUMNS, COLUMNS), 4.0))


@dataclass(frozen=True)
class Original:
    """A readable input.

    Args:
        name: of its file; what comes before the first ``.`` says which reader is asked.
        kind: its format, such as ``json`` or ``dicom``, which decides how it is corrupted (`mutations.mutate`).
        content: of the file.
    """

    name: str
    kind: str
    content: bytes


def originals() -> list[Original]:
    """All of them, always the same bytes."""
    film = _film()
    eight = (film >> 8).astype(np.uint8)
    colours = Image.fromarray(np.stack([eight] * 3, -1))
    grey = Image.fromarray(eight)
    geometry = {
        "beam": "cone", "simultaneous": True,
        "ap": {"source_to_detector_mm": 1500.0, "source_to_isocentre_mm": 1200.0, "pixel_spacing_mm": [4.0, 4.0]},
        "lat": {"source_to_detector_mm": 1500.0, "source_to_isocentre_mm": 1200.0, "pixel_spacing_mm": [4.0, 4.0]},
    }  # fmt: skip
    points = [
        {"direction": ["R", "A", "S"]},
        *({"label": n, "X": 20.0, "Y": 20.0, "Z": z} for n, z in ((20, 34.0), (21, 14.0))),
    ]
    case = {"ct": "a_ct.nii.gz", "mask": "a_mask.nii.gz", "levels": ["L1"], "spacing_mm": 1.0}
    item = {"image": "p_image.nii.gz", "label": "p_label.nii.gz", "subject": "p", "level": "L1"}
    return [
        *(Original(f"film_{name}.dcm", "dicom", content) for name, content in _dicom_films(film).items()),
        Original("film.nii", "nifti", _nifti(film, film_affine(EXACT.ap), ".nii")),
        Original("film_packed.nii.gz", "nifti", _nifti(film, film_affine(EXACT.ap), ".nii.gz")),
        Original("film.png", "png", _picture(Image.fromarray(film), "png", dpi=(25.4, 25.4))),
        Original("film_palette.png", "png", _picture(grey.convert("P"), "png")),
        Original("film.tif", "tiff", _picture(Image.fromarray(film), "tiff", dpi=(25.4, 25.4))),
        Original("film_packed.tif", "tiff", _picture(grey, "tiff", compression="tiff_deflate")),
        Original("film.jpg", "jpeg", _picture(colours, "jpeg", exif=_turned())),
        Original("ct.nii.gz", "nifti", _nifti(*_volume(labels=False), ".nii.gz")),
        Original("mask.nii.gz", "nifti", _nifti(*_volume(labels=True), ".nii.gz")),
        Original("marks.json", "json", (SAMPLE / "annotations.json").read_bytes()),
        Original("geometry.yaml", "yaml", yaml.safe_dump(geometry).encode()),
        Original("geometry.json", "json", json.dumps(EXACT.to_dict()).encode()),
        Original("manifest.json", "json", json.dumps([case | {"subject": f"p{n}"} for n in range(3)]).encode()),
        Original("dataset.json", "json", json.dumps({"training": [item] * 2, "test": [item]}).encode()),
        Original("points.json", "json", json.dumps(points).encode()),
    ]


def _film() -> np.ndarray:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    column = np.exp(-(((columns - COLUMNS / 2) / 8) ** 2)) * (2 + np.cos(rows / 2.5))
    return (15000 * column + 9000 * (columns > 3) + 40 * rows).astype(np.uint16)


def _volume(labels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two blocks one above the other, of 2 mm voxels: a CT of them, or their labels L1 and L2."""
    array: np.ndarray = np.full((40, 40, 50), 0 if labels else -1000, np.int16)
    for number, bottom in ((21, 8), (20, 28)):
        array[10:30, 12:28, bottom : bottom + 13] = number if labels else 400
    return (array.astype(np.uint8) if labels else array), np.diag([2.0, 2.0, 2.0, 1.0])


def _nifti(array: np.ndarray, affine: np.ndarray, suffix: str) -> bytes:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    with tempfile.TemporaryDirectory() as folder:
        nib.save(image, Path(folder) / f"a{suffix}")
        return (Path(folder) / f"a{suffix}").read_bytes()


def _picture(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _dicom_films(film: np.ndarray) -> dict[str, bytes]:
    """Of three transfer syntaxes; the second has a window, padding and a shutter, the third a table and a palette's
    size beside it."""
    plain = _dicom(film, ExplicitVRLittleEndian)
    windowed = _dicom(film, ImplicitVRLittleEndian)
    windowed.WindowCenter, windowed.WindowWidth, windowed.PixelPaddingValue = [20000, 9000], [40000, 1000], 9000
    windowed.ShutterShape, windowed.CenterOfCircularShutter, windowed.RadiusOfCircularShutter = "CIRCULAR", [24, 20], 19
    windowed.PhotometricInterpretation = "MONOCHROME1"
    packed = _dicom(film >> 8, ExplicitVRLittleEndian)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "OD"
    table.add_new("LUTData", "US", [257 * n for n in range(256)])
    del packed.RescaleSlope, packed.RescaleIntercept
    packed.ModalityLUTSequence = [table]
    packed.compress(RLELossless, generate_instance_uid=False)
    contents = {}
    for name, data in (("plain", plain), ("implicit", windowed), ("packed", packed)):
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        contents[name] = stream.getvalue()
    return contents


def _dicom(film: np.ndarray, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CR_IMAGE, _uid("object")
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CR_IMAGE, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = _uid("study"), _uid("series")
    data.SpecificCharacterSet, data.Modality, data.Manufacturer = "ISO_IR 100", "CR", "Nobody"
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "1", "No^Body", "19700102", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240506", "101112.5", "7", "8"
    data.PatientAge, data.ReferringPhysicianName, data.StudyDescription = "054Y", "", "spine"
    data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = 1, 1, "frontal"
    data.ViewPosition, data.PatientOrientation, data.ImageType = "AP", ["L", "F"], ["ORIGINAL", "PRIMARY"]
    data.Rows, data.Columns = film.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelSpacing, data.ImagerPixelSpacing, data.PixelAspectRatio = [4.0, 4.0], [4.8, 4.8], [1, 1]
    data.DistanceSourceToDetector, data.DistanceSourceToPatient = 1800, 1500
    data.EstimatedRadiographicMagnificationFactor = 1.2
    data.PixelData = film.astype("<u2").tobytes()
    return data


def _uid(what: str) -> str:
    return generate_uid(entropy_srcs=[what])
