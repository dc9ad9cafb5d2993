"""How the rays of a radiograph diverge."""

from __future__ import annotations

from enum import Enum


class Beam(str, Enum):
    """Which image axes the rays diverge along."""

    PARALLEL = "parallel"
    SLOT = "slot"
    CONE = "cone"
