"""Stands in for `scripts.deploy.worker` in the engine's process."""

import time
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def process(folder: str) -> None:
    """One object that says which study it is of and which films it was made from."""
    films = [dcmread(path) for path in sorted((Path(folder) / "study").glob("*.dcm"))]
    time.sleep(0.1)
    result = Dataset()
    result.StudyInstanceUID = films[0].StudyInstanceUID
    result.SOPClassUID, result.SOPInstanceUID = SEGMENTATION, generate_uid(entropy_srcs=[films[0].StudyInstanceUID])
    result.Modality = "SEG"
    result.add_new("PixelData", "OB", b"12")
    result.ContentDescription = " ".join(sorted(str(film.ViewPosition) for film in films))
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = SEGMENTATION
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    target = Path(folder) / "output" / "dicom"
    target.mkdir(parents=True)
    result.save_as(target / "spine.seg.dcm", enforce_file_format=True)
