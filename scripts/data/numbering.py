"""Which level each number of a labelmap means: told by names, or by what a numbering implies along the spine.

VerSe numbers grow towards the feet, TotalSegmentator's towards the head; 28 is T13 in the one and L4 in the other.
Where names and order do not settle it, the labelmap is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from scripts.errors import UserError
from scripts.io.documents import read_json
from scripts.levels import LABEL_MAPS, LEVEL_NUMBERS, Numbering, level_in_name, level_name, places_along_spine

TITLES = {Numbering.VERSE: "VerSe", Numbering.TOTALSEGMENTATOR: "TotalSegmentator"}
# All numbers of each numbering, and those of the sacrum and coccyx, head to foot.
KNOWN = {Numbering.VERSE: range(1, 29), Numbering.TOTALSEGMENTATOR: range(1, 118)}
BELOW_SPINE = {Numbering.VERSE: (26, 27), Numbering.TOTALSEGMENTATOR: (26, 25)}
# What is smaller than this says nothing about a numbering.
DEBRIS_MM3 = 500.0
# Parts of less than this share of the median are cut; their middle may lie below that of the next vertebra.
WHOLE_SHARE = 0.3
ASK = "say which with --labels, or with labels in a manifest"


@dataclass(frozen=True)
class LabelNumbers:
    """What the numbers of a labelmap mean.

    Args:
        levels: number -> VerSe number of the vertebra.
        notes: what the user should know of it, one line each.
    """

    levels: dict[int, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    volume_mm3: float
    height_mm: float


def find_numbering(numbers: np.ndarray, affine: np.ndarray, names: dict[int, str], chosen: str = "") -> LabelNumbers:
    """What the numbers of a labelmap mean.

    Args:
        numbers: (X, Y, Z) uint8 as stored.
        affine: 4x4 index -> RAS mm.
        names: number -> name, of the file's header or of a JSON file beside it.
        chosen: of `LABEL_MAPS`, where the user has said it.

    Raises:
        UserError: unknown numbering, two that are as likely, or none that fits.
    """
    if chosen and chosen not in LABEL_MAPS:
        raise UserError(f"unknown label numbering '{chosen}'; use {', '.join(LABEL_MAPS)}")
    parts = _parts(numbers, affine)
    named = {n: level for n in parts if (level := level_in_name(names.get(n, ""))) is not None}
    if chosen:
        return LabelNumbers(LABEL_MAPS[chosen], _notes_of_choice(Numbering(chosen), parts, named, names))
    if named:
        return _by_names(parts, named, names)
    return _by_order(parts)


def _by_names(parts: dict[int, _Part], named: dict[int, int], names: dict[int, str]) -> LabelNumbers:
    twice = [n for n, level in named.items() if list(named.values()).count(level) > 1]
    if twice:
        raise UserError(f"its labels {_listed(twice)} have the same level by their names ({names[twice[0]]}); {ASK}")
    nameless = [n for n, part in parts.items() if n not in names and part.volume_mm3 >= DEBRIS_MM3]
    if nameless:
        raise UserError(f"its label names leave out {_listed(nameless)}; {ASK}")
    if all(LABEL_MAPS[Numbering.VERSE].get(n) == level for n, level in named.items()):
        return LabelNumbers(named)
    example, level = next(iter(named.items()))
    return LabelNumbers(named, (f"labels are taken by their names, such as {example} for {level_name(level)}",))


def _by_order(parts: dict[int, _Part]) -> LabelNumbers:
    problems = {numbering: _problem(numbering, parts) for numbering in Numbering}
    other = Numbering.TOTALSEGMENTATOR
    if problems[Numbering.VERSE] and not problems[other] and not _has_evidence(other, parts):
        problems[other] = "there is one vertebra only, which has no order"
    fitting = [numbering for numbering, problem in problems.items() if not problem]
    if len(fitting) == 2:
        # An order of two and more is evidence, a single vertebra among other organs is not.
        ordered = [numbering for numbering in fitting if len(_vertebrae(numbering, parts)) > 1]
        fitting = ordered if len(ordered) == 1 else fitting
    if len(fitting) == 1:
        found = fitting[0]
        note = f"labels are taken as {TITLES[found]} numbers, by their order along the spine; {ASK} if they are not"
        small = _unknown(found, parts, 0.0)
        notes = [note] if found is not Numbering.VERSE else []
        notes += [f"label {n} ({parts[n].volume_mm3:.0f} mm3) is no {TITLES[found]} number: left out" for n in small]
        return LabelNumbers(LABEL_MAPS[found], tuple(notes))
    if fitting:
        meanings = []
        for numbering in fitting:
            number = _vertebrae(numbering, parts)[0]
            level = level_name(LABEL_MAPS[numbering][number])
            meanings.append(f"{TITLES[numbering]} numbers (label {number} is then {level})")
        raise UserError(f"its labels could be {' or '.join(meanings)}; {ASK}")
    if all(problem == NO_VERTEBRA for problem in problems.values()):
        raise UserError("the mask has no vertebra in it")
    reasons = "; ".join(f"as {TITLES[numbering]} numbers {problem}" for numbering, problem in problems.items())
    raise UserError(f"its labels fit no numbering: {reasons}. Wrong labels or orientation in the header? Else {ASK}")


NO_VERTEBRA = "there is no vertebra in it"


def _problem(numbering: Numbering, parts: dict[int, _Part]) -> str:
    """Why a numbering cannot be the one; empty if it can."""
    if unknown := _unknown(numbering, parts, DEBRIS_MM3):
        return f"{_listed(unknown)} would be unknown"
    vertebrae = _vertebrae(numbering, parts)
    if not vertebrae:
        return NO_VERTEBRA
    levels = [LABEL_MAPS[numbering][n] for n in vertebrae]
    t13, neighbours = LEVEL_NUMBERS["T13"], {LEVEL_NUMBERS["T12"], LEVEL_NUMBERS["L1"]}
    if len(levels) > 1 and t13 in levels and not neighbours & set(levels):
        return "there would be a T13 without T12 or L1"
    places = dict(zip(vertebrae, places_along_spine(levels), strict=True))
    places |= {n: 100 + i for i, n in enumerate(BELOW_SPINE[numbering]) if n in parts}
    least = WHOLE_SHARE * float(np.median([parts[n].volume_mm3 for n in vertebrae]))
    heights = [parts[n].height_mm for n in sorted(places, key=places.__getitem__) if parts[n].volume_mm3 >= least]
    if any(lower >= upper for upper, lower in pairwise(heights)):
        return "levels do not follow one another downwards"
    return ""


def _has_evidence(numbering: Numbering, parts: dict[int, _Part]) -> bool:
    """Whether a numbering that fits does more than not contradict: an order, or numbers that no other knows."""
    others = [number for name, known in KNOWN.items() if name is not numbering for number in known]
    found = [*_vertebrae(numbering, parts), *(n for n in BELOW_SPINE[numbering] if n in parts)]
    return len(found) > 1 or any(n not in others for n in found)


def _vertebrae(numbering: Numbering, parts: dict[int, _Part]) -> list[int]:
    """Numbers that are vertebrae; debris only where there is nothing else."""
    found = [n for n in parts if n in LABEL_MAPS[numbering]]
    return [n for n in found if parts[n].volume_mm3 >= DEBRIS_MM3] or found


def _unknown(numbering: Numbering, parts: dict[int, _Part], least_mm3: float) -> list[int]:
    return [n for n, part in parts.items() if n not in KNOWN[numbering] and part.volume_mm3 >= least_mm3]


def _notes_of_choice(
    numbering: Numbering, parts: dict[int, _Part], named: dict[int, int], names: dict[int, str]
) -> tuple[str, ...]:
    notes = []
    if unknown := _unknown(numbering, parts, 0.0):
        notes.append(f"labels {_listed(unknown)} are no {TITLES[numbering]} numbers: left out")
    other = [n for n, level in named.items() if LABEL_MAPS[numbering].get(n) != level]
    if other:
        notes.append(f"taken as {TITLES[numbering]} numbers, although label {other[0]} is named {names[other[0]]}")
    return tuple(notes)


def _parts(numbers: np.ndarray, affine: np.ndarray) -> dict[int, _Part]:
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    parts = {}
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is not None:
            inside = numbers[box] == number
            centre = np.add(ndimage.center_of_mass(inside), [s.start for s in box])
            parts[number] = _Part(np.count_nonzero(inside) * voxel_mm3, float(apply_affine(affine, centre)[2]))
    return parts


def name_files(mask: Path) -> tuple[Path, Path]:
    """Where names of a labelmap's labels may be."""
    stem = mask.name.removesuffix(".gz").removesuffix(".nii")
    return mask.with_name(f"{stem}.json"), mask.with_name("dataset.json")


def names_beside(mask: Path) -> dict[int, str]:
    """Names of labels in a JSON file beside a labelmap: one of its own name, or nnU-Net's ``dataset.json``.

    Any nesting, and both ``{"28": "L4"}`` and ``{"vertebrae_L4": 28}``; names without a level are left out. A file that
    is not JSON, or has no such names, may be about anything and is passed over.
    """
    for path in name_files(mask):
        try:
            pairs = list(_pairs(read_json(path)))
        except (UserError, ValueError, RecursionError):
            continue
        if names := {number: name for number, name in pairs if level_in_name(name) is not None}:
            for number, name in pairs:
                names.setdefault(number, name)
            return names
    return {}


def _pairs(value: Any) -> Iterator[tuple[int, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, str) and isinstance(key, str) and key.isdigit():
            yield int(key), inner
        elif isinstance(inner, int) and not isinstance(inner, bool) and isinstance(key, str):
            yield inner, key
        else:
            yield from _pairs(inner)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8]))
