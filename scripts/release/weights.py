"""From what a training wrote to what is handed out: the state dict alone, half the size (`scripts.learning.compact`).

python -m scripts.release.weights --source output/training/model.pt --output models/model.pt
"""

from __future__ import annotations

from pathlib import Path

from scripts.command import run_module
from scripts.learning.compact import compact_file


def main(source: Path, output: Path) -> None:
    """Read a training's ``model.pt`` and write the bundle's."""
    compact_file(source, output)


if __name__ == "__main__":
    run_module(main)
