"""A CT around a spine of which only the shape is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from scripts.anatomy.centroids import body_centroid
from scripts.anatomy.shapes import signed_distance
from scripts.geometry.frames import IPL_AXES, Grid, bounding_grid, resample_labels
from scripts.levels import in_order
from scripts.simulation.body import build_body, grid_axes, level_ranks
from scripts.simulation.bone import BoneOptions, paint_bone
from scripts.simulation.contrast import ContrastOptions, paint_contrast
from scripts.simulation.donor import Donor, add_donor, as_large_as, donor_names, draw_donor, draw_size
from scripts.simulation.hardware import paint_screws
from scripts.simulation.posture import Posture
from scripts.simulation.scanner import ScannerOptions, scan
from scripts.simulation.skeleton import overlying_bones
from scripts.simulation.torso import AIR_HU, FAT_HU, MUSCLE_HU, TorsoOptions, paint_torso

# What a painted CT shows around a given labelmap: above, in front and to the right; below, behind and to the left.
ROOM_MM = np.array([[40, 185, 190], [60, 95, 190]])
# Of soft tissue around a sacrum, at least: bodies of donors may end before it.
SACRUM_COVER_MM = 25.0


@dataclass(frozen=True)
class Ingredients:
    """What is painted around and into the bones; each can be left out to measure what it brings.

    Args:
        body: outline, fat and muscle; else bones stand in a block of water.
        organs: lungs, heart, airway and bowel gas.
        skeleton: ribs, sternum, shoulders, pelvis, skull and the sacrum.
        donor_share: of patients whose body is a real CT's where that has it.
        hardware_share: of patients with pedicle screws and rods.
        noise_hu: standard deviation of the scanner's noise, smallest and largest.
        donors: real bodies to use, all that come with the program if empty.
        bone: how bone is painted.
        rib_share: height of the shell of ribs, pelvis and shoulders as a share of a vertebra's, smallest and largest.
        disc_hu: CT number of discs, smallest and largest; None for what is around them.
        torso: what the body is made of.
        contrast: agent in vessels and heart.
        scanner: how its CT is made.
    """

    body: bool = True
    organs: bool = True
    skeleton: bool = True
    donor_share: float = 0.5
    hardware_share: float = 0.05
    noise_hu: tuple[float, float] = (5.0, 60.0)
    donors: tuple[str, ...] = ()
    bone: BoneOptions = field(default_factory=BoneOptions)
    rib_share: tuple[float, float] = (0.4, 1.0)
    disc_hu: tuple[float, float] | None = (60.0, 120.0)
    torso: TorsoOptions = field(default_factory=TorsoOptions)
    contrast: ContrastOptions = field(default_factory=ContrastOptions)
    scanner: ScannerOptions = field(default_factory=ScannerOptions)


@dataclass(frozen=True)
class PaintedCT:
    """CT numbers and what was drawn.

    Args:
        hu: (I, P, L) int16.
        donor: the real body in it, if any.
        screws: VerSe numbers of the levels with screws.
    """

    hu: np.ndarray
    donor: Donor | None
    screws: tuple[int, ...]


def paint_ct(
    posture: Posture,
    distance: np.ndarray,
    sacrum_distance: np.ndarray | None,
    grid: Grid,
    use: Ingredients,
    rng: np.random.Generator,
) -> PaintedCT:
    """A CT of a spine.

    Args:
        posture: where its vertebrae are.
        distance: (I, P, L) mm to the vertebrae's surfaces, negative inside.
        sacrum_distance: (I, P, L) mm to the sacrum's surface, negative inside; None without a sacrum.
        grid: canonical, of both.
        use: what is painted.
        rng: source of everything random.
    """
    body = build_body(posture, grid, rng)
    names = list(use.donors) or donor_names()
    donor = None
    if use.body and names and rng.random() < use.donor_share:
        donor = draw_donor(names, posture, rng)
    if donor is not None:
        size = draw_size(donor, posture, rng)
        body = as_large_as(body, donor, size)
    hu = paint_torso(body, grid, rng, use.torso if use.organs else None) if use.body else _block_of_water(grid)
    if use.skeleton:
        thinner = rng.uniform(*use.rib_share)
        low, high = use.bone.shell_hu
        ribs = replace(use.bone, shell_hu=(thinner * low, thinner * high))
        paint_bone(hu, overlying_bones(posture, body, grid, rng), grid.spacing_mm, ribs, rng)
    if donor is not None:
        add_donor(hu, donor, size, body, grid, rng)
    # A stream of its own: patients without it are the same whatever its share.
    own = rng.spawn(1)[0]
    if use.body and own.random() < use.contrast.share:
        paint_contrast(hu, body, grid, use.torso.aorta, use.contrast, own)
    if use.skeleton and sacrum_distance is not None:
        if use.body:
            _cover_sacrum(hu, sacrum_distance, grid)
        paint_bone(hu, sacrum_distance, grid.spacing_mm, use.bone, rng)
    if use.body:
        # Discs, ligaments and muscles lie against the vertebrae, whatever was drawn there before.
        close = (distance < 3.0) & (hu > -300)
        hu[close] = np.maximum(hu[close], 20.0)
        if use.disc_hu is not None:
            _paint_discs(hu, posture, distance, grid, rng.uniform(*use.disc_hu))
    paint_bone(hu, distance, grid.spacing_mm, use.bone, rng)
    noise = float(np.exp(rng.uniform(*np.log(use.noise_hu)))) if use.noise_hu[0] > 0 else 0.0
    scan(hu, grid.spacing_mm, noise, use.scanner, rng)
    # Metal lies so far beyond a scanner's range that blur leaves it at the range's end.
    screws = paint_screws(hu, posture, grid, rng) if rng.random() < use.hardware_share else ()
    # Steps of 4 HU are far below the noise and halve the file.
    stored = (4 * np.rint(np.clip(hu, -1024, 3071) / 4)).astype(np.int16)
    stored[hu < AIR_HU + 40] = AIR_HU
    return PaintedCT(stored, donor, screws)


def _cover_sacrum(hu: np.ndarray, distance: np.ndarray, grid: Grid) -> None:
    """Fat instead of air around a sacrum that would stand out of the skin."""
    bone = distance < 0
    found = ndimage.find_objects(bone.astype(np.uint8))
    if not found or found[0] is None:
        return
    room = int(np.ceil(SACRUM_COVER_MM / grid.spacing_mm))
    box = tuple(slice(max(part.start - room, 0), part.stop + room) for part in found[0])
    near = ndimage.distance_transform_edt(~bone[box], sampling=grid.spacing_mm) < SACRUM_COVER_MM
    # Air behind the body, and no gas in it.
    air, _ = ndimage.label(hu[box] < -300)
    behind = np.setdiff1d(air[:, -1], [0])
    hu[box][near & np.isin(air, behind)] = FAT_HU


def _paint_discs(hu: np.ndarray, posture: Posture, distance: np.ndarray, grid: Grid, value: float) -> None:
    """Between neighbouring bodies, where their bone is no further away than a disc is high."""
    rows, p, left = grid_axes(grid)
    heights, ranks = posture.centroids[:, 0], level_ranks(posture)
    middle_p, middle_l = (np.asarray(np.interp(rows, heights, posture.centroids[:, axis])) for axis in (1, 2))
    # Half the depth of a body, C3 to L5; it is a third wider than deep (Panjabi 1991, 1992).
    half = np.asarray(np.interp(np.interp(rows, heights, ranks), [3, 8, 19, 24], [8.0, 9.0, 15.0, 17.0]))
    inside = np.flatnonzero((rows > heights[0]) & (rows < heights[-1]))
    for row in inside:
        away = ((p - middle_p[row]) / half[row])[:, None] ** 2 + ((left - middle_l[row]) / (1.35 * half[row])) ** 2
        disc = (away < 1) & (distance[row] < 7.0)
        hu[row][disc] = value


def paint_around_labels(
    labels: np.ndarray, affine: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CT for a labelmap that has none.

    Args:
        labels: (X, Y, Z) VerSe numbers.
        affine: 4x4 index -> RAS mm.
        rng: source of the body around it.

    Returns:
        labels and CT numbers on a canonical grid of 1 mm with room for a body, and its affine.
    """
    grid = bounding_grid(affine, labels.shape)
    whole = resample_labels(labels, affine, grid)
    box = ndimage.find_objects((whole > 0).astype(np.uint8))[0]
    before, after = ROOM_MM
    start = tuple(int(s.start - room) for s, room in zip(box, before, strict=True))
    size = tuple(int(s.stop - s.start + a + b) for s, a, b in zip(box, before, after, strict=True))
    grid = grid.crop((start[0], start[1], start[2]), (size[0], size[1], size[2]))
    out = np.pad(whole[box], ROOM_MM.T)
    numbers = in_order([int(n) for n in np.unique(out) if n])
    centroids = np.array([body_centroid(n, out == n, grid) for n in numbers]) @ IPL_AXES.T
    posture = Posture(tuple(numbers), centroids, np.zeros(len(numbers)), 0.0)
    distance = signed_distance(out > 0, grid.spacing_mm)
    return out, grid.affine, paint_ct(posture, distance, None, grid, Ingredients(hardware_share=0.0), rng).hu


def _block_of_water(grid: Grid) -> np.ndarray:
    """With air around it, as every CT has."""
    hu: np.ndarray = np.full(grid.shape, AIR_HU, np.float32)
    hu[2:-2, 4:-4, 4:-4] = MUSCLE_HU
    return hu
