"""DICOM radiographs made from the sample patient, as scanners write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from scripts.io.nifti import read_nifti
from tests.conftest import SAMPLE

DX = "1.2.840.10008.5.1.4.1.1.1.1"  # for presentation
SECRET = "Doe^Jane"
STUDY = generate_uid(entropy_srcs=["study"])


def sample_film(name: str) -> np.ndarray:
    """(rows, columns) line integrals of ``ap`` or ``lat``, 1 mm a pixel."""
    return np.asarray(read_nifti(SAMPLE / f"{name}.nii.gz")[0], np.float32)


def write_dicom(path: Path, name: str, film: np.ndarray | None = None, bits: int = 12, **attributes: Any) -> Path:
    """A DX file of the sample's ``ap`` or ``lat`` film; attributes overwrite, None removes."""
    film = sample_film(name) if film is None else film
    top = 2**bits - 1
    stored = np.rint(film / max(float(film.max()), 1e-6) * top * 0.9).astype(np.uint8 if bits == 8 else np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = DX, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = STUDY
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["series", name])
    data.Modality, data.Manufacturer = "DX", "Somebody"
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "4711", SECRET, "19700102", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240506", "101112", "7", "88"
    data.ReferringPhysicianName = ""
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.PresentationIntentType = "FOR PRESENTATION"
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = (8, 8, 7) if bits == 8 else (16, bits, bits - 1)
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "US"
    data.PixelSpacing = [1.0, 1.0]
    data.ImagerPixelSpacing = [1.2, 1.2]
    data.ViewPosition = "AP" if name == "ap" else "RL"
    data.PatientOrientation = ["L", "F"] if name == "ap" else ["P", "F"]
    data.PixelData = stored.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def stored_pixels(path: Path) -> np.ndarray:
    """What a DICOM file holds, as it is stored."""
    return pydicom.dcmread(path).pixel_array
