"""A DICOM file -> a data set whose attributes can be relied on.

pydicom converts an attribute where it is first asked for, and raises whatever its value provokes. Here all are
converted once: what can be understood is written back in the standard's form (decimal commas, numbers stored as text
or with another value representation, one spacing for both directions), the rest is taken out and named.
"""

from __future__ import annotations

import math
import struct
import warnings as python_warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scripts.errors import UserError

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
FIELDS = ("Shutter", "Collimator")
# Numbers that are read, and how many values each has (None: any number).
WHOLE_NUMBERS: dict[str, int | None] = {
    **dict.fromkeys(("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PlanarConfiguration"), 1),
    **dict.fromkeys(("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"), 1),
    **dict.fromkeys(("PixelPaddingValue", "PixelPaddingRangeLimit", "PixelIntensityRelationshipSign"), 1),
    **{f"{kind}{edge}VerticalEdge": 1 for kind in FIELDS for edge in ("Left", "Right")},
    **{f"{kind}{edge}HorizontalEdge": 1 for kind in FIELDS for edge in ("Upper", "Lower")},
    **{f"CenterOfCircular{kind}": 2 for kind in FIELDS},
    **{f"RadiusOfCircular{kind}": 1 for kind in FIELDS},
    **{f"VerticesOfThePolygonal{kind}": None for kind in FIELDS},
    "LUTDescriptor": 3,
    "PixelAspectRatio": 2,
}
NUMBERS: dict[str, int | None] = {
    **dict.fromkeys(SPACINGS, 2),
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "PositionerPrimaryAngle"), 1),
    **dict.fromkeys(("DistanceSourceToDetector", "DistanceSourceToIsocenter", "DistanceSourceToPatient"), 1),
    "EstimatedRadiographicMagnificationFactor": 1,
    "WindowCenter": None,
    "WindowWidth": None,
}
SEQUENCES = ("ViewCodeSequence", "ModalityLUTSequence", "VOILUTSequence")
# Without these nothing sensible can follow.
DECISIVE = (
    "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
)  # fmt: skip
# The preamble and the four letters behind it.
BEGINNING = 132
SHOWN = 40  # characters of a value in a message
MOST_UNPACKED_BYTES, CHUNK_BYTES = 2**30, 2**20


@dataclass
class Faults:
    """What was wrong with the attributes of a data set.

    Args:
        unreadable: keyword -> why it was taken out, with its value unless that could identify somebody.
        notes: what was understood though it is not as it should be.
        not_finite: keywords whose value is NaN or infinite.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)


def open_dicom(path: Path, pixels: bool = True) -> tuple[Dataset, Faults]:
    """A DICOM file with its attributes converted, whether or not it has a preamble.

    Args:
        path: the file.
        pixels: whether to read them too.

    Raises:
        UserError: no DICOM file, or damaged.
    """
    faults = Faults()
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            bare = _begins_without_preamble(path)
            _check_deflated(path)
            data = pydicom.dcmread(path, stop_before_pixels=not pixels, force=bare)
            mend(data, faults)
    except UserError:
        raise
    except InvalidDicomError as error:
        raise UserError(f"{path}: no DICOM file, it begins neither with a preamble nor with a data set") from error
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a readable DICOM file, truncated or damaged ({type(error).__name__})") from error
    # Of a file's structure nothing can be relied on: whatever it makes pydicom raise, it cannot be read.
    except Exception as error:
        raise UserError(f"{path}: not a readable DICOM file ({type(error).__name__})") from error
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        encoding = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = encoding
        faults.notes.append(f"no DICOM {'preamble' if bare else 'transfer syntax'}; taken as {encoding.name}")
    return data, faults


def starts_like_dicom(stream: BinaryIO) -> bool:
    """Whether a file, read from its beginning, has DICOM's preamble; the data set follows."""
    return _has_preamble(stream.read(BEGINNING))


def _has_preamble(start: bytes) -> bool:
    return start[128:] == b"DICM"


def _check_deflated(path: Path) -> None:
    """Refuse a data set that is compressed as a whole and larger than any film: pydicom unpacks it at once."""
    with path.open("rb") as stream:
        if not starts_like_dicom(stream):
            return
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        unpacking, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while packed := unpacking.unconsumed_tail or stream.read(CHUNK_BYTES):
            total += len(unpacking.decompress(packed, CHUNK_BYTES))
            if total > MOST_UNPACKED_BYTES:
                raise UserError(
                    f"{path}: unpacks to more than {MOST_UNPACKED_BYTES // 2**20} MB: no film is that large"
                )


def mend(data: Dataset, faults: Faults) -> None:
    """Convert every attribute but the pixels in place; what cannot be converted is taken out.

    Args:
        data: a data set as pydicom reads it.
        faults: what is found is added here.
    """
    for tag in list(data.keys()):
        keyword = keyword_for_tag(tag)
        if keyword in PIXELS:
            continue
        try:
            value = data[tag].value
        # Each kind of value has its own errors.
        except Exception:
            value = data.get_item(tag).value
            if keyword not in WHOLE_NUMBERS and keyword not in NUMBERS:
                del data[tag]
                faults.unreadable[keyword or str(tag)] = "cannot be read"
                continue
        if keyword in WHOLE_NUMBERS or keyword in NUMBERS:
            _mend_numbers(data, keyword, value, faults)
        elif isinstance(value, Sequence):
            for item in value:
                mend(item, faults)
        elif keyword in SEQUENCES:
            del data[tag]
            if value:
                faults.unreadable[keyword] = "is no sequence"


def texts(header: Dataset, keyword: str) -> list[str]:
    """An attribute's values as words, in capitals; empty if there are none, whatever their value representation."""
    value = header.get(keyword)
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip("\0")
    parts = list(value) if isinstance(value, (MultiValue, list, tuple)) else str(value or "").split("\\")
    return [word for part in parts if (word := str(part).strip().upper())]


def text(header: Dataset, keyword: str) -> str:
    """The first of `texts`; empty if there is none."""
    return next(iter(texts(header, keyword)), "")


def printable(value: Any) -> str:
    """The beginning of a value as a message may show it: on one line, whatever it holds."""
    words = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "".join(c if " " <= c <= "~" else "?" for c in words.strip(" \0"))[:SHOWN]


def _begins_without_preamble(path: Path) -> bool:
    """Whether a file starts with an attribute of the file meta information or of the identifying group."""
    with path.open("rb") as stream:
        start = stream.read(BEGINNING)
    return not _has_preamble(start) and len(start) > 8 and start[:2] in (b"\x02\0", b"\x08\0") and start[3] == 0


def _mend_numbers(data: Dataset, keyword: str, value: Any, faults: Faults) -> None:
    count = WHOLE_NUMBERS[keyword] if keyword in WHOLE_NUMBERS else NUMBERS[keyword]
    try:
        numbers = _numbers(value)
        if keyword in WHOLE_NUMBERS and all(map(math.isfinite, numbers)):
            if any(number != int(number) for number in numbers):
                raise ValueError("not whole")
            numbers = [int(number) for number in numbers]
        if count is not None and numbers:
            if count == 2 and len(numbers) == 1:
                faults.notes.append(f"attribute {keyword} has one value ({numbers[0]:g}), taken for both directions")
                numbers = numbers * 2
            if len(numbers) < count or (len(numbers) > count and len(set(numbers)) > 1):
                raise ValueError("number of values")
            numbers = numbers[:count]
    except (ValueError, TypeError, OverflowError):
        del data[keyword]
        faults.unreadable[keyword] = f"cannot be read ({printable(value)})"
        return
    if not all(map(math.isfinite, numbers)):
        del data[keyword]
        faults.unreadable[keyword] = f"is not finite ({printable(value)})"
        faults.not_finite.append(keyword)
        return
    if not numbers:
        del data[keyword]
        return
    # FD: a decimal string of any length would be checked for its 16 characters.
    kind = dictionary_VR(keyword).replace("US or SS", "SS" if min(numbers) < 0 else "US").replace("DS", "FD")
    data[keyword] = DataElement(keyword, kind, numbers if len(numbers) > 1 else numbers[0])


def _numbers(value: Any) -> list[float]:
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        words = [word.strip(" \0") for word in value.split("\\")]
        return [float(word.replace(",", ".")) for word in words if word]
    if isinstance(value, (MultiValue, list, tuple)):
        return [number for part in value for number in _numbers(part)]
    return [float(value)]
