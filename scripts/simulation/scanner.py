"""What a CT scanner makes of a body: blur by slices of 0.7 to 3.7 mm, noise, streaks, and bone's contrast.

The contrast stands for the tube voltage of the film that is made from the CT: `scripts.geometry.projector` multiplies
bone beyond 100 HU by one gain (1.6, a film at 78 kV), and 60 to 120 kV are 0.69 to 1.25 times that
(`scripts.geometry.projector.bone_gain_at`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.simulation.bone import smooth_noise

FWHM = 2.355  # of a Gaussian, in standard deviations
BONE_FROM_HU = 100.0


@dataclass(frozen=True)
class ScannerOptions:
    """How a CT is made; each pair is the smallest and the largest that is drawn.

    Args:
        slice_mm: thickness of the slices (full width at half maximum), drawn on a logarithmic scale.
        plane_mm: full width at half maximum of the blur within the slices.
        streak_share: of patients with streaks.
        streak_hu: their standard deviation.
        bone_contrast: factor on CT numbers beyond 100 HU.
    """

    slice_mm: tuple[float, float] = (0.7, 3.7)
    plane_mm: tuple[float, float] = (0.8, 2.2)
    streak_share: float = 0.25
    streak_hu: tuple[float, float] = (2.0, 15.0)
    bone_contrast: tuple[float, float] = (0.69, 1.25)


# The body as it was painted.
NO_SCANNER = ScannerOptions((0.0, 0.0), (0.0, 0.0), 0.0, (0.0, 0.0), (1.0, 1.0))


def scan(hu: np.ndarray, spacing_mm: float, noise_hu: float, options: ScannerOptions, rng: np.random.Generator) -> None:
    """Blur, noise, streaks and bone contrast, in place.

    Args:
        hu: (I, P, L) float32, slices along the first axis.
        spacing_mm: voxel size.
        noise_hu: standard deviation of the noise; 0 for none.
        options: ranges.
        rng: source.
    """
    contrast = rng.uniform(*options.bone_contrast)
    if contrast != 1:
        hu += (contrast - 1) * np.maximum(hu - BONE_FROM_HU, 0)
    slices = float(np.exp(rng.uniform(*np.log(options.slice_mm)))) if options.slice_mm[0] > 0 else 0.0
    plane = rng.uniform(*options.plane_mm)
    sigma = np.array([slices, plane, plane]) / FWHM / spacing_mm
    if sigma.max() > 0:
        ndimage.gaussian_filter(hu, sigma, output=hu, truncate=3.0)
    if noise_hu > 0:
        hu += noise_hu * smooth_noise(hu.shape, max(0.6, plane / FWHM) / spacing_mm, rng)
    if rng.random() < options.streak_share:
        _add_streaks(hu, spacing_mm, slices, rng.uniform(*options.streak_hu), rng)


def _add_streaks(hu: np.ndarray, spacing_mm: float, slices_mm: float, height: float, rng: np.random.Generator) -> None:
    """Half of them from side to side within slices, as behind shoulders; else rings, which stay from slice to slice.

    Both add up along rays or rows, where noise cancels: a film shows them as lines.
    """
    rows, depth, width = hu.shape
    if rng.random() < 0.5:
        # One slice's streaks go on over its thickness.
        lines = smooth_noise((rows, depth, 1), max(0.7, slices_mm / FWHM) / spacing_mm, rng)
        hu += height * lines
        return
    columns = [smooth_noise((rows, n, 1), 0.7 / spacing_mm, rng)[..., 0] for n in (depth, width)]
    columns = [ndimage.gaussian_filter1d(c, 25.0 / spacing_mm, axis=0) for c in columns]
    across, along = (c / max(float(c.std()), 1e-6) for c in columns)
    hu += height * (across[:, :, None] + along[:, None, :]) / np.sqrt(2)
