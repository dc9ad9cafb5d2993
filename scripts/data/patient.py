"""A case brought into the canonical frame, as it is or deformed at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from nibabel.affines import apply_affine
from scipy import ndimage

from scripts.anatomy.centroids import body_centroid
from scripts.data.variants import Variant, VariantRange
from scripts.data.volumes import CaseVolumes
from scripts.errors import UserError
from scripts.geometry.frames import Grid, bounding_grid, resample, resample_labels
from scripts.geometry.projector import hu_to_attenuation
from scripts.levels import in_order

# A vertebra with less than this share of its neighbours' volume is cut: what is left of it may be a spinous tip alone,
# which hangs below the body of the next vertebra. Neighbours: up to this many each way.
WHOLE_SHARE, NEIGHBOURS = 0.3, 3


@dataclass(frozen=True)
class Orientation:
    """Evidence that a header's axes are right; left and right cannot be determined from the bones.

    Args:
        behind_mm: median distance by which the vertebrae's centres of mass lie behind their body centroids.
        levels_descend: whether the levels follow one another downwards.
        compared: how many vertebrae were judged; those that are cut are left out.
    """

    behind_mm: float
    levels_descend: bool
    compared: int


@dataclass(frozen=True)
class PatientVolume:
    """A case on its canonical grid, of 1 mm unless asked otherwise.

    Args:
        attenuation: (I, P, L) per mm.
        labels: (I, P, L) uint8.
        grid: of both.
        centroids: VerSe number -> world mm.
        annotated: numbers whose centroid came from a file.
        orientation: evidence that front and back, head and foot are what the header says.
    """

    attenuation: torch.Tensor
    labels: np.ndarray
    grid: Grid
    centroids: dict[int, np.ndarray]
    annotated: frozenset[int]
    orientation: Orientation


def canonical_patient(
    volumes: CaseVolumes,
    bone_gain: float,
    limits: VariantRange,
    rng: np.random.Generator | None,
    spacing_mm: float = 1.0,
) -> PatientVolume:
    """A case on the canonical grid around its body, deformed at random if ``rng`` is given.

    Args:
        volumes: the case; annotated centroids of vertebrae without a mask are dropped.
        bone_gain: slope of the attenuation of bone over CT numbers relative to water's; 1 is a film at the CT's own
            energy.
        limits: of the deformation.
        rng: source of the deformation.
        spacing_mm: of the grid.
    """
    volumes = _crop_to_body(volumes)
    attenuation = hu_to_attenuation(torch.from_numpy(volumes.hu), bone_gain)
    grid = bounding_grid(volumes.affine, volumes.hu.shape, spacing_mm)
    variant = None
    if rng is not None:
        variant = Variant(grid, limits, rng)
        # A variant may be larger than its patient.
        room = np.array(grid.shape) // 8
        grid = grid.crop(tuple(-room), tuple(np.array(grid.shape) + 2 * room))
    body = resample(attenuation, volumes.affine, grid, warp=variant)
    labels = resample_labels(volumes.labels, volumes.affine, grid, variant)
    box = ndimage.find_objects((body > 0.002).numpy().astype(np.uint8))[0]
    grid = grid.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
    labels = labels[box]
    boxes = {number: box for number, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}
    present = list(boxes)
    known = {number: volumes.annotated[number] for number in present if number in volumes.annotated}
    if variant is not None and known:
        known = dict(zip(known, variant.find(np.stack(list(known.values()))), strict=True))
    # Each in its own box: the whole patient would be searched once a vertebra.
    centroids = {
        n: known[n]
        if n in known
        else body_centroid(
            n, labels[boxes[n]] == n, grid.crop(tuple(s.start for s in boxes[n]), labels[boxes[n]].shape)
        )
        for n in present
    }
    orientation = check_orientation(labels, grid, centroids, frozenset(known))
    return PatientVolume(body[box].contiguous(), labels, grid, centroids, frozenset(known), orientation)


def _crop_to_body(volumes: CaseVolumes) -> CaseVolumes:
    """Without the air around the patient, which is most of a body scan."""
    inside = (volumes.hu > -500) | (volumes.labels > 0)
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    affine = volumes.affine.copy()
    affine[:3, 3] = apply_affine(affine, np.array([s.start for s in box]))
    return replace(
        volumes,
        hu=np.ascontiguousarray(volumes.hu[box]),
        labels=np.ascontiguousarray(volumes.labels[box]),
        affine=affine,
    )


def check_orientation(
    labels: np.ndarray, grid: Grid, centroids: dict[int, np.ndarray], annotated: frozenset[int] = frozenset()
) -> Orientation:
    """Refuse a patient whose header has front and back, or head and foot, the wrong way round.

    Arch and processes pull a vertebra's centre of mass behind its body, and levels follow one another downwards.
    Judged on the vertebrae that are not cut: a centroid estimated from a mere spinous tip is in no body.

    Args:
        labels: (I, P, L) on ``grid``.
        grid: canonical.
        centroids: VerSe number -> body centroid in world mm.
        annotated: numbers whose centroid is known and not estimated, so that a cut mask does no harm.

    Raises:
        UserError: the header is wrong.
    """
    boxes = ndimage.find_objects(labels)
    voxels = {n: np.argwhere(labels[boxes[n - 1]] == n) + [s.start for s in boxes[n - 1]] for n in centroids}
    judged = _judged({n: len(voxels[n]) for n in in_order(list(centroids))}, annotated)
    index = {number: grid.to_index(centroids[number]) for number in judged}
    behind_mm = float(np.median([voxels[n][:, 1].mean() - index[n][1] for n in judged])) * grid.spacing_mm
    if behind_mm < 0:
        raise UserError(
            "spinous processes point forwards: the header's orientation is wrong; give axcodes in a manifest"
        )
    heights = [index[number][0] for number in judged]
    if heights != sorted(heights):
        raise UserError(
            "levels do not follow one another downwards: wrong labels, or the header's orientation is wrong"
        )
    return Orientation(behind_mm, True, len(judged))


def _judged(volumes: dict[int, int], annotated: frozenset[int]) -> list[int]:
    """The vertebrae that are not cut, or whose centroid is known; ``volumes`` from head to foot."""
    numbers = list(volumes)
    judged = []
    for i, number in enumerate(numbers):
        around = [volumes[n] for n in numbers[max(i - NEIGHBOURS, 0) : i + NEIGHBOURS + 1] if n != number]
        if number in annotated or not around or volumes[number] >= WHOLE_SHARE * np.median(around):
            judged.append(number)
    return judged
