"""Where the bundle lies on this machine, and which version it is."""

from __future__ import annotations

import json
from pathlib import Path

BUNDLE_ROOT = Path(__file__).resolve().parents[1]


def software_version() -> str:
    """The bundle's own version."""
    return str(json.loads((BUNDLE_ROOT / "configs" / "metadata.json").read_text())["version"])
