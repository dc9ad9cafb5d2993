"""A reconstructed spine in memory, and what the residuals of its marks say."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scripts.errors import UserError
from scripts.geometry.frames import Grid
from scripts.levels import level_name
from scripts.spine.assembly import LocatedVertebra, ReconstructedVertebra

WARN_RESIDUAL_MM = 3.0
MAX_RESIDUAL_MM = 20.0


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed spine in memory.

    Args:
        parts: vertebrae, head to foot.
        labels: (I, P, L) uint8, VerSe numbers.
        grid: of the labels.
        seconds: how long each step took.
        warnings: what the user should know.
        computed: vertebrae that went through the network in this call; the others were known.
    """

    parts: list[ReconstructedVertebra]
    labels: np.ndarray
    grid: Grid
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    computed: int = 0

    @property
    def vertebrae(self) -> list[LocatedVertebra]:
        """Where the vertebrae are, head to foot."""
        return [part.vertebra for part in self.parts]


def residual_warnings(vertebrae: list[LocatedVertebra]) -> list[str]:
    """What is worth knowing about the residuals of the marks.

    Raises:
        UserError: a residual that no single vertebra can have.
    """
    worst = max(vertebrae, key=lambda v: v.residual_mm)
    if worst.residual_mm > MAX_RESIDUAL_MM:
        raise UserError(
            f"the two marks of {level_name(worst.level)} miss each other by {worst.residual_mm:.0f} mm: marks of "
            "different vertebrae, films of different patients, or a view swapped"
        )
    return [
        f"{level_name(v.level)}: the marks of the two views miss each other by {v.residual_mm:.1f} mm"
        for v in vertebrae
        if v.residual_mm > WARN_RESIDUAL_MM
    ]
