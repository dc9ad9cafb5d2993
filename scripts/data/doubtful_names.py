"""Patients who may be one, by the look of their files' names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from scripts.data.cases import CaseFiles

BETWEEN = re.compile(r"[_\-. ]")
# A number as patients of a collection have it, and not series or dates.
NUMBER = re.compile(r"(?<!\d)\d{3,5}(?!\d)")
# The beginning of a name that may be a patient's: numbers with dots between them, as DICOM's; a word with a digit, as
# p1 and verse005; several words up to such a number, as LIDC-IDRI-0001; or else the first word.
PATIENT = re.compile(
    rf"\d+(?:\.\d+){{3,}}|[^_\-. ]*\d[^_\-. ]*|(?:[^_\-. ]+[_\-. ])+?[^_\-. ]*{NUMBER.pattern}[^_\-. ]*|[^_\-. ]*"
)
# More names that begin alike are those of a collection, not of one patient's series.
MOST_SERIES = 9
MOST_NAMED = 5


def doubtful_patients(cases: Iterable[CaseFiles]) -> dict[str, str]:
    """Cases that may be series of a patient who has another name, and would then be torn apart by a split.

    Of a file that is named ``<stem>_ct.nii.gz`` alone, the whole stem is the patient. In doubt is a stem that goes on
    another one, and one of several that begin with the same patient where not all do: few, or many where other patients
    are named alike, as p1_0 to p1_10 beside p2_0 to p2_10.

    Args:
        cases: all.

    Returns:
        key -> what the user should know.
    """
    stems = [case.subject for case in cases if case.ct and case.ct.name.startswith(f"{case.subject}_ct.")]
    known = set(stems)
    alike: dict[str, list[str]] = {}
    for stem in sorted(known):
        if match := PATIENT.match(stem):
            alike.setdefault(match[0], []).append(stem)
    # Of patients who differ by their numbers.
    patterns = {patient: re.sub(r"\d+", "#", patient) for patient in alike}
    common = Counter(patterns.values())
    doubts = {}
    for patient, group in alike.items():
        numbered = any(NUMBER.search(stem, len(patient)) for stem in group)
        many = len(group) > MOST_SERIES and (numbered or common[patterns[patient]] == 1)
        series = len(alike) > 1 and not many
        for stem in group:
            shorter = {stem[: match.start()] for match in BETWEEN.finditer(stem)} & known
            others = [other for other in group if other != stem] if series else sorted(shorter)
            if others:
                more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
                name = (patient if series else others[0]).replace("_", "-")
                doubts[stem] = (
                    f"taken as another patient than {', '.join(others[:MOST_NAMED])}{more}; if it is not, "
                    f"name the files of all sub-{name}_SERIES_ct.nii.gz"
                )
    return doubts
