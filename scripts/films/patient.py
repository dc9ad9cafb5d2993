"""Whether two films show one patient on one occasion. Nothing read here is ever shown, logged or kept."""

from __future__ import annotations

import re

from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.film import Radiograph

DATES = ("StudyDate", "AcquisitionDate")
# A slot scanner passes a standing patient in less.
ONE_SCAN_S = 120.0
NOT_ONE_SCAN = "the films are not of one scan by their"


def check_same_patient(ap: Dataset | None, lat: Dataset | None, where: str) -> list[str]:
    """Refuse two patients, and two studies of different days.

    Args:
        ap: header of the frontal film; None if it is not a DICOM file.
        lat: header of the lateral film; None if it is not a DICOM file.
        where: the files, for errors.

    Returns:
        warnings.

    Raises:
        UserError: the films cannot belong together.
    """
    if ap is None or lat is None:
        return ["nothing in the files says that both films show the same patient"]
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientName"):
        if _differ(ap, lat, keyword):
            raise UserError(f"{where}: two different patients by their {keyword}")
    if _differ(ap, lat, "StudyDate"):
        raise UserError(
            f"{where}: films of two different studies by their StudyDate; the patient may have changed or stood "
            "otherwise"
        )
    lines = []
    if _differ(ap, lat, "AcquisitionDate"):
        lines.append("the films were taken on two days by their AcquisitionDate; posture may differ between them")
    identified, one_study = (_both_say(ap, lat, keyword) for keyword in ("PatientID", "StudyInstanceUID"))
    if _differ(ap, lat, "StudyInstanceUID"):
        if not (identified and _both_say(ap, lat, "StudyDate")):
            raise UserError(f"{where}: films of two different studies; the patient may have changed or stood otherwise")
        return [*lines, "the films belong to two studies of one day; posture may differ between them"]
    if not identified and not one_study:
        lines.append("nothing in the files says that both films show the same patient")
    return lines


def not_one_scan(ap: Radiograph, lat: Radiograph) -> str:
    """Why two films of a scanner that takes both views at once are not of one scan; empty if they may be.

    Args:
        ap: frontal film.
        lat: lateral film.
    """
    if not (ap.optics.simultaneous and lat.optics.simultaneous) or ap.header is None or lat.header is None:
        return ""
    for keyword in ("StudyInstanceUID", "AcquisitionDate"):
        if _differ(ap.header, lat.header, keyword):
            return f"{NOT_ONE_SCAN} {keyword}: heights are not taken as shared"
    first, second = _seconds(ap.header), _seconds(lat.header)
    if first is None or second is None or abs(first - second) <= ONE_SCAN_S:
        return ""
    return f"{NOT_ONE_SCAN} AcquisitionTime: heights are not taken as shared"


def _seconds(header: Dataset) -> float | None:
    """The time of day at which a film was taken; None if the header does not say."""
    digits = re.sub(r"\D", "", str(header.get("AcquisitionTime") or "").split(".")[0])
    if len(digits) not in (4, 6):
        return None
    hours, minutes, seconds = (int(digits.ljust(6, "0")[i : i + 2]) for i in (0, 2, 4))
    return 3600.0 * hours + 60 * minutes + seconds


def _both_say(ap: Dataset, lat: Dataset, keyword: str) -> bool:
    return all(str(header.get(keyword) or "").strip() for header in (ap, lat))


def _differ(ap: Dataset, lat: Dataset, keyword: str) -> bool:
    values = [_value(header, keyword) for header in (ap, lat)]
    return all(values) and values[0] != values[1]


def _value(header: Dataset, keyword: str) -> str:
    """An attribute as text that can be compared.

    Dates are without the points of old files, and empty where they are none; names are without the delimiters of
    components and groups that are empty at their end, and in one case.
    """
    text = str(header.get(keyword) or "").strip()
    if keyword in DATES:
        digits = text.replace(".", "")
        return digits if re.fullmatch(r"\d{8}", digits) else ""
    if keyword != "PatientName":
        return text
    return "=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("= ").casefold()
