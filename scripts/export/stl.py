"""A vertebra's surface as a DICOM Encapsulated STL object (PS3.3 A.85.1), in the segmentation's space."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import trimesh
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EncapsulatedSTLStorage, ExplicitVRLittleEndian

from scripts.errors import UserError
from scripts.export.codes import level_code
from scripts.export.origin import SERIES, Origin, describe, instance, references
from scripts.export.report import shortened
from scripts.levels import level_name

# DICOM's patient space is LPS; a binary STL must not begin with "solid".
HEADER = b"Vertebra surface. UNIT=mm SPACE=LPS".ljust(80)
SERIES_NUMBER = 9002


def encapsulated_stl(mesh: trimesh.Trimesh, number: int, position: int, origin: Origin) -> FileDataset:
    """A vertebra's surface as an object.

    Args:
        mesh: in RAS mm.
        number: VerSe number of the level.
        position: instance number in the series, from 1.
        origin: patient, study, UIDs.

    Raises:
        UserError: the surface is not closed.
    """
    name = level_name(number)
    if not mesh.is_watertight:
        raise UserError(f"{name}: its surface is not closed and is no solid to export")
    # Half a turn about the long axis: handedness, and so the normals, stay.
    turned = trimesh.Trimesh(mesh.vertices * [-1.0, -1.0, 1.0], mesh.faces, process=False)
    document = HEADER + trimesh.exchange.stl.export_stl(turned)[len(HEADER) :]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EncapsulatedSTLStorage
    meta.MediaStorageSOPInstanceUID = origin.uid("stl", name)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    describe(data, origin)
    data.SOPClassUID, data.SOPInstanceUID = EncapsulatedSTLStorage, meta.MediaStorageSOPInstanceUID
    data.Modality = "M3D"
    data.SeriesInstanceUID, data.SeriesNumber = origin.uid("stl", "series"), SERIES_NUMBER
    data.SeriesDescription = origin.described(SERIES)
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = origin.frame_of_reference_uid, ""
    data.InstanceNumber = position
    data.ContentDate, data.ContentTime = origin.when.strftime("%Y%m%d"), origin.when.strftime("%H%M%S")
    film = origin.describing
    data.AcquisitionDateTime = film.get("AcquisitionDateTime") or ""
    title = origin.described(f"Vertebra {name}")
    judgement = f"; {origin.judged[name]}" if name in origin.judged else ""
    data.BurnedInAnnotation, data.DocumentTitle = "NO", shortened(title + judgement)
    data.ConceptNameCodeSequence = Sequence([_item(level_code(number))])
    data.MeasurementUnitsCodeSequence = Sequence([_item(codes.UCUM.Millimeter)])
    data.ModelModification, data.ModelMirroring = "NO", "NO"
    data.MIMETypeOfEncapsulatedDocument = "model/stl"
    data.EncapsulatedDocumentLength = len(document)
    data.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    if origin.referable:
        data.SourceInstanceSequence = Sequence([instance(film) for film in origin.referable])
        own, other = references(origin)
        data.ReferencedSeriesSequence = own
        if other:
            data.StudiesContainingOtherReferencedInstancesSequence = other
    return data


def write_stl_object(path: Path, mesh: trimesh.Trimesh, number: int, position: int, origin: Origin) -> None:
    """Write `encapsulated_stl` to a file."""
    encapsulated_stl(mesh, number, position, origin).save_as(path, enforce_file_format=True)


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
