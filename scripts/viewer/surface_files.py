"""Surfaces in a case's folder, as the page draws them: one file for each shape that a level has had lately."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.io.atomic import atomic_path
from scripts.spine.assembly import ReconstructedVertebra

# Of one level; a browser keeps as many steps (`static/drafts.js`).
MOST_SURFACES = 40


def surface_file(folder: Path, name: str, key: str) -> Path:
    """Where the surface of a level lies.

    Args:
        folder: of the case.
        name: of the level.
        key: fingerprint of what it is made from, see `scripts.viewer.fingerprints`.
    """
    return folder / f"{name}.{key}.mesh"


def write_surface(path: Path, part: ReconstructedVertebra) -> None:
    """Little-endian: numbers of vertices and triangles (uint32), positions (float32, RAS mm), indices (uint32)."""
    mesh = part.mesh
    counts = np.array([len(mesh.vertices), len(mesh.faces)], "<u4")
    with atomic_path(path) as work:
        work.write_bytes(counts.tobytes() + mesh.vertices.astype("<f4").tobytes() + mesh.faces.astype("<u4").tobytes())


def forget_old(folder: Path, name: str) -> None:
    """Keep the surfaces of a level that were made or asked for last; a step back beyond them is computed again.

    Args:
        folder: of the case.
        name: of the level.
    """
    for path in sorted(folder.glob(f"{name}.*.mesh"), key=lambda path: path.stat().st_mtime_ns)[:-MOST_SURFACES]:
        path.unlink()
