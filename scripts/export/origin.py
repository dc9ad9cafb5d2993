"""Whose objects these are: the films' patient and study, new series and UIDs, and references back to the films.

Patient and study attributes are copied from DICOM films and from nowhere else; where the films are none, those that the
standard lets be empty are empty. UIDs are derived from the films' UIDs and the content, so that the same export gives
the same UIDs and an archive sees a repeated export for what it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from scripts.export.identity import EQUIPMENT, PATIENT, PATIENT_MORE, STUDY, STUDY_MORE, referable
from scripts.paths import software_version

MANUFACTURER = "vertebra-biplanar-reconstruction"
MODEL = "Vertebra reconstruction from biplanar radiographs"
SERIAL = "none"  # type 1 in the standard; software has no serial number
CHARACTER_SET = "ISO_IR 192"  # UTF-8, whatever the films' is
SERIES = "Vertebrae from two radiographs"


@dataclass(frozen=True)
class Origin:
    """What all objects of one export share.

    Args:
        films: clean headers of those films that are DICOM, AP first, see `scripts.export.identity`.
        seed: of the UIDs.
        when: of the export.
        version: of this software.
        levels: how far they can be trusted, see `scripts.io.annotations.Annotations.levels_in_words`.
        judged: what each vertebra is not good for, by the name of its level; see `scripts.export.report.judgements`.
    """

    films: tuple[Dataset, ...]
    seed: str
    when: datetime
    version: str
    levels: str
    judged: Mapping[str, str] = field(default_factory=dict)

    def uid(self, *names: str) -> str:
        """The UID of something in this export."""
        return generate_uid(entropy_srcs=[self.seed, *names])

    def described(self, text: str) -> str:
        """A description of at most 64 characters, with what the reader has to know of its levels."""
        return f"{text}; {self.levels}"

    @property
    def describing(self) -> Dataset:
        """The film whose patient, study and equipment the objects have; empty if no film is DICOM."""
        described = (film for film in self.films if any(keyword in film for keyword in (*PATIENT, *STUDY)))
        return next(described, self.films[0] if self.films else Dataset())

    @property
    def study_uid(self) -> str:
        """The films' study, or a new one."""
        films = (self.describing, *self.films)
        studies = [str(film.StudyInstanceUID) for film in films if "StudyInstanceUID" in film]
        return studies[0] if studies else self.uid("study")

    @property
    def referable(self) -> list[Dataset]:
        """Films that can be referred to."""
        return [film for film in self.films if referable(film)]

    @property
    def frame_of_reference_uid(self) -> str:
        """Of the reconstruction's own space: films have none that it could share."""
        return self.uid("frame of reference")


def make_origin(
    films: list[Dataset],
    content: list[Path],
    levels: str,
    edited: bool,
    when: datetime | None = None,
    judged: Mapping[str, str] | None = None,
) -> Origin:
    """The origin of an export.

    Args:
        films: clean DICOM headers, AP first; may be empty.
        content: the reconstruction's files that are exported.
        levels: see `Origin`.
        edited: whether a person set or moved marks.
        when: time of the export; now if None.
        judged: see `Origin`.
    """
    version = software_version()
    # All that the objects say: two that differ must not share a UID.
    said = [[(element.keyword, str(element.value)) for element in film] for film in films]
    digest = hashlib.sha256(repr((said, levels, edited, version, judged or {})).encode("utf-8", "surrogatepass"))
    for path in content:
        digest.update(path.name.encode() + path.read_bytes())
    return Origin(tuple(films), digest.hexdigest(), when or datetime.now(), version, levels, judged or {})


def describe(data: Dataset, origin: Origin) -> None:
    """Write patient, study and equipment into an object; nothing is invented."""
    film = origin.describing
    data.SpecificCharacterSet = CHARACTER_SET
    for keyword in (*PATIENT, *STUDY):
        setattr(data, keyword, "")
    for keyword in (*PATIENT, *STUDY, *PATIENT_MORE, *STUDY_MORE):
        if keyword in film:
            data[keyword] = film[keyword]
    data.StudyInstanceUID = origin.study_uid
    data.Manufacturer, data.ManufacturerModelName = MANUFACTURER, MODEL
    data.DeviceSerialNumber, data.SoftwareVersions = SERIAL, origin.version


def references(origin: Origin) -> tuple[Sequence, Sequence]:
    """Films of the object's own study by series, and those of other studies by study and series."""
    own: list[Dataset] = []
    other: list[Dataset] = []
    for study in dict.fromkeys(str(film.StudyInstanceUID) for film in origin.referable):
        series = []
        of_study = [film for film in origin.referable if str(film.StudyInstanceUID) == study]
        for uid in dict.fromkeys(str(film.SeriesInstanceUID) for film in of_study):
            item = Dataset()
            item.SeriesInstanceUID = uid
            item.ReferencedInstanceSequence = Sequence(
                [instance(film) for film in of_study if str(film.SeriesInstanceUID) == uid]
            )
            series.append(item)
        if study == origin.study_uid:
            own = series
        else:
            item = Dataset()
            item.StudyInstanceUID = study
            item.ReferencedSeriesSequence = Sequence(series)
            other.append(item)
    return Sequence(own), Sequence(other)


def instance(film: Dataset) -> Dataset:
    """A reference to a film."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = film.SOPClassUID, film.SOPInstanceUID
    return item


def shadow(origin: Origin) -> Dataset:
    """The describing film's header with a place in the reconstruction's space, which highdicom asks of every source.

    It is never written: only its equipment reaches the object, see `segmentation`.
    """
    film = origin.describing
    data = Dataset()
    for keyword in (*PATIENT, *STUDY):
        setattr(data, keyword, "")
    data.StudyInstanceUID = origin.study_uid
    data.SpecificCharacterSet = CHARACTER_SET
    for keyword in EQUIPMENT:
        # What highdicom would refuse for its length is left out here.
        if keyword in film and max(map(len, str(film[keyword].value).split("\\")), default=0) <= 64:
            data[keyword] = film[keyword]
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID, data.SeriesInstanceUID = origin.uid("shadow"), origin.uid("shadow", "series")
    data.Modality = film.get("Modality") or "DX"
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = origin.frame_of_reference_uid, ""
    data.Rows = data.Columns = 1
    data.SamplesPerPixel, data.BitsAllocated = 1, 8
    data.PixelSpacing, data.SliceThickness = [1.0, 1.0], 1.0
    data.ImagePositionPatient, data.ImageOrientationPatient = [0.0, 0.0, 0.0], [1.0, 0, 0, 0, 1, 0]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data
