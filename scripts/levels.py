"""The one table of vertebra levels: VerSe numbers, names, order and regions.

VerSe numbers (Sekuboyina 2021, doi 10.1016/j.media.2021.102166): 1-7 = C1-C7, 8-19 = T1-T12, 20-25 = L1-L6,
28 = T13. Other programs' numberings are maps onto it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from scripts.errors import UserError

LEVEL_NAMES: dict[int, str] = {
    **{number: f"C{number}" for number in range(1, 8)},
    **{number: f"T{number - 7}" for number in range(8, 20)},
    **{number: f"L{number - 19}" for number in range(20, 26)},
    28: "T13",
}
LEVEL_NUMBERS: dict[str, int] = {name: number for number, name in LEVEL_NAMES.items()}

# Of tables whose places are VerSe numbers.
TABLE_SIZE = max(LEVEL_NAMES) + 1

# Head to foot; T13 sits between T12 and L1.
LEVEL_ORDER: tuple[int, ...] = (*range(1, 20), 28, *range(20, 26))

# Most spines have neither a T13 nor an L6.
USUAL_LEVELS: tuple[int, ...] = tuple(n for n in LEVEL_ORDER if LEVEL_NAMES[n] not in ("T13", "L6"))

REGIONS: dict[str, str] = {"C": "cervical", "T": "thoracic", "L": "lumbar"}

# TotalSegmentator v2 (Wasserthal 2023, doi 10.1148/ryai.230024): 27 = L5 ... 31 = L1, 32 = T12 ... 43 = T1,
# 44 = C7 ... 50 = C1; 26 is S1 and has no VerSe vertebra number.
TOTALSEGMENTATOR_TO_VERSE: dict[int, int] = {
    **{27 + i: 24 - i for i in range(5)},
    **{32 + i: 19 - i for i in range(12)},
    **{44 + i: 7 - i for i in range(7)},
}


class Numbering(StrEnum):
    """How a labelmap numbers its vertebrae."""

    VERSE = "verse"
    TOTALSEGMENTATOR = "totalsegmentator"


LABEL_MAPS: dict[str, dict[int, int]] = {
    Numbering.VERSE: {number: number for number in LEVEL_NAMES},
    Numbering.TOTALSEGMENTATOR: TOTALSEGMENTATOR_TO_VERSE,
}

LEVEL_IN_NAME = re.compile(r"(?<![A-Za-z0-9])([CTL]\d{1,2})(?![0-9])", re.IGNORECASE)


def places_along_spine(numbers: Sequence[int], absent: int | None = None) -> list[int]:
    """How far below C1 each level of a spine lies, in vertebrae: L1 follows T12 unless the spine has a T13.

    Args:
        numbers: VerSe numbers of the levels.
        absent: a level that the spine does not have, as T12 where `scripts.anatomy.absent.absent_level` says so.

    >>> places_along_spine([19, 20])
    [18, 19]
    >>> places_along_spine([19, 28, 20])
    [18, 19, 20]
    >>> places_along_spine([18, 20], absent=19)
    [17, 18]
    """
    without = {absent, None if LEVEL_NUMBERS["T13"] in numbers else LEVEL_NUMBERS["T13"]}
    order = [number for number in LEVEL_ORDER if number not in without]
    return [order.index(number) for number in numbers]


def level_rank(number: int) -> float:
    """A level's number counted evenly down a usual spine: T13 lies halfway between T12 (19) and L1 (20); L6 is 25.

    >>> [level_rank(number) for number in (19, 28, 20, 25)]
    [19.0, 19.5, 20.0, 25.0]
    """
    return LEVEL_NUMBERS["T12"] + 0.5 if number == LEVEL_NUMBERS["T13"] else float(number)


def level_name(number: int) -> str:
    """Name of a VerSe number, e.g. ``level_name(20) == "L1"``.

    Raises:
        UserError: the number is not a vertebra (26 sacrum, 27 coccyx, 0 background included).
    """
    if number not in LEVEL_NAMES:
        raise UserError(f"label {number} is no vertebra in VerSe numbering (1-25 and 28)")
    return LEVEL_NAMES[number]


def level_number(name: str) -> int:
    """VerSe number of a level name, case-insensitive.

    >>> level_number("l1")
    20

    Raises:
        UserError: the name is unknown.
    """
    key = str(name).strip().upper()
    if key not in LEVEL_NUMBERS:
        raise UserError(f"unknown vertebra level '{name}'; use C1-C7, T1-T13 or L1-L6")
    return LEVEL_NUMBERS[key]


def level_in_name(name: str) -> int | None:
    """VerSe number of the level that a longer name holds, or None.

    >>> level_in_name("vertebrae_L5"), level_in_name("vertebrae_S1")
    (24, None)
    """
    match = LEVEL_IN_NAME.search(name)
    return LEVEL_NUMBERS.get(match[1].upper()) if match else None


# A VerSe number; on the command line a name.
Level = Annotated[int, level_number]


def region(number: int) -> str:
    """``cervical``, ``thoracic`` or ``lumbar``."""
    return REGIONS[level_name(number)[0]]


def in_order(numbers: list[int]) -> list[int]:
    """The numbers sorted from head to foot."""
    return sorted(numbers, key=LEVEL_ORDER.index)
