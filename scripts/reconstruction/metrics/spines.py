"""The spines that a prepared dataset's vertebrae belong to: who are neighbours, and how each vertebra leans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scripts.data.datalist import ALL_LISTS, spine_name
from scripts.geometry.leaning import UPRIGHT, Lean, spine_leans
from scripts.levels import LEVEL_ORDER, level_number

Item = dict[str, Any]


def all_spines(document: dict[str, Any]) -> dict[str, list[Item]]:
    """The items of all lists of a ``dataset.json``, spine by spine."""
    return group_by_spine(item for name in ALL_LISTS for item in document.get(name, []))


def group_by_spine(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Items by `spine_name`, in their order."""
    spines: dict[str, list[Item]] = {}
    for item in items:
        spines.setdefault(spine_name(item), []).append(item)
    return spines


def leans_at(spine: list[Item], item: Item) -> tuple[Lean, Lean]:
    """How the spine runs at an item, and how far its image and label have been turned upright already.

    Cut and debris alike are in the list ``excluded``; what is no mark takes no part, as when the dataset was prepared.
    """
    if item.get("no_mark"):
        return UPRIGHT, UPRIGHT
    marked = [i for i in spine if not i.get("no_mark")]
    order = sorted(marked, key=lambda i: LEVEL_ORDER.index(level_number(i["level"])))
    points = np.array([i["centroid_mm"] for i in order])
    place = next(n for n, i in enumerate(order) if i["level"] == item["level"])
    along = spine_leans(points, sagittal_share=1.0)[place]
    return along, spine_leans(points)[place] if item.get("along_spine") else UPRIGHT
