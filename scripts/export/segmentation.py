"""The labelmap as a DICOM Segmentation object: one binary segment a vertebra, coded, in the patient's frame."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from scipy.ndimage import find_objects

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.export.codes import level_code
from scripts.export.origin import (
    MANUFACTURER,
    MODEL,
    SERIAL,
    SERIES,
    Origin,
    describe,
    instance,
    references,
    shadow,
)
from scripts.export.report import shortened
from scripts.levels import in_order, level_name

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SERIES_NUMBER = 9001


def segmentation(labels: np.ndarray, affine: np.ndarray, origin: Origin, edited: bool) -> Dataset:
    """A DICOM Segmentation of a labelmap.

    Args:
        labels: (X, Y, Z) uint8 of VerSe numbers.
        affine: 4x4 index -> RAS mm.
        origin: patient, study, UIDs.
        edited: whether a person set or moved marks, so that it is not fully automatic.

    Raises:
        UserError: there is no vertebra in it.
    """
    numbers = in_order(sorted({int(n) for n in np.unique(labels)} - {0}))
    if not numbers:
        raise UserError("the labelmap holds no vertebra: nothing to export")
    # Slices along S, rows along P and columns along L, as CT has them.
    image = nib.Nifti1Image(labels, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("SPL"))
    image = image.as_reoriented(turn)
    array, box = np.asarray(image.dataobj), find_objects((np.asarray(image.dataobj) > 0).astype(np.uint8))[0]
    placed = np.asarray(image.affine) @ _shift([s.start for s in box])
    segments: np.ndarray = np.zeros([s.stop - s.start for s in box], np.uint8)
    for position, number in enumerate(numbers, start=1):
        segments[array[box] == number] = position
    volume = hd.Volume(segments, RAS_TO_LPS @ placed, "PATIENT", frame_of_reference_uid=origin.frame_of_reference_uid)
    data = hd.seg.Segmentation(
        source_images=[shadow(origin)],
        pixel_array=volume,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(i, number, origin, edited) for i, number in enumerate(numbers, start=1)],
        series_instance_uid=origin.uid("segmentation", "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=origin.uid("segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=origin.version,
        device_serial_number=SERIAL,
        content_label="VERTEBRAE",
        content_description=origin.described("From radiographs; not for diagnosis"),
        series_description=origin.described(SERIES),
    )
    describe(data, origin)
    data.ContentDate, data.ContentTime = origin.when.strftime("%Y%m%d"), origin.when.strftime("%H%M%S")
    _refer(data, origin)
    return data


def write_segmentation(
    path: Path, labels: np.ndarray, affine: np.ndarray, origin: Origin, edited: bool = False
) -> None:
    """Write `segmentation` to a file."""
    segmentation(labels, affine, origin, edited).save_as(path, enforce_file_format=True)


def _describe(position: int, number: int, origin: Origin, edited: bool) -> SegmentDescription:
    name = level_name(number)
    kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC if edited else SegmentAlgorithmTypeValues.AUTOMATIC
    segment = SegmentDescription(
        segment_number=position,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=level_code(number),
        algorithm_type=kind,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MODEL, family=codes.DCM.ArtificialIntelligence, version=origin.version
        ),
        tracking_uid=origin.uid("tracking", name),
        tracking_id=f"Vertebra {name}",
        display_color=hd.color.CIELabColor.from_rgb(*level_colour(number)),
    )
    if name in origin.judged:
        segment.SegmentDescription = shortened(origin.judged[name])
    return segment


def _refer(data: Dataset, origin: Origin) -> None:
    """References to both films, in place of those to the one source that highdicom was given."""
    for keyword in (
        "ReferencedSeriesSequence",
        "StudiesContainingOtherReferencedInstancesSequence",
        "SourceImageSequence",
    ):
        if keyword in data:
            delattr(data, keyword)
    for frame in data.PerFrameFunctionalGroupsSequence:
        if "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence
    organisation = origin.uid("dimensions")
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    if not origin.films:
        data.ContributingEquipmentSequence = [
            item
            for item in data.ContributingEquipmentSequence
            if item.PurposeOfReferenceCodeSequence[0].CodeValue != codes.DCM.AcquisitionEquipment.value
        ]
        return
    if not origin.referable:
        return
    own, other = references(origin)
    data.ReferencedSeriesSequence = own
    if other:
        data.StudiesContainingOtherReferencedInstancesSequence = other
    sources = []
    for film in origin.referable:
        item = instance(film)
        item.SpatialLocationsPreserved = "NO"
        item.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
        sources.append(item)
    derivation = Dataset()
    derivation.DerivationCodeSequence = [_code(codes.cid7203.SegmentationImageDerivation)]
    derivation.SourceImageSequence = sources
    data.SharedFunctionalGroupsSequence[0].DerivationImageSequence = [derivation]


def _code(code: hd.sr.CodedConcept) -> Dataset:
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme_designator, meaning=code.meaning)


def _shift(start: list[int]) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = start
    return shift
