"""Angles and sizes of the vertebrae that have been reconstructed, as the page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def measure(folder: Path, levels: list[str]) -> dict[str, Any]:
    """placeholder"""
    return {"rows": [], "note": ""}
