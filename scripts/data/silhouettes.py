"""Shadows that vertebra masks throw on the films, and their outlines."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.data.patient import PatientVolume
from scripts.geometry.biplanar import Beam, View
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.geometry.shadow import filled, surface_pixels

_DASH = 8  # screen pixels


def silhouettes(patient: PatientVolume, view: View) -> dict[int, np.ndarray]:
    """VerSe number -> (rows, columns) bool: the shadow of that vertebra's mask on a film."""
    shadows = {}
    for number, box in enumerate(ndimage.find_objects(patient.labels), start=1):
        if box is not None:
            first = np.array([s.start for s in box])
            shadows[number] = _shadow(patient.labels[box] == number, first, patient.grid, view)
    return shadows


def _shadow(mask: np.ndarray, first: np.ndarray, grid: Grid, view: View) -> np.ndarray:
    """Shadow of a part of the grid that begins at voxel ``first``."""
    if view.beam is Beam.PARALLEL:
        # The pixels lie exactly over the voxels: the AP view sums along axis 1, the LAT view along axis 2.
        along = int(np.abs(IPL_AXES @ view.beam_direction).argmax())
        rows, columns = (slice(first[i], first[i] + mask.shape[i]) for i in range(3) if i != along)
        shadow: np.ndarray = np.zeros(view.shape, bool)
        shadow[rows, columns] = mask.any(along)
        return shadow
    return filled(surface_pixels(mask, grid.crop(tuple(first), mask.shape), view), view.shape)


def outline(shadow: np.ndarray, scale: int, dashed: bool) -> tuple[tuple[int, int], np.ndarray]:
    """The inner border of a shadow on the screen, closed where the film cuts it.

    Args:
        shadow: (rows, columns) bool.
        scale: screen pixels a film pixel.
        dashed: leave gaps.

    Returns:
        the screen's (row, column) at which the shadow's box begins, and a bool array of the box's size on the screen.
    """
    box = ndimage.find_objects(shadow.view(np.uint8))
    if not box:
        return (0, 0), np.zeros((0, 0), bool)
    fine = np.pad(shadow[box[0]].repeat(scale, 0).repeat(scale, 1), 1)
    line = (fine & ~ndimage.binary_erosion(fine, iterations=min(scale, 2)))[1:-1, 1:-1]
    if dashed:
        row, column = np.indices(line.shape)
        line &= (2 * row + column) // _DASH % 2 == 0
    return (box[0][0].start * scale, box[0][1].start * scale), line
