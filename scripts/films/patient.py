"""Whether two films show one patient on one occasion. Nothing read here is ever shown, logged or kept."""

from __future__ import annotations

from pydicom import Dataset

from scripts.errors import UserError


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
    identified, one_study = (_both_say(ap, lat, keyword) for keyword in ("PatientID", "StudyInstanceUID"))
    if _differ(ap, lat, "StudyInstanceUID"):
        same_day = bool(ap.get("StudyDate")) and ap.get("StudyDate") == lat.get("StudyDate")
        if not (identified and same_day):
            raise UserError(f"{where}: films of two different studies; the patient may have changed or stood otherwise")
        return ["the films belong to two studies of one day; posture may differ between them"]
    if not identified and not one_study:
        return ["nothing in the files says that both films show the same patient"]
    return []


def _both_say(ap: Dataset, lat: Dataset, keyword: str) -> bool:
    return all(str(header.get(keyword) or "").strip() for header in (ap, lat))


def _differ(ap: Dataset, lat: Dataset, keyword: str) -> bool:
    values = [_value(header, keyword) for header in (ap, lat)]
    return all(values) and values[0] != values[1]


def _value(header: Dataset, keyword: str) -> str:
    """An attribute as text; of a name without the delimiters of components and groups that are empty at its end."""
    text = str(header.get(keyword) or "").strip()
    if keyword != "PatientName":
        return text
    return "=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("= ")
