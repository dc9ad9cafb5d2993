"""Whether what a labelmap calls a vertebra can be one: not debris, in pieces, part of one, or of a wrong voxel size."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scripts.anatomy.sizes import mean_volume_mm3
from scripts.errors import UserError
from scripts.levels import in_order

# The smallest whole vertebrae, of small children, have twice as much.
LEAST_MM3 = 1000.0
# Of the mean of its level, against the same of its neighbours: crushed ones of VerSe have 0.7 and more.
LEAST_SHARE, NEIGHBOURS = 0.5, 3
# A mask's parts beside the largest: their share of it, and how far away even the smallest may lie. Thin processes break
# off where voxels are large.
MOST_APART, MOST_APART_MM = 0.1, 10.0
# Voxels and fields of view of CTs in mm.
VOXEL_MM, FIELD_MM = (0.05, 12.0), (20.0, 2500.0)
# How much smaller or larger than the mean a spine can be, in length: small children have less.
# One vertebra alone may be a part of one.
SCALE, SCALE_OF_ONE = (0.7, 1.5), (0.5, 2.0)


def check_field(shape: tuple[int, ...], voxel_mm: np.ndarray) -> None:
    """Refuse voxel sizes and extents that no CT of a spine has: a wrong unit or spacing in the header.

    Args:
        shape: (3,) voxels.
        voxel_mm: (3,) size of one.

    Raises:
        UserError: they are implausible.
    """
    for values, limits, what in (
        (voxel_mm, VOXEL_MM, "voxels of"),
        (voxel_mm * shape, FIELD_MM, "a field of view of"),
    ):
        if values.min() < limits[0] or values.max() > limits[1]:
            said = " x ".join(f"{value:.4g}" for value in values)
            raise UserError(f"{what} {said} mm cannot be: wrong unit or spacing? Give spacing_mm in a manifest")


def check_scale(volumes_mm3: dict[int, float]) -> None:
    """Refuse spines that are far too small or too large for their levels: a wrong spacing, or wrong label numbers.

    Args:
        volumes_mm3: of the whole vertebrae, per VerSe number.

    Raises:
        UserError: they are.
    """
    if not volumes_mm3:
        return
    scale = float(np.median([volume / mean_volume_mm3(n) for n, volume in volumes_mm3.items()])) ** (1 / 3)
    least, most = SCALE if len(volumes_mm3) > 1 else SCALE_OF_ONE
    if not least <= scale <= most:
        raise UserError(
            f"its vertebrae are {scale:.2f} times as large as an average person's: wrong spacing in the header or "
            "wrong levels? Give spacing_mm or labels in a manifest"
        )


def volumes_of(labels: np.ndarray, voxel_mm: np.ndarray) -> dict[int, float]:
    """Volume in mm3 per VerSe number.

    Args:
        labels: (X, Y, Z) uint8.
        voxel_mm: (3,).
    """
    counts = np.bincount(labels.ravel())
    return {n: float(count * np.prod(voxel_mm)) for n, count in enumerate(counts) if n and count}


def why_unfit(labels: np.ndarray, voxel_mm: np.ndarray, cut: set[int]) -> dict[int, str]:
    """Reason per VerSe number whose mask is not a whole vertebra, apart from those cut by the field of view.

    Args:
        labels: (X, Y, Z) uint8, VerSe numbers.
        voxel_mm: (3,).
        cut: numbers that the border of the field of view cuts: neither judged nor a measure for their neighbours.
    """
    volumes = volumes_of(labels, voxel_mm)
    size = {n: volume / mean_volume_mm3(n) for n, volume in volumes.items()}
    order = in_order(list(volumes))
    boxes = ndimage.find_objects(labels)
    reasons = {}
    for place, number in enumerate(order):
        if number in cut:
            continue
        near = order[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS + 1]
        around = [size[n] for n in near if n != number and n not in cut and volumes[n] >= LEAST_MM3]
        if volumes[number] < LEAST_MM3:
            count = round(volumes[number] / float(np.prod(voxel_mm)))
            reasons[number] = f"debris: {count} voxels, {volumes[number]:.0f} mm3"
        elif around and size[number] < LEAST_SHARE * np.median(around):
            share = size[number] / np.median(around)
            reasons[number] = f"not whole: {share:.0%} of what its neighbours would have it be"
        elif why := _in_pieces(labels[boxes[number - 1]] == number, voxel_mm):
            reasons[number] = why
    return reasons


def _in_pieces(mask: np.ndarray, voxel_mm: np.ndarray) -> str:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 1:
        return ""
    sizes = np.bincount(parts.ravel())[1:]
    apart = 1 - sizes.max() / sizes.sum()
    away_mm = ndimage.distance_transform_edt(parts != sizes.argmax() + 1, sampling=voxel_mm)
    farthest = max(ndimage.minimum(away_mm, parts, range(1, count + 1)))
    if apart <= MOST_APART and farthest <= MOST_APART_MM:
        return ""
    return f"in {count} pieces: {apart:.1%} of it apart from the largest, up to {farthest:.0f} mm away"
