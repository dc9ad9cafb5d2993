"""What a user says of films whose files do not say it, or say it wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from scripts.errors import UserError

VIEWS = ("ap", "lat")
QUARTER_DEG = 90


def parse_spacing(text: str) -> tuple[float | None, float | None]:
    """mm a pixel of AP and LAT as the user writes them, None for a film that is not named.

    >>> parse_spacing("0.14"), parse_spacing("0.14,0.2"), parse_spacing("lat:0.2")
    ((0.14, 0.14), (0.14, 0.2), (None, 0.2))

    Raises:
        UserError: no number, too many, or of no film.
    """
    return _of_both(text, "spacing", "0.14, 0.14,0.2 (AP,LAT) or lat:0.2")


def parse_turn(text: str) -> tuple[int, int]:
    """Degrees clockwise by which AP and LAT are turned, as the user writes them.

    >>> parse_turn("ap:90"), parse_turn("ap:270,lat:180")
    ((90, 0), (270, 180))

    Raises:
        UserError: no number, too many, or of no film.
    """
    ap, lat = (value or 0.0 for value in _of_both(text, "turn", "ap:90 or ap:90,lat:270"))
    return quarters((ap, lat))


def quarters(degrees: Sequence[float]) -> tuple[int, int]:
    """Turns of AP and LAT as 0, 90, 180 or 270 degrees clockwise.

    Raises:
        UserError: films are turned by quarters only.
    """
    if any(value % QUARTER_DEG for value in degrees):
        raise UserError(f"--turn takes multiples of {QUARTER_DEG} degrees, not {', '.join(f'{v:g}' for v in degrees)}")
    ap, lat = (int(value) % 360 for value in degrees)
    return ap, lat


def _of_both(text: str, option: str, example: str) -> tuple[float | None, float | None]:
    """A number for each film: with the films' names, in their order, or one for both; ``none`` is no number."""
    words = [word.strip() for word in text.lower().split(",") if word.strip()]
    pairs = [(name.strip(), word) for name, _, word in (word.rpartition(":") for word in words)]
    names = [name for name, _ in pairs]
    if not any(names) and 1 <= len(words) <= 2:
        pairs = list(zip(VIEWS, words * 2, strict=False))
    elif not words or set(names) - set(VIEWS) or len(set(names)) < len(names):
        raise UserError(f"--{option} takes {example}, not '{text}'")
    try:
        given = {name: None if word == "none" else float(word) for name, word in pairs}
    except ValueError as error:
        raise UserError(f"--{option} takes {example}, not '{text}'") from error
    return given.get("ap"), given.get("lat")


@dataclass(frozen=True)
class ReadingOptions:
    """How two films are to be read.

    Args:
        geometry: YAML or JSON file that says how the films were taken; docs/films.md describes it.
        spacing: mm a pixel in the patient, one number, AP,LAT, or of one film as lat:0.2; it overrides what the films
            say. It is estimated where neither says it.
        turn: degrees clockwise by which films are turned, as ap:90 or ap:90,lat:270.
        mirror: films to mirror left to right, after they were turned: ap, lat or ap,lat.
        invert: films whose bones are dark: ap, lat or ap,lat.
    """

    geometry: Path | None = None
    spacing: Annotated[tuple[float | None, float | None], parse_spacing] = (None, None)
    turn: Annotated[tuple[int, int], parse_turn] = (0, 0)
    mirror: tuple[str, ...] = ()
    invert: tuple[str, ...] = ()


AS_THE_FILES_SAY = ReadingOptions()
