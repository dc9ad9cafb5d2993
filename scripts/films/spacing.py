"""How large a pixel is in the patient, from the several attributes that DICOM has for it.

Pixel Spacing is corrected for magnification or calibrated by an object of known size, Imager Pixel Spacing is the
detector's own; a film read with the wrong one is 10 to 40 % too large. The order below is the one of DICOM PS3.3
10.7.1.3, with distances or the estimated magnification used where only the detector's spacing is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.film import Optics
from scripts.geometry.biplanar import Beam

SAME = 0.005  # two spacings that differ by less are one number written twice
SPACING_LIMITS_MM = (0.01, 5.0)
MAGNIFICATION_LIMITS = (1.0, 3.0)


@dataclass(frozen=True)
class Scale:
    """Spacing in the patient's plane, and why.

    Args:
        spacing_mm: (row, column), or None if the header does not say.
        optics: distances and beam.
        warnings: where the scale comes from.
    """

    spacing_mm: tuple[float, float] | None
    optics: Optics
    warnings: tuple[str, ...]


def film_scale(header: Dataset, name: str, where: str) -> Scale:
    """Spacing and optics of a DICOM radiograph.

    Args:
        header: its data set.
        name: AP or LAT, for warnings.
        where: its file, for errors.

    Raises:
        UserError: a spacing or a distance is impossible.
    """
    pixel = _pair(header, "PixelSpacing", where)
    imager = _pair(header, "ImagerPixelSpacing", where) or _pair(header, "NominalScannedPixelSpacing", where)
    optics = _optics(header)
    warnings: list[str] = []
    magnification = _magnification(header, optics, where)
    if pixel is not None and (imager is None or not np.allclose(pixel, imager, rtol=SAME)):
        kind = str(header.get("PixelSpacingCalibrationType") or "")
        if kind:
            warnings.append(f"{name}: scale from PixelSpacing, calibrated ({kind.lower()})")
        elif imager is None:
            warnings.append(f"{name}: scale from PixelSpacing; nothing says whether magnification is corrected")
        return Scale(pixel, optics, tuple(warnings))
    if imager is None:
        return Scale(None, optics, (f"{name}: no pixel spacing in the header",))
    if magnification is None:
        warnings.append(
            f"{name}: scale is that of the detector, magnification unknown: lengths may be 5 to 30 % too large"
        )
        return Scale(imager, optics, tuple(warnings))
    warnings.append(f"{name}: scale from ImagerPixelSpacing / magnification {magnification:.3f}")
    return Scale((imager[0] / magnification, imager[1] / magnification), optics, tuple(warnings))


def _optics(header: Dataset) -> Optics:
    detector = _positive(header, "DistanceSourceToDetector")
    eos = "EOS" in str(header.get("Manufacturer") or "").upper().split()
    isocentre = _positive(header, "DistanceSourceToIsocenter") or _positive(header, "DistanceSourceToPatient")
    if detector is None or isocentre is None or isocentre >= detector:
        return Optics()
    beam = Beam.SLOT if eos else Beam.CONE
    return Optics(beam, detector, isocentre, simultaneous=eos)


def _magnification(header: Dataset, optics: Optics, where: str) -> float | None:
    value = _positive(header, "EstimatedRadiographicMagnificationFactor")
    if optics.source_to_detector_mm and optics.source_to_isocentre_mm:
        value = optics.source_to_detector_mm / optics.source_to_isocentre_mm
    if value is not None and not MAGNIFICATION_LIMITS[0] <= value <= MAGNIFICATION_LIMITS[1]:
        raise UserError(f"{where}: a magnification of {value:.2f} is impossible; give --spacing or --geometry")
    return value


def _positive(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    try:
        return float(value) if value not in (None, "") and float(value) > 0 else None
    except (TypeError, ValueError):
        return None


def _pair(header: Dataset, keyword: str, where: str) -> tuple[float, float] | None:
    value = header.get(keyword)
    if value is None or isinstance(value, str) or len(value) != 2:
        return None
    row, column = float(value[0]), float(value[1])
    low, high = SPACING_LIMITS_MM
    if not (low <= row <= high and low <= column <= high):
        raise UserError(f"{where}: {keyword} of {row:g} x {column:g} mm is impossible; give --spacing")
    return row, column
