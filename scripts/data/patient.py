"""A case brought into the canonical frame, as it is or deformed at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from scripts.data.centroids import estimate_body_centroid
from scripts.data.variants import Variant, VariantRange
from scripts.data.volumes import CaseVolumes
from scripts.errors import UserError
from scripts.geometry.frames import Grid, apply_affine, bounding_grid, resample, resample_labels
from scripts.geometry.projector import hu_to_attenuation
from scripts.levels import in_order


@dataclass(frozen=True)
class PatientVolume:
    """A case on its canonical 1 mm grid.

    Args:
        attenuation: (I, P, L) per mm.
        labels: (I, P, L) uint8.
        grid: of both.
        centroids: VerSe number -> world mm.
        annotated: numbers whose centroid came from a file.
    """

    attenuation: torch.Tensor
    labels: np.ndarray
    grid: Grid
    centroids: dict[int, np.ndarray]
    annotated: frozenset[int]


def canonical_patient(
    volumes: CaseVolumes, bone_gain: float, limits: VariantRange, rng: np.random.Generator | None
) -> PatientVolume:
    """A case on the canonical grid around its body, deformed at random if ``rng`` is given.

    Args:
        volumes: the case; annotated centroids of vertebrae without a mask are dropped.
        bone_gain: see `scripts.geometry.projector.hu_to_attenuation`.
        limits: of the deformation.
        rng: source of the deformation.
    """
    volumes = _crop_to_body(volumes)
    attenuation = hu_to_attenuation(torch.from_numpy(volumes.hu), bone_gain)
    grid = bounding_grid(volumes.affine, volumes.hu.shape)
    variant = None
    if rng is not None:
        variant = Variant(grid, limits, rng)
        # A variant may be larger than its patient.
        room = np.array(grid.shape) // 8
        grid = grid.crop(tuple(-room), tuple(np.array(grid.shape) + 2 * room))
    body = resample(attenuation, volumes.affine, grid, warp=variant)
    labels = resample_labels(volumes.labels, volumes.affine, grid, variant)
    # A painted block of tissue has no skin: show no more of it than surrounds the spine.
    shown = (labels > 0) if volumes.painted else (body > 0.002).numpy()
    margin = 40 if volumes.painted else 0
    box = ndimage.find_objects(shown.astype(np.uint8))[0]
    box = tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, grid.shape, strict=True))
    grid = grid.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
    labels = labels[box]
    present = [int(number) for number in np.unique(labels) if number]
    known = {number: volumes.annotated[number] for number in present if number in volumes.annotated}
    if variant is not None and known:
        known = dict(zip(known, variant.find(np.stack(list(known.values()))), strict=True))
    centroids = {n: known[n] if n in known else estimate_body_centroid(labels == n, grid) for n in present}
    check_orientation(labels, grid, centroids)
    return PatientVolume(body[box].contiguous(), labels, grid, centroids, frozenset(known))


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


def check_orientation(labels: np.ndarray, grid: Grid, centroids: dict[int, np.ndarray]) -> None:
    """Refuse a patient whose header has front and back, or head and foot, the wrong way round.

    Arch and processes pull a vertebra's centre of mass behind its body, and levels follow one another downwards. Left
    and right cannot be told from the bones.

    Args:
        labels: (I, P, L) on ``grid``.
        grid: canonical.
        centroids: VerSe number -> body centroid in world mm.

    Raises:
        UserError: the header is wrong.
    """
    numbers = in_order(list(centroids))
    index = {number: grid.to_index(centroids[number]) for number in numbers}
    boxes = ndimage.find_objects(labels)
    behind = []
    for number in numbers:
        box = boxes[number - 1]
        behind.append(np.argwhere(labels[box] == number)[:, 1].mean() + box[1].start - index[number][1])
    if np.median(behind) < 0:
        raise UserError(
            "spinous processes point forwards: the header's orientation is wrong; give axcodes in a manifest"
        )
    heights = [index[number][0] for number in numbers]
    if heights != sorted(heights):
        raise UserError(
            "levels do not follow one another downwards: wrong labels, or the header's orientation is wrong"
        )
