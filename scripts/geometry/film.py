"""From line integrals to films: what tube, patient, detector and display add to an ideal radiograph.

Every function takes line integrals of attenuation (no unit, bones bright) or intensities (1 = the open field), both
(..., rows, columns), on any device, and is a plain function of them. `make_film` applies them in the order in which
they happen; with the default `FilmOptions` it changes nothing. `harden` and `detect` also take a tensor in
the place of a number, (B, 1, 1) for films (B, rows, columns): a value for each film of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F

from scripts.errors import UserError


@dataclass(frozen=True)
class FilmOptions:
    """What happens to a film; each default leaves it alone.

    Args:
        hardening: variance of the relative attenuation over the beam's spectrum; equal parts of 40 to 80 keV give 0.02
            in water and 0.06 in cortical bone.
        scatter_ratio: scattered over primary intensity per unit of line integral; 0.2 behind a trunk of 5 makes as much
            scattered as primary.
        scatter_mm: standard deviation of the scatter's spread.
        photons: detected per pixel in the open field; None for no quantum noise.
        readout: standard deviation of the detector's own noise, in photons.
        field: (top, left, bottom, right) edges of the collimated field as shares of the image; None for all of it.
        shutter_bright: what is shown beyond the field: the film's highest value (unexposed), else its lowest.
        log_display: show line integrals (as digital systems do), else the absorbed share of the intensity.
        window: (low, high) shown as 0 and 1, the rest clipped; None leaves the values as they are.
        bone_bright: as in MONOCHROME2; False inverts as MONOCHROME1 does.
    """

    hardening: float = 0.0
    scatter_ratio: float = 0.0
    scatter_mm: float = 30.0
    photons: float | None = None
    readout: float = 0.0
    field: tuple[float, float, float, float] | None = None
    shutter_bright: bool = False
    log_display: bool = True
    window: tuple[float, float] | None = None
    bone_bright: bool = True

    def __post_init__(self) -> None:
        if min(self.hardening, self.scatter_ratio, self.readout) < 0 or self.scatter_mm <= 0:
            raise UserError("film: hardening, scatter_ratio and readout are not negative, scatter_mm is positive")
        if self.photons is not None and self.photons <= 0:
            raise UserError(f"film: {self.photons} photons make no film")
        if self.readout > 0 and self.photons is None:
            raise UserError("film: readout noise is counted in photons, so give their number too")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise UserError(f"film: window {self.window} is not (low, high)")
        if self.field is not None:
            top, left, bottom, right = self.field
            if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                raise UserError(f"film: field {self.field} is not (top, left, bottom, right) in shares of the image")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FilmOptions:
        """Options from plain JSON values.

        Raises:
            UserError: a name is unknown, or a value is impossible.
        """
        try:
            plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            return cls(**plain)
        except (TypeError, ValueError) as error:
            names = ", ".join(f.name for f in fields(cls))
            raise UserError(f"film: {error}; it has {names}") from error


def make_film(
    line_integrals: torch.Tensor,
    options: FilmOptions,
    pixel_mm: float = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The film of a clean radiograph.

    Args:
        line_integrals: (..., rows, columns) float.
        options: what happens to it.
        pixel_mm: pixel size in the patient.
        generator: source of the noise, on the film's device; torch's own if None.

    Returns:
        (..., rows, columns) of the same dtype; line integrals again unless ``options`` asks for another display.
    """
    film = harden(line_integrals, options.hardening)
    inside = field_mask(film, options.field) if options.field is not None else None
    needs_intensity = options.scatter_ratio > 0 or options.photons is not None or not options.log_display
    if needs_intensity:
        intensity = torch.exp(-film)
        if inside is not None:
            intensity = intensity * inside  # what is shielded scatters nothing
        intensity = add_scatter(intensity, options.scatter_ratio, options.scatter_mm / pixel_mm)
        intensity = detect(intensity, options.photons, options.readout, generator)
        film = (
            -torch.log(intensity.clamp(min=torch.finfo(intensity.dtype).tiny)) if options.log_display else 1 - intensity
        )
    if inside is not None:
        film = shut(film, inside, options.shutter_bright)
    if options.window is not None:
        film = apply_window(film, *options.window)
    return film if options.bone_bright else invert(film, options.window is not None)


def harden(line_integrals: torch.Tensor, spread: float | torch.Tensor) -> torch.Tensor:
    """What a beam of many energies shows of a monoenergetic line integral: soft energies are absorbed first.

    If the attenuation, relative to its mean over the spectrum, is gamma-distributed with variance ``spread``, the
    transmitted share is (1 + spread p)^(-1 / spread) exactly. The curve is monotone, has slope 1 at 0, and bends down.

    Args:
        line_integrals: p, any shape, not negative.
        spread: variance of the relative attenuation over the spectrum; 0 for one energy.
    """
    if isinstance(spread, torch.Tensor):
        spread = spread.clamp(min=1e-6)
        return torch.log1p(spread * line_integrals) / spread
    return torch.log1p(spread * line_integrals) / spread if spread > 0 else line_integrals


def add_scatter(intensity: torch.Tensor, ratio: float, sigma_px: float) -> torch.Tensor:
    """Primary plus a veil: what the patient scatters, spread out.

    As much is scattered as gets through, times how much there was to scatter at: I p = -I log I. Beside the patient
    there is nothing to scatter at, and behind thick parts the veil outshines the primary.

    Args:
        intensity: (..., rows, columns) primary I = exp(-p), in [0, 1].
        ratio: scattered over primary intensity per unit of line integral p, where the film is uniform.
        sigma_px: standard deviation of the veil's spread.
    """
    return intensity + ratio * blur(torch.special.entr(intensity), sigma_px) if ratio > 0 else intensity


def detect(
    intensity: torch.Tensor,
    photons: float | torch.Tensor | None,
    readout: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Count photons: Poisson noise, the detector's own Gaussian noise, and at least half a count everywhere.

    Args:
        intensity: (..., rows, columns), 1 in the open field.
        photons: expected per pixel in the open field; None for no noise.
        readout: standard deviation in photons.
        generator: source of the noise.
    """
    if photons is None:
        return intensity
    counts = torch.poisson(intensity * photons, generator=generator)
    if readout > 0:
        noise = torch.randn(counts.shape, generator=generator, dtype=counts.dtype, device=counts.device)
        counts = counts + readout * noise
    return counts.clamp(min=0.5) / photons


def blur(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Gaussian low-pass of (..., rows, columns); beyond its edges the image goes on as it ends."""
    radius = max(math.ceil(3 * sigma_px), 1)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma_px**2))
    kernel = kernel / kernel.sum()
    out = image.reshape(-1, 1, *image.shape[-2:])
    out = F.conv2d(F.pad(out, (0, 0, radius, radius), mode="replicate"), kernel[None, None, :, None])
    out = F.conv2d(F.pad(out, (radius, radius, 0, 0), mode="replicate"), kernel[None, None, None, :])
    return out.reshape(image.shape)


def blur_each(
    image: torch.Tensor, sigma_rows: torch.Tensor, sigma_columns: torch.Tensor, reach_px: int
) -> torch.Tensor:
    """Gaussian low-pass of each film of a batch by its own width; beyond its edges a film goes on as it ends.

    By FFT: the cost does not depend on the widths, and they never leave the device.

    Args:
        image: (B, rows, columns) float32.
        sigma_rows: (B, 1, 1) standard deviation in pixels from row to row; 0 leaves that axis alone.
        sigma_columns: (B, 1, 1) standard deviation in pixels from column to column; 0 leaves that axis alone.
        reach_px: three times the largest standard deviation, at least; wider ones wrap around.
    """
    rows, columns = image.shape[-2:]
    below, right = -(rows + 2 * reach_px) % 16, -(columns + 2 * reach_px) % 16
    padded = F.pad(image[:, None], (reach_px, reach_px + right, reach_px, reach_px + below), mode="replicate")[:, 0]
    spectrum = torch.fft.rfft2(padded) * gaussian_transfer(padded, sigma_rows, sigma_columns)
    smooth = torch.fft.irfft2(spectrum, s=padded.shape[-2:])
    return smooth[:, reach_px : reach_px + rows, reach_px : reach_px + columns]


def gaussian_transfer(image: torch.Tensor, sigma_rows: torch.Tensor, sigma_columns: torch.Tensor) -> torch.Tensor:
    """What a Gaussian blur multiplies the `torch.fft.rfft2` of images (B, rows, columns) by; sigmas in pixels."""
    rows, columns = image.shape[-2:]
    row = torch.fft.fftfreq(rows, device=image.device, dtype=image.dtype)[:, None]
    column = torch.fft.rfftfreq(columns, device=image.device, dtype=image.dtype)
    return torch.exp(-2 * math.pi**2 * ((sigma_rows * row) ** 2 + (sigma_columns * column) ** 2))


def field_mask(image: torch.Tensor, field: tuple[float, float, float, float]) -> torch.Tensor:
    """(rows, columns) bool: which pixels' centres lie in (top, left, bottom, right), shares of the image."""
    rows, columns = image.shape[-2:]
    row = (torch.arange(rows, device=image.device) + 0.5) / rows
    column = (torch.arange(columns, device=image.device) + 0.5) / columns
    top, left, bottom, right = field
    return ((row >= top) & (row < bottom))[:, None] & ((column >= left) & (column < right))


def shut(film: torch.Tensor, inside: torch.Tensor, bright: bool) -> torch.Tensor:
    """A film with everything outside a field at the highest or the lowest value that it has inside."""
    hidden = film.masked_fill(~inside, -math.inf if bright else math.inf)
    beyond = hidden.amax((-2, -1), keepdim=True) if bright else hidden.amin((-2, -1), keepdim=True)
    return torch.where(inside, film, beyond)


def apply_window(film: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """``low`` to 0, ``high`` to 1, clipped."""
    return ((film - low) / (high - low)).clamp(0, 1)


def invert(film: torch.Tensor, windowed: bool = False) -> torch.Tensor:
    """The other polarity: about 1/2 for a windowed film, else about the middle of each image's own range."""
    if windowed:
        return 1 - film
    return film.amax((-2, -1), keepdim=True) + film.amin((-2, -1), keepdim=True) - film
