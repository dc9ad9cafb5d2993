"""What a film's header gives our objects: patient, study and the film's own UIDs, as the standard lets them be written.

Headers come from many machines. A text is copied as it reads, in whatever character set, and written in UTF-8; what the
standard does not allow (a date that is none, an age without a unit) is left empty and told; a UID that is missing or no
UID costs the reference to the film, which is told too. Nothing is guessed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE, RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.uid import UID

from scripts.errors import UserError

# Type 2 attributes of the patient and study modules.
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
PATIENT_MORE = ("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "PatientSpeciesDescription")
STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
STUDY_MORE = ("StudyDescription", "PatientAge", "PatientSize", "PatientWeight")
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "Modality")
MORE = ("AcquisitionDateTime",)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# The file meta information repeats these two.
IN_META = {"SOPInstanceUID": "MediaStorageSOPInstanceUID", "SOPClassUID": "MediaStorageSOPClassUID"}
TEXTS = ("PN", "LO", "SH", "LT", "ST", "UC", "UT")
# ACR-NEMA's forms, which PS3.5 names for old files.
OLD_FORMS = {"DA": r"(\d{4})\.(\d\d)\.(\d\d)", "TM": r"(\d\d):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?"}
ALLOWED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
DEFAULT_ENCODING, GB2312 = "iso8859", "iso_ir_58"
BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError)


def exportable(headers: Sequence[Dataset | None]) -> tuple[list[Dataset], list[str]]:
    """The films' headers as our objects can use them, asked before anything is computed.

    Args:
        headers: of the AP and the LAT film; None for those that are no DICOM file.

    Returns:
        those that are DICOM, with nothing but what is copied, patient and study in one only, the first that has a
        Patient ID; and what is left out of them.

    Raises:
        UserError: a patient's ID cannot be read, so that the objects could not be filed.
    """
    clean: list[Dataset] = []
    notes: list[str] = []
    given = [(name, header) for name, header in zip(("AP", "LAT"), headers, strict=False) if header is not None]
    named = [name for name, header in given if _has_id(header)]
    describing = (named or [name for name, _ in given] or [""])[0]
    if given and not named:
        notes.append("no DICOM film has a Patient ID: the DICOM objects have none")
    elif given and describing != given[0][0]:
        notes.append(f"{given[0][0]}: no Patient ID; the DICOM objects have patient and study of the {describing} film")
    for name, header in given:
        film, said = _clean(header, name, describes=name == describing)
        clean.append(film)
        notes += said
    if clean and not any("StudyInstanceUID" in film for film in clean):
        notes.append("no film has a valid StudyInstanceUID: the DICOM objects begin a study of their own")
    return clean, notes


def referable(film: Dataset) -> bool:
    """Whether a clean header has all UIDs that a reference to it needs."""
    return all(keyword in film for keyword in UIDS)


def _clean(header: Dataset, name: str, describes: bool) -> tuple[Dataset, list[str]]:
    """The UIDs and, of the film that describes patient and study, all that is copied."""
    film, notes = Dataset(), []
    encodings, known = _encodings(header)
    for keyword in (*PATIENT, *PATIENT_MORE, *STUDY, *STUDY_MORE, *EQUIPMENT, *MORE):
        if keyword not in header or not describes:
            continue
        try:
            values = _values(header, keyword, encodings, known)
            film.add(_element(keyword, values))
        except BROKEN as error:
            if keyword == "PatientID":
                raise UserError(
                    f"the {name} film's Patient ID cannot be copied into DICOM objects ({error}); correct its header"
                ) from error
            notes.append(f"{name}: {keyword} is left out of the DICOM objects ({error})")
    for keyword in UIDS:
        value = _uid(header, keyword)
        if value:
            setattr(film, keyword, value)
    lacking = [keyword for keyword in UIDS if keyword not in film]
    if lacking:
        notes.append(f"{name}: no valid {', '.join(lacking)}: the DICOM objects do not refer to this film")
    return film, notes


def _has_id(header: Dataset) -> bool:
    """Whether there is a Patient ID, readable or not."""
    try:
        return any(value.strip(" \0") for value in _said(header, "PatientID"))
    except BROKEN:
        return True


def _encodings(header: Dataset) -> tuple[list[str], bool]:
    """Python's names of a header's character sets, and whether all are known."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            encodings = convert_encodings(header.get("SpecificCharacterSet"))
        except BROKEN:
            return [DEFAULT_ENCODING], False
    return encodings, not any("Unknown encoding" in str(warning.message) for warning in said)


def _values(header: Dataset, keyword: str, encodings: list[str], known: bool) -> list[str]:
    """The texts of an attribute.

    Raises:
        ValueError: it cannot be read; says why, and not what it is.
    """
    kind = dictionary_VR(keyword)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = header.get(keyword)
            if value is None:
                return []
            values = [str(part) for part in value] if isinstance(value, MultiValue) else [str(value)]
    except BROKEN as error:
        raise ValueError("not readable") from error
    if kind not in TEXTS:
        return [_mended(keyword, kind, part.strip()) for part in values]
    if len(values) > 1 and keyword != "SoftwareVersions":
        raise ValueError("it has several values")
    if GB2312 in encodings:
        # Python's codec leaves the escape sequence in the text.
        values = [text.replace("\x1b$)A", "") for text in values]
    for text in values:
        if not _legible(text, encodings, known):
            terms = header.get("SpecificCharacterSet")
            terms = "\\".join(terms) if isinstance(terms, MultiValue) else terms
            raise ValueError(f"not readable in its Specific Character Set, {str(terms)[:60] if terms else 'none'}")
    return [text.strip(" \0") for text in values]


def _legible(text: str, encodings: list[str], known: bool) -> bool:
    """Whether a text is what the machine wrote: pydicom reads what it does not know as Latin 1, or in part."""
    if any(not c.isprintable() and c not in "\r\n\t\f" for c in text.rstrip("\0")) or "\ufffd" in text:
        return False
    if text.isascii():
        return True
    latin = any(name.startswith(("latin", "iso8859_")) for name in encodings[1:])
    unknown_bytes = encodings[0] == DEFAULT_ENCODING and any("\x80" <= c <= "\xff" for c in text)
    return known and (latin or not unknown_bytes)


def _mended(keyword: str, kind: str, text: str) -> str:
    """A date, a time, a number or a code that the standard allows.

    Raises:
        ValueError: it is none.
    """
    old = re.fullmatch(OLD_FORMS[kind], text) if kind in OLD_FORMS else None
    if old:
        text = "".join(part for part in old.groups() if part)
    if keyword in ALLOWED and text:
        text = text.upper()
        if text not in ALLOWED[keyword]:
            raise ValueError(f"it is none of {', '.join(ALLOWED[keyword])}")
    if text:
        try:
            DataElement(tag_for_keyword(keyword) or 0, kind, text, validation_mode=RAISE)
        except BROKEN as error:
            raise ValueError("not as the standard writes it") from error
    return text


def _element(keyword: str, values: list[str]) -> DataElement:
    """Texts are copied as they are, also longer ones than the standard allows: the archive knows the study by them."""
    value = values[0] if len(values) == 1 else values or ""
    return DataElement(tag_for_keyword(keyword) or 0, dictionary_VR(keyword), value, validation_mode=IGNORE)


def _uid(header: Dataset, keyword: str) -> str:
    for value in _said(header, keyword):
        uid = UID(value.strip(" \0"), validation_mode=IGNORE)
        if uid and uid.is_valid:
            return str(uid)
    return ""


def _said(header: Dataset, keyword: str) -> Iterator[str]:
    yield str(header.get(keyword) or "")
    if keyword in IN_META:
        yield str(getattr(header, "file_meta", Dataset()).get(IN_META[keyword]) or "")
