"""Pictures of labelmaps whose vertebrae have the surfaces that `reconstruct` writes."""

from __future__ import annotations

import numpy as np

from scripts.geometry.frames import Grid
from scripts.render.preview import DrawnSpine, drawn_spine
from scripts.render.surfaces import ANGLES, Surfaces, View, mesh_surfaces, render_surfaces
from scripts.spine.mesh import vertebra_mesh


def surfaces_of(labels: np.ndarray, voxel_mm: float = 1.0) -> Surfaces:
    """The surface of each label, by way of the world."""
    grid = Grid((-40.0, 120.0, 300.0), labels.shape, voxel_mm)
    numbers = [int(n) for n in np.unique(labels) if n]
    return mesh_surfaces({n: vertebra_mesh((labels == n).astype(np.float32), grid.affine) for n in numbers}, grid)


def spine_of(labels: np.ndarray) -> DrawnSpine:
    """What is drawn of a labelmap of 1 mm."""
    return drawn_spine(labels, 1.0, surfaces_of(labels))


def picture(labels: np.ndarray, view: View, scale: float, voxel_mm: float = 1.0) -> np.ndarray:
    """(H, W, 3) uint8 of the whole labelmap from one side."""
    size_mm = np.array(labels.shape) * voxel_mm
    return render_surfaces(surfaces_of(labels, voxel_mm), size_mm, ANGLES[view], scale)[0]
