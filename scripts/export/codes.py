"""SNOMED CT codes of the levels, as DICOM's context groups 7602 and 7603 have them (checked against pydicom's copy)."""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from scripts.levels import level_name


def level_code(number: int) -> Code:
    """Coded level of a VerSe number; T13 and L6 have no code of their own and are coded as a vertebra.

    Args:
        number: VerSe number.
    """
    name = f"{level_name(number)}Vertebra"
    return getattr(codes.SCT, name) if name in dir(codes.SCT) else codes.SCT.Vertebra
