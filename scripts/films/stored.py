"""The values that a DICOM file stores: decoded, from the bits that hold them, and without padding."""

from __future__ import annotations

import hashlib
import warnings as python_warnings

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, RLELossless
from scipy import ndimage

from scripts.errors import UserError
from scripts.films.header import printable
from scripts.films.plausible import check_pixels

MOST_BEYOND = 0.01  # share of pixels whose unused bits may hold something else, such as an overlay
BEYOND = 0.05  # of the values' range: padding that lies further out is not part of the film, wherever it is


def decode(data: Dataset, name: str, where: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The stored values of the one frame of a data set.

    Args:
        data: a mended data set with pixels.
        name: AP or LAT, for warnings.
        where: its file, for errors.

    Returns:
        (rows, columns), or (rows, columns, samples) of a colour image; (rows, columns) bool, what is not padding, which
        takes the lowest value of the others; and warnings.

    Raises:
        UserError: truncated, a transfer syntax that nothing decodes, or attributes that contradict the pixels.
    """
    syntax = data.file_meta.TransferSyntaxUID
    if not isinstance(syntax, UID) or not syntax.is_transfer_syntax:
        raise UserError(f"{where}: attribute TransferSyntaxUID cannot be read ('{printable(syntax)}')")
    if not _has_bytes(data):
        raise UserError(f"{where}: truncated or damaged: it has no pixels")
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if data.get(keyword, 0) < 1:
            raise UserError(f"{where}: attribute {keyword} is missing, zero or negative")
    check_pixels((data.Rows, data.Columns), where)
    lines = _complete(data)
    if not syntax.is_encapsulated:
        lines += _check_length(data, where)
    elif not data["PixelData"].is_undefined_length:
        raise UserError(f"{where}: its pixels are not in the form of its transfer syntax ({syntax.name})")
    used, allocated = data.BitsStored, data.BitsAllocated
    in_words = (not syntax.is_encapsulated or syntax == RLELossless) and 1 <= used < allocated
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            # pydicom looks for the values in the lowest bits, wherever they are.
            data.BitsStored = allocated if in_words else used
            stored = np.asarray(data.pixel_array)
    # Decoders of several libraries, each with errors of its own.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        advice = "; export it uncompressed" if syntax.is_encapsulated else ""
        raise UserError(f"{where}: its pixels ({syntax.name}) cannot be decoded ({reason}){advice}") from error
    finally:
        data.BitsStored = used
    if stored.ndim == 3:
        return stored, np.ones(stored.shape[:2], bool), _named(lines, name)
    seen = ~_padding(stored, data)
    if in_words and seen.any():
        stored, more = _from_bits(_without(stored, seen), used, data.HighBit, _has_overlay(data), where)
        lines += more
        seen &= ~_padding(stored, data)
    if not seen.any():
        raise UserError(f"{where}: every pixel is padding (PixelPaddingValue {data.PixelPaddingValue})")
    if not seen.all():
        lines.append(f"{100 * (1 - seen.mean()):.1f} % of the pixels are padding, masked")
    return _without(stored, seen), seen, _named(lines, name)


def pixels_sha256(stored: np.ndarray) -> str:
    """A digest of stored values that is the same however they are compressed; it says nothing of the patient.

    Args:
        stored: (rows, columns) or (rows, columns, samples), as `decode` gives them.
    """
    digest = hashlib.sha256(repr(stored.shape).encode())
    digest.update(np.ascontiguousarray(stored, "<i4").data)
    return digest.hexdigest()


def _named(lines: list[str], name: str) -> list[str]:
    return [f"{name}: {line}" for line in lines]


def _without(stored: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Padding at the lowest value of the others, before any scaling, which its own value would spoil."""
    return stored if seen.all() else np.where(seen, stored, stored[seen].min())


def _padding(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Where pixels are padding (Pixel Padding Value) and not part of the film.

    Pixels of the same value that the film may contain, such as black inside of it, stay.

    Args:
        stored: (rows, columns) as decoded.
        data: its data set.

    Returns:
        (rows, columns) bool.
    """
    value = data.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    ends = sorted(_as_stored(v, data) for v in (value, data.get("PixelPaddingRangeLimit", value)))
    same = (stored >= ends[0]) & (stored <= ends[1])
    if not same.any() or same.all():
        return same
    low, high = float(stored[~same].min()), float(stored[~same].max())
    margin = BEYOND * (high - low)
    if ends[1] < low - margin or ends[0] > high + margin:
        return same
    regions, _ = ndimage.label(same)
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    return np.isin(regions, border[border > 0])


def _as_stored(value: int, data: Dataset) -> int:
    """A padding value in the range of the pixels: its value representation often has the other sign."""
    value %= 1 << data.BitsAllocated
    signed = data.PixelRepresentation == 1 and value >= 1 << (data.BitsAllocated - 1)
    return value - (1 << data.BitsAllocated) if signed else value


def _complete(data: Dataset) -> list[str]:
    """Attributes that have to be there and are not, with the value they nearly always have."""
    stored = data.get("BitsStored", data.BitsAllocated)
    usual = {
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0,
        "BitsStored": stored, "HighBit": stored - 1,
    }  # fmt: skip
    lines = []
    for keyword, value in usual.items():
        if data.get(keyword) in (None, ""):
            data[keyword] = DataElement(keyword, dictionary_VR(keyword), value)
            lines.append(f"attribute {keyword} is missing, taken as {value}")
    return lines


def _has_bytes(data: Dataset) -> bool:
    """Whether there is anything to decode, of a value representation for pixels."""
    try:
        return bool(data.PixelData) and isinstance(data.PixelData, bytes)
    # Converted here; an unknown value representation cannot be.
    except Exception:
        return False


def _check_length(data: Dataset, where: str) -> list[str]:
    there, wanted = len(data.PixelData), get_expected_length(data)
    if there < wanted:
        raise UserError(f"{where}: truncated or damaged pixels ({there} of {wanted} bytes)")
    if there >= 2 * wanted:
        raise UserError(f"{where}: {there} bytes of pixels where Rows, Columns and BitsAllocated need {wanted}")
    excess = there - wanted - wanted % 2
    return [f"{excess} bytes after the pixels, ignored"] if excess > 0 else []


def _has_overlay(data: Dataset) -> bool:
    """Whether an overlay is embedded in the pixels' unused bits."""
    return any((group, 0x0010) in data and (group, 0x3000) not in data for group in range(0x6000, 0x6020, 2))


def _from_bits(stored: np.ndarray, used: int, high: int, overlay: bool, where: str) -> tuple[np.ndarray, list[str]]:
    """Values from the bits that hold them.

    Args:
        stored: whole words, signed if the values are.
        used: how many bits hold the value (Bits Stored).
        high: the highest of them (High Bit).
        overlay: whether other bits are known to hold an overlay.
        where: file, for errors.
    """
    word = 8 * stored.dtype.itemsize
    lines = []
    if not used - 1 <= high < word:
        lines.append(f"HighBit {high} is impossible with BitsStored {used}, taken as {used - 1}")
        high = used - 1
    below = high + 1 - used
    if below and not overlay and int(stored.min()) >= 0 and int(stored.max()) < 1 << used:
        lines.append(f"HighBit {high} contradicts the values, which lie in the lowest {used} bits; ignored")
        below, high = 0, used - 1
    elif below:
        lines.append(f"values taken from bits {below} to {high} (HighBit)")
    above = stored >> (high + 1) if high + 1 < word else np.zeros_like(stored)
    beyond = (above != 0) & (above != -1) if stored.dtype.kind == "i" else above != 0
    share = float(beyond.mean())
    if share > MOST_BEYOND and not overlay:
        raise UserError(
            f"{where}: its values reach {int(stored.max())}, beyond the {used} bits of BitsStored "
            f"(HighBit {high}) in {100 * share:.0f} % of the pixels"
        )
    if share:
        lines.append(f"bits beyond BitsStored {used} hold something else in {100 * share:.2g} % of the pixels, ignored")
    values = (stored << (word - 1 - high)) >> (word - used)
    if stored.dtype.kind == "i" and ((values < 0) & (above == 0)).any():
        lines.append("negative values by PixelRepresentation 1, although the bits above them do not say so")
    return values, lines
