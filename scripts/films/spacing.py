"""How large a pixel is in the patient, from the several attributes that DICOM has for it.

Pixel Spacing is corrected for magnification or calibrated by an object of known size, Imager Pixel Spacing is the
detector's own; a film read with the wrong one is 10 to 40 % too large. The order below is the one of DICOM PS3.3
10.7.1.3, with distances or the estimated magnification used where only the detector's spacing is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from scripts.films.film import Optics, ScaleKind
from scripts.films.header import SPACINGS, Faults
from scripts.geometry.biplanar import Beam

SAME = 0.005  # two spacings that differ by less are one number written twice
SPACING_LIMITS_MM = (0.01, 5.0)
MAGNIFICATION_LIMITS = (1.0, 3.0)
FACTOR_SLACK = 0.03  # calibrated by hand, a film without magnification may seem to be made smaller
FACTOR_DIFFERENCE = 0.15  # the header's distance is to the table or to the patient's middle
DISTANCE_LIMITS_MM = (300.0, 10000.0)


@dataclass(frozen=True)
class Scale:
    """Spacing in the patient's plane, and why.

    Args:
        spacing_mm: (row, column), or None if the header does not say.
        optics: distances and beam.
        warnings: where the scale comes from.
        fault: why what the header says cannot be used, so that the user has to give the spacing; empty if it can.
        aspect: height over width of a pixel where its size is not known.
        detector_mm: (row, column) on the detector, from which the spacing follows; None if it comes from elsewhere.
        kind: how far it can be trusted.
    """

    spacing_mm: tuple[float, float] | None
    optics: Optics
    warnings: tuple[str, ...] = ()
    fault: str = ""
    aspect: float = 1.0
    detector_mm: tuple[float, float] | None = None
    kind: ScaleKind = ScaleKind.CALIBRATED


def film_scale(header: Dataset, name: str, faults: Faults) -> Scale:
    """Spacing and optics of a DICOM radiograph.

    Args:
        header: its data set.
        name: AP or LAT, for warnings.
        faults: of the header.
    """
    optics, warnings = _optics(header, name)
    # The first of them decides: the next one may be the detector's.
    for keyword in SPACINGS:
        if keyword in faults.unreadable:
            return Scale(None, optics, fault=f"attribute {keyword} {faults.unreadable[keyword]}")
        if fault := _impossible(header, keyword):
            return Scale(None, optics, fault=fault)
        if keyword in header:
            break
    pixel = _pair(header, "PixelSpacing")
    imager = _pair(header, "ImagerPixelSpacing") or _pair(header, "NominalScannedPixelSpacing")
    own = pixel is not None and (imager is None or not np.allclose(pixel, imager, rtol=SAME))
    magnification = _magnification(header, optics)
    low, high = MAGNIFICATION_LIMITS
    if magnification is not None and not low <= magnification <= high:
        fault = f"a magnification of {magnification:.2f} is impossible"
        return Scale(None, Optics(), fault=fault, detector_mm=None if own else imager)
    ratio = header.get("PixelAspectRatio")
    aspect = ratio[0] / ratio[1] if ratio and min(ratio) > 0 else 1.0
    known = pixel or imager
    if known is not None and ratio and not np.isclose(known[0] / known[1], aspect, rtol=SAME):
        warnings.append(f"{name}: PixelAspectRatio {ratio[0]}:{ratio[1]} contradicts the pixel spacing, ignored")
    if own:
        questions = _questioned(pixel, imager, magnification)
        warnings += [f"{name}: {line}" for line in questions]
        by = str(header.get("PixelSpacingCalibrationType") or "")
        kind = ScaleKind.UNSURE if questions else ScaleKind.CALIBRATED
        if by:
            warnings.append(f"{name}: scale from PixelSpacing, calibrated ({by.lower()})")
        elif imager is None:
            warnings.append(f"{name}: scale from PixelSpacing; nothing says whether magnification is corrected")
            kind = ScaleKind.UNSURE
        return Scale(pixel, optics, tuple(warnings), kind=kind)
    if imager is None:
        return Scale(None, optics, (*warnings, f"{name}: no pixel spacing in the header"), aspect=aspect)
    if magnification is None:
        warnings.append(
            f"{name}: scale is that of the detector, magnification unknown: lengths may be 5 to 30 % too large"
        )
        return Scale(imager, optics, tuple(warnings), detector_mm=imager, kind=ScaleKind.DETECTOR)
    square = ", taking pixels to be square in the patient" if optics.beam is Beam.SLOT else ""
    warnings.append(f"{name}: scale from ImagerPixelSpacing / magnification {magnification:.3f}{square}")
    spacing = imager[0] / magnification, imager[1] / magnification
    return Scale(spacing, optics, tuple(warnings), detector_mm=imager)


def _questioned(
    pixel: tuple[float, float] | None, imager: tuple[float, float] | None, magnification: float | None
) -> list[str]:
    """Whether a corrected spacing can follow from the detector's: a warning if not."""
    if pixel is None or imager is None:
        return []
    factor = imager[0] / pixel[0]
    low, high = MAGNIFICATION_LIMITS
    said = f"ImagerPixelSpacing over PixelSpacing is a magnification of {factor:.2f}"
    if not low - FACTOR_SLACK <= factor <= high:
        return [f"{said}, which is impossible; is the pixel size right?"]
    if magnification is not None and abs(factor / magnification - 1) > FACTOR_DIFFERENCE:
        return [f"{said}, and what else the header says of it is {magnification:.2f}; is the pixel size right?"]
    return []


def impossible_spacing(spacing_mm: tuple[float, float]) -> bool:
    """Whether no radiograph has pixels of this size (row, column), or they are not finite."""
    low, high = SPACING_LIMITS_MM
    return not all(low <= value <= high for value in spacing_mm)


def _optics(header: Dataset, name: str) -> tuple[Optics, list[str]]:
    detector = _positive(header, "DistanceSourceToDetector")
    eos = "EOS" in str(header.get("Manufacturer") or "").upper().split()
    isocentre = _positive(header, "DistanceSourceToIsocenter") or _positive(header, "DistanceSourceToPatient")
    if detector is None or isocentre is None:
        return Optics(), []
    low, high = DISTANCE_LIMITS_MM
    if isocentre >= detector or not low <= detector <= high:
        return Optics(), [
            f"{name}: source distances of {detector:g} mm to the detector and {isocentre:g} mm to the patient "
            "are implausible, ignored"
        ]
    beam = Beam.SLOT if eos else Beam.CONE
    return Optics(beam, detector, isocentre, simultaneous=eos), []


def _magnification(header: Dataset, optics: Optics) -> float | None:
    if optics.source_to_detector_mm and optics.source_to_isocentre_mm:
        return optics.source_to_detector_mm / optics.source_to_isocentre_mm
    return _positive(header, "EstimatedRadiographicMagnificationFactor")


def _positive(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    return float(value) if value is not None and value > 0 else None


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    value = header.get(keyword)
    return None if value is None else (float(value[0]), float(value[1]))


def _impossible(header: Dataset, keyword: str) -> str:
    pair = _pair(header, keyword)
    if pair is None or not impossible_spacing(pair):
        return ""
    return f"{keyword} of {pair[0]:g} x {pair[1]:g} mm is impossible"
