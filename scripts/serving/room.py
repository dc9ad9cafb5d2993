"""How much of the disk a folder takes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def used_bytes(folder: Path) -> int:
    """The size of all files in a folder and below; what vanishes meanwhile does not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
