"""Stored DICOM values -> what a radiologist sees, bones bright."""

from __future__ import annotations

import warnings as python_warnings

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from scripts.errors import UserError


def film_pixels(data: Dataset, name: str, where: str) -> tuple[np.ndarray, list[str]]:
    """Decoded, rescaled and windowed pixels with bones bright.

    Args:
        data: a data set with pixels.
        name: AP or LAT, for warnings.
        where: its file, for errors.

    Returns:
        (rows, columns) float32 as stored, not yet oriented, and warnings.

    Raises:
        UserError: several frames, a transfer syntax no decoder reads, or damaged pixels.
    """
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"{where}: holds {frames} frames; export the one frame that shows the spine")
    stored = _decode(data, where)
    notes: list[str] = []
    if stored.ndim == 3:
        notes.append(f"{name}: a colour image, taken as grey")
        stored = stored[..., :3].mean(-1)
        return stored.astype(np.float32), notes
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        modality = apply_modality_lut(stored, data).astype(np.float32)
        logarithmic, bones_dark = _polarity(data)
        if logarithmic:
            # Detector counts fall exponentially with the path; line integrals are what the network knows.
            notes.append(f"{name}: values proportional to the X-ray intensity, taken to their logarithm")
            shown = np.log(np.maximum(modality, 1.0)).astype(np.float32)
        else:
            shown = apply_voi_lut(modality, data, index=0).astype(np.float32) if _has_voi(data) else modality
            if shown.max() <= shown.min():
                notes.append(f"{name}: the window in the header shows nothing, ignored")
                shown = modality
    if bones_dark:
        notes.append(f"{name}: bones are dark in the file ({data.PhotometricInterpretation}), inverted")
        shown = shown.max() + shown.min() - shown
    return shown, notes


def _decode(data: Dataset, where: str) -> np.ndarray:
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            return np.asarray(data.pixel_array)
    except (RuntimeError, NotImplementedError) as error:
        syntax = data.file_meta.TransferSyntaxUID.name if "file_meta" in dir(data) else "unknown"
        raise UserError(
            f"{where}: its pixels ({syntax}) cannot be decoded ({str(error).splitlines()[0][:80]}); "
            "export it uncompressed"
        ) from error
    except (AttributeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{where}: truncated or damaged pixels ({type(error).__name__})") from error


def _has_voi(data: Dataset) -> bool:
    return "VOILUTSequence" in data or ("WindowCenter" in data and data.WindowCenter not in (None, ""))


def _polarity(data: Dataset) -> tuple[bool, bool]:
    """Whether to take the logarithm, and whether bones are then dark.

    Pixel Intensity Relationship and its sign speak of raw values (for processing; XA and RF), the photometric
    interpretation of what is shown.
    """
    inverse = str(data.get("PhotometricInterpretation")) == "MONOCHROME1"
    relationship = str(data.get("PixelIntensityRelationship") or "").upper()
    raw = str(data.get("PresentationIntentType") or "").upper() == "FOR PROCESSING"
    if raw or str(data.get("Modality")) in ("XA", "RF"):
        sign = data.get("PixelIntensityRelationshipSign")
        if relationship in ("LIN", "LOG") or (raw and sign is not None):
            # Sign 1, and XA and RF without one: higher values are more X-rays, so less bone.
            rising = sign is None or int(sign) == 1
            return relationship == "LIN" and rising, rising
    return False, inverse
