"""Checks of DICOM objects against the standard's attribute types, from the tables that highdicom carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
STANDARD = Path(highdicom.__file__).with_name("_standard")


def missing_attributes(data: Dataset) -> list[str]:
    """Type 1 attributes that are absent or empty and type 2 ones that are absent, in mandatory and in used modules."""
    iods, attributes, classes = (
        json.loads((STANDARD / f"{name}.json").read_text())
        for name in ("iod_module_map", "module_attribute_map", "sop_class_iod_map")
    )
    found = []
    for module in iods[classes[data.SOPClassUID]]:
        if module["usage"] == "M":
            for attribute in attributes[module["key"]]:
                # A functional group is in the shared or in the per-frame groups or, if it is optional, in neither.
                if attribute["path"] and attribute["path"][-1] in GROUPS:
                    continue
                found += _missing(data, attribute["path"], attribute["keyword"], attribute["type"], module["key"])
    return found


def _missing(data: Any, path: list[str], keyword: str, kind: str, where: str) -> list[str]:
    if kind not in ("1", "2") or tag_for_keyword(keyword) is None:
        return []
    if path:
        return [
            line
            for item in data.get(path[0]) or []
            for line in _missing(item, path[1:], keyword, kind, f"{where}/{path[0]}")
        ]
    if keyword not in data:
        return [f"{where}: {keyword} (type {kind}) is absent"]
    value = data[keyword].value
    empty = value is None or (hasattr(value, "__len__") and len(value) == 0)
    return [f"{where}: {keyword} is empty"] if kind == "1" and empty else []
