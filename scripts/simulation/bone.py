"""CT numbers of bone, from the distance to its surface.

Measured on sub-verse014 L1-L3 and on a 1.5 mm CT of an L3 (``docs/simulation.md``): the mean rises from tissue to
380-580 HU within the first two millimetres and falls to a core of 50-240 HU by four; at one depth the standard
deviation is 300 HU near the surface, where thick and thin cortex lie side by side, and 100-150 HU in the core. Around
bodies the shell is thinner than in arch and processes: its height above the core is 0.4-0.6 of theirs, at side walls
and endplates alike (sub-verse014, the TotalSegmentator example).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Half the thickness up to which bone is thin; twice that, and more, is a body's.
THIN_MM = 5.0


@dataclass(frozen=True)
class BoneOptions:
    """How bone is painted.

    Args:
        measured: with the measured profile; else evenly with ``even_hu``.
        even_hu: CT number of all bone where ``measured`` is false.
        core_hu: mean and standard deviation, between spines, of the core.
        shell_hu: smallest and largest height of the shell above the core.
        shell_mm: smallest and largest depth of the densest layer.
        fall_mm: how fast the shell falls off, smallest and largest.
        shell_spread: standard deviation of the shell's height along the surface, as a share.
        endplate_gain: how much denser a shell is that faces up or down, endplates above all, than one that faces
            sideways; smallest and largest.
        body_share: height of the shell around thick bone, bodies above all, as a share of that of thin bone; smallest
            and largest.
        texture_hu: standard deviation of the core's grain, smallest and largest.
        blur_mm: half the width over which the scanner blurs the surface, smallest and largest.
    """

    measured: bool = True
    even_hu: float = 500.0
    core_hu: tuple[float, float] = (140.0, 55.0)
    shell_hu: tuple[float, float] = (250.0, 620.0)
    shell_mm: tuple[float, float] = (1.0, 1.7)
    fall_mm: tuple[float, float] = (1.1, 1.8)
    shell_spread: float = 0.45
    endplate_gain: tuple[float, float] = (0.8, 1.5)
    body_share: tuple[float, float] = (0.35, 0.75)
    texture_hu: tuple[float, float] = (30.0, 90.0)
    blur_mm: tuple[float, float] = (0.6, 1.2)


def paint_bone(
    hu: np.ndarray, distance: np.ndarray, spacing_mm: float, options: BoneOptions, rng: np.random.Generator
) -> None:
    """Write bone into a CT, in place.

    Args:
        hu: (I, P, L) float32 CT numbers of what surrounds it.
        distance: (I, P, L) mm to the bone's surface, negative inside.
        spacing_mm: voxel size.
        options: how it is painted.
        rng: source of densities and texture.
    """
    blur_mm = rng.uniform(*options.blur_mm)
    where = distance < blur_mm
    box = ndimage.find_objects(where.astype(np.uint8))
    if not box:
        return
    # Only the box around the bone, and there only the voxels in or at it.
    near, part = where[box[0]], hu[box[0]]
    depth = -distance[box[0]][near]
    if options.measured:
        core = float(np.clip(rng.normal(*options.core_hu), 30, 300))
        shell = rng.uniform(*options.shell_hu)
        along = smooth_noise(near.shape, 4.0 / spacing_mm, rng)[near]
        upright = np.abs(_slope(distance[box[0]], spacing_mm))[near].clip(0, 1)
        gain = 1 + (rng.uniform(*options.endplate_gain) - 1) * upright**2
        thick = np.clip((_thickness(distance[box[0]], spacing_mm)[near] - THIN_MM) / THIN_MM, 0, 1)
        gain *= 1 + (rng.uniform(*options.body_share) - 1) * thick
        height = shell * gain * np.exp(options.shell_spread * along - options.shell_spread**2 / 2)
        from_peak = (depth - rng.uniform(*options.shell_mm)) / rng.uniform(*options.fall_mm)
        grain = rng.uniform(*options.texture_hu) * smooth_noise(near.shape, 0.8 / spacing_mm, rng)[near]
        patches = 0.3 * core * smooth_noise(near.shape, 6.0 / spacing_mm, rng)[near]
        bone = core + patches + grain + height * np.exp(-(np.maximum(from_peak, 0) ** 2))
    else:
        bone = np.full(depth.shape, options.even_hu, np.float32)
    share = np.clip((depth + blur_mm) / (2 * blur_mm), 0, 1)
    part[near] = part[near] * (1 - share) + bone * share


def _thickness(distance: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Depth of the deepest bone within some 7 mm, in mm: half the thickness of what a point belongs to."""
    step = max(int(THIN_MM / 2 / spacing_mm), 1)
    coarse = ndimage.maximum_filter(-distance[::step, ::step, ::step], size=round(14 / (step * spacing_mm)) | 1)
    for axis, count in enumerate(distance.shape):
        coarse = np.repeat(coarse, step, axis).take(np.arange(count), axis, mode="clip")
    return coarse


def _slope(distance: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Change of the distance along the first axis; none in a single layer."""
    if len(distance) < 2:
        return np.zeros_like(distance)
    return np.gradient(distance, spacing_mm, axis=0)


def smooth_noise(shape: tuple[int, ...], sigma_voxels: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of unit variance with a correlation length, float32.

    Long correlations are drawn on a coarse grid and interpolated, which costs nothing.

    Args:
        shape: (I, P, L).
        sigma_voxels: standard deviation of the smoothing kernel.
        rng: source.
    """
    step = max(int(sigma_voxels / 1.5), 1)
    # Drawn over several lengths even where less is asked for: else its mean would not be its expectation.
    coarse = tuple(max(-(-n // step) + 3, int(10 * sigma_voxels / step)) for n in shape)
    noise = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma_voxels / step, mode="wrap")
    noise /= max(float(noise.std()), 1e-6)
    if step > 1:
        noise = _enlarge(noise, step)
    return noise[tuple(slice(0, n) for n in shape)]


def _enlarge(array: np.ndarray, step: int) -> np.ndarray:
    """Linear interpolation by an integer factor, one axis after the other."""
    for axis in range(array.ndim):
        count = array.shape[axis]
        position = np.arange((count - 1) * step + 1) / step
        low = np.minimum(position.astype(int), count - 2)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
        array = np.take(array, low, axis) * (1 - weight) + np.take(array, low + 1, axis) * weight
    return array
