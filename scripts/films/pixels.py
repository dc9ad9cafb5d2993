"""Stored DICOM values -> what a radiologist sees, bones bright."""

from __future__ import annotations

import warnings as python_warnings

import numpy as np
from highdicom.pixels import apply_lut
from pydicom import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.pixels.processing import apply_windowing

from scripts.errors import UserError
from scripts.films.collimation import find_field
from scripts.films.header import text
from scripts.films.stored import decode, pixels_sha256

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# Share of the exposed field that a window may put at the end of bones, and at that of air, which is often cut off.
MOST_WHITE, MOST_BLACK = 0.25, 0.6
END = 0.01  # of the range: what is as near to its end is at it


def film_pixels(data: Dataset, name: str, where: str) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Decoded, rescaled and windowed pixels with bones bright.

    Args:
        data: a mended data set with pixels.
        name: AP or LAT, for warnings.
        where: its file, for errors.

    Returns:
        (rows, columns) float32 as stored, not yet oriented; (rows, columns) bool, what is not padding; warnings; and
        the `pixels_sha256` of what is stored.

    Raises:
        UserError: several frames, a transfer syntax no decoder reads, damaged pixels, or tables that cannot be read.
    """
    frames = data.get("NumberOfFrames") or 1
    if frames != 1:
        raise UserError(f"{where}: holds {frames} frames; export the one frame that shows the spine")
    stored, seen, notes = decode(data, name, where)
    digest = pixels_sha256(stored)
    if text(data, "PhotometricInterpretation") == "PALETTE COLOR" and stored.ndim == 2:
        stored = _coloured(stored, data, where)
    if stored.ndim == 3:
        notes.append(f"{name}: a colour image, taken as grey")
        return stored[..., :3].mean(-1).astype(np.float32), seen, notes, digest
    values = _modality_values(stored, data, where)
    logarithmic, bones_dark = _polarity(data)
    if logarithmic:
        # Detector counts fall exponentially with the path; line integrals are what the network knows.
        notes.append(f"{name}: values proportional to the X-ray intensity, taken to their logarithm")
        shown = np.log(np.maximum(values, 1.0)).astype(np.float32)
    else:
        shown, note = _windowed(values, data)
        cut = "" if note else _cut_off(shown, values, seen, bones_dark)
        shown, note = (values, cut) if cut else (shown, note)
        notes += [f"{name}: {note}"] if note else []
    notes += [f"{name}: {line}" for line in _contradicted(data)]
    if bones_dark:
        notes.append(f"{name}: bones are dark in the file ({data.PhotometricInterpretation}), inverted")
        shown = shown.max() + shown.min() - shown
    return shown, seen, notes, digest


def _coloured(stored: np.ndarray, data: Dataset, where: str) -> np.ndarray:
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            return apply_color_lut(stored, data)
    # The tables come in many forms, and each that is not as it should be raises an error of its own.
    except Exception as error:
        raise UserError(f"{where}: its palette cannot be read ({type(error).__name__})") from error


def _modality_values(stored: np.ndarray, data: Dataset, where: str) -> np.ndarray:
    """What the modality table or the rescale slope and intercept make of the stored values."""
    if data.get("ModalityLUTSequence"):
        try:
            return _looked_up(stored, data, "ModalityLUTSequence")
        except ValueError as error:
            raise UserError(f"{where}: attribute ModalityLUTSequence cannot be read ({error})") from error
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    if slope == 0:
        raise UserError(f"{where}: attribute RescaleSlope is 0, which leaves nothing of the film")
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _windowed(values: np.ndarray, data: Dataset) -> tuple[np.ndarray, str]:
    """What the VOI table or the first window makes of the values, and a warning where they cannot be used."""
    if data.get("VOILUTSequence"):
        try:
            shown = _looked_up(values, data, "VOILUTSequence")
        except ValueError as error:
            return values, f"attribute VOILUTSequence cannot be read ({error}), ignored"
    else:
        centres, widths = (np.atleast_1d(data.get(keyword, [])) for keyword in ("WindowCenter", "WindowWidth"))
        if not centres.size or not widths.size:
            return values, ""
        function = text(data, "VOILUTFunction") or "LINEAR"
        if function not in FUNCTIONS:
            return values, f"attribute VOILUTFunction is unknown ({function[:40]}), window ignored"
        # A linear window of 1 has but two values.
        if widths[0] <= (1 if function == "LINEAR" else 0):
            return values, f"attribute WindowWidth is {widths[0]:g}, window ignored"
        window = Dataset()
        for keyword in ("BitsStored", "PixelRepresentation", "RescaleIntercept", "ModalityLUTSequence"):
            if keyword in data:
                setattr(window, keyword, data[keyword].value)
        # They give the range of the output, which has to rise with the values.
        window.RescaleSlope = abs(float(data.get("RescaleSlope", 1)))
        window.PhotometricInterpretation = "MONOCHROME2"
        window.VOILUTFunction = function
        window.WindowCenter, window.WindowWidth = float(centres[0]), float(widths[0])
        shown = apply_windowing(values, window).astype(np.float32)
    if shown.max() <= shown.min():
        return values, "the window in the header shows nothing, ignored"
    return shown, ""


def _cut_off(shown: np.ndarray, values: np.ndarray, seen: np.ndarray, bones_dark: bool) -> str:
    """A warning if a window leaves too little of the film, although its values have it; empty if it does not."""
    # The margins that no X-ray reached are rightly at the end of bones.
    top, left, bottom, right = find_field(-values if bones_dark else values)
    inside = seen[top:bottom, left:right]

    def shares(film: np.ndarray) -> tuple[float, float]:
        """What of the field is at its range's lower and upper end."""
        low, high = float(film.min()), float(film.max())
        part, margin = film[top:bottom, left:right][inside], END * (high - low)
        return float((part <= low + margin).mean()), float((part >= high - margin).mean())

    if not inside.any() or shown is values:
        return ""
    lower, upper = (now - before for now, before in zip(shares(shown), shares(values), strict=True))
    black, white = (upper, lower) if bones_dark else (lower, upper)
    lost, end = (white, "brightest") if white > MOST_WHITE else (black, "darkest")
    if white <= MOST_WHITE and black <= MOST_BLACK:
        return ""
    return f"the window in the header makes {100 * lost:.0f} % of the film the {end} value, ignored"


def _contradicted(data: Dataset) -> list[str]:
    """What else the header says of bright and dark, if it is against the photometric interpretation."""
    shape, photometric = text(data, "PresentationLUTShape"), text(data, "PhotometricInterpretation")
    if shape != "INVERSE" or photometric != "MONOCHROME2":
        return []
    return ["PresentationLUTShape INVERSE contradicts MONOCHROME2 and is ignored; if bones are dark, use --invert"]


def _looked_up(values: np.ndarray, data: Dataset, keyword: str) -> np.ndarray:
    """Values through the first table of a sequence; those beyond its ends take the value of the end.

    Raises:
        ValueError: there is no such table, or it is cut off.
    """
    item = data[keyword].value[0]
    descriptor, entries = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or entries is None or len(np.atleast_1d(entries)) == 0:
        raise ValueError("no table in it")
    size, first = descriptor[0] % 65536 or 65536, descriptor[1]
    # The first value is written unsigned by many, whatever its sign.
    first -= 65536 if first > 32767 and values.min() < 0 else 0
    order = ">" if data.file_meta.TransferSyntaxUID.is_little_endian is False else "<"
    content = (
        entries if isinstance(entries, bytes) else np.asarray(np.atleast_1d(entries)).astype(f"{order}u2").tobytes()
    )
    bytewise = descriptor[2] <= 8 and len(content) < 2 * size
    table = np.frombuffer(content, np.uint8 if bytewise else f"{order}u2")[:size]
    if len(table) < size:
        raise ValueError(f"{len(table)} of {size} entries")
    whole = np.rint(np.clip(values, first, first + size - 1)).astype(np.int64)
    return apply_lut(whole, table.astype(np.float32), first)


def _polarity(data: Dataset) -> tuple[bool, bool]:
    """Whether to take the logarithm, and whether bones are then dark.

    Pixel Intensity Relationship and its sign describe raw values (for processing; XA and RF), the photometric
    interpretation of what is shown.
    """
    inverse = text(data, "PhotometricInterpretation") == "MONOCHROME1"
    relationship = text(data, "PixelIntensityRelationship")
    raw = text(data, "PresentationIntentType") == "FOR PROCESSING"
    if raw or text(data, "Modality") in ("XA", "RF"):
        sign = data.get("PixelIntensityRelationshipSign")
        if relationship in ("LIN", "LOG") or (raw and sign is not None):
            # Sign 1, and XA and RF without one: higher values are more X-rays, so less bone.
            rising = sign is None or sign == 1
            return relationship == "LIN" and rising, rising
    return False, inverse
