"""What a user says of films whose files do not say it, or say it wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReadingOptions:
    """How two films are to be read.

    Args:
        geometry: YAML or JSON file that says how the films were taken; docs/films.md describes it.
        spacing: mm a pixel in the patient, one number or AP,LAT; it overrides what the films say. It is estimated where
            neither says it.
        mirror: films to mirror left to right: ap, lat or ap,lat.
        invert: films whose bones are dark: ap, lat or ap,lat.
    """

    geometry: Path | None = None
    spacing: tuple[float, float] | None = None
    mirror: tuple[str, ...] = ()
    invert: tuple[str, ...] = ()


AS_THE_FILES_SAY = ReadingOptions()
