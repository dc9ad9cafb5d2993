"""Films of many machines and patients from clean line integrals, batch by batch, on any device.

`apply_film_effects` draws everything anew for each sample of a batch: tube voltage, what lies over the spine, the CT's
blur, noise and streaks, hardening, scatter, quantum noise, the collimated field, and the display. The physics is that
of `scripts.geometry.film`. Nothing is read back from the device, so that a GPU never waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from scripts.data.film_overlays import Draw, OverlayOptions, Range, overlays
from scripts.geometry.film import blur_each, detect, gaussian_transfer, harden
from scripts.geometry.projector import BONE_GAIN, bone_gain_at

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class FilmEffectOptions:
    """Ranges from which each sample draws; both its films come from one patient, one CT and one machine.

    Args:
        prob: of a sample to get any effect; the others keep their line integrals.
        kilovolts: tube voltage; only where the bone's integrals are given.
        overlays: what lies over the spine.
        overlay_strength: factor on all of it.
        blur_mm: standard deviation of the CT's blur within its slices; a CT of 3.7 mm blurs by about 1.6.
        slice_blur_mm: standard deviation of the CT's blur from row to row, where slices are thick; the larger of both
            holds.
        noise: standard deviation of the CT's noise in line integrals, drawn on a logarithmic scale.
        noise_mm: its correlation length.
        streak_prob: of streaks down or across both films.
        streaks: their standard deviation in line integrals, drawn on a logarithmic scale.
        streak_mm: their length, as a correlation length.
        hardening: spread of the beam's spectrum; 0 for one energy.
        scatter_ratio: scattered over primary intensity per unit of line integral.
        scatter_mm: standard deviation of the scatter's spread.
        photons: detected per mm2 in the open field, drawn on a logarithmic scale.
        linear_prob: of films that show the absorbed share instead of line integrals.
        inverted_prob: of films that show bones dark.
        field_prob: of each film to end inside, at each edge half as often.
        field_margin: largest share of the film that an edge cuts off.
        field_tilt_deg: largest tilt of the edges, as patches are cut along the spine.
        gamma: of the display, drawn on a logarithmic scale.
        local_contrast: how much of what a wide blur takes away is added, as digital machines do.
        local_mm: standard deviation of that blur.
    """

    prob: float = 0.95
    kilovolts: Range = (60.0, 120.0)
    overlays: OverlayOptions = field(default_factory=OverlayOptions)
    overlay_strength: Range = (0.1, 1.3)
    blur_mm: Range = (0.0, 1.3)
    slice_blur_mm: Range = (0.0, 1.5)
    noise: Range = (0.001, 0.06)
    noise_mm: Range = (0.4, 1.5)
    streak_prob: float = 0.2
    streaks: Range = (0.004, 0.06)
    streak_mm: Range = (5.0, 80.0)
    hardening: Range = (0.0, 0.06)
    scatter_ratio: Range = (0.0, 0.4)
    scatter_mm: Range = (15.0, 45.0)
    photons: Range = (2e5, 1e7)
    linear_prob: float = 0.02
    inverted_prob: float = 0.02
    field_prob: float = 0.3
    field_margin: float = 0.3
    field_tilt_deg: float = 12.0
    gamma: Range = (0.6, 1.7)
    local_contrast: Range = (-0.2, 1.2)
    local_mm: Range = (6.0, 25.0)


def apply_film_effects(
    ap: torch.Tensor,
    lat: torch.Tensor,
    pixel_mm: float,
    options: FilmEffectOptions,
    generator: torch.Generator | None = None,
    *,
    regions: torch.Tensor | None = None,
    bone: Pair | None = None,
    inside: Pair | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Films as they come from the clinic.

    Args:
        ap: (B, rows, columns) float32 line integrals, bones bright, finite also off the film; rows run downwards.
        lat: (B, rows, columns) float32 line integrals of the same patients at the same rows.
        pixel_mm: size of a pixel in the patient.
        options: ranges.
        generator: on the films' device; torch's own if None. The same state gives the same films on the same device.
        regions: (B,) 0 cervical, 1 thoracic, 2 lumbar, which decides what is likely to lie over the spine; None for
            films of the whole spine.
        bone: line integrals of what each unit of bone gain adds (`scripts.geometry.projector.hu_to_attenuation`), in
            both views; None leaves the bone's contrast as `BONE_GAIN` made it.
        inside: (B, rows, columns) bool, which pixels are on the films already; None for all.

    Returns:
        AP and LAT films, (B, rows, columns) float32 without a unit, and for each (B, rows, columns) bool, which pixels
        are on the film. Off it they have the film's lowest value. `normalise_film` takes both.
    """
    draw = Draw(len(ap), ap.device, generator)
    clean: Pair = (ap, lat)
    films = clean
    if bone is not None:
        change = bone_gain_at(draw.uniform(*options.kilovolts)) - BONE_GAIN
        films = films[0] + change * bone[0], films[1] + change * bone[1]
    over = overlays((ap.shape, lat.shape), pixel_mm, options.overlays, regions, draw)
    strength = draw.uniform(*options.overlay_strength)
    films = films[0] + strength * over[0], films[1] + strength * over[1]
    films = _scanned(films, pixel_mm, options, draw)
    films = _exposed(films, pixel_mm, options, draw)
    seen = inside or (torch.ones_like(ap, dtype=torch.bool), torch.ones_like(lat, dtype=torch.bool))
    seen = tuple(mask & _field(mask, options, draw) for mask in seen)  # type: ignore[assignment]
    films = _displayed(films, seen, pixel_mm, options, draw)
    any_effect = draw.happens(options.prob) > 0
    out = [torch.where(any_effect, film, before) for film, before in zip(films, clean, strict=True)]
    given = inside or (torch.ones_like(seen[0]), torch.ones_like(seen[1]))
    masks = [torch.where(any_effect, mask, before) for mask, before in zip(seen, given, strict=True)]
    ap, lat = (_filled(film, mask) for film, mask in zip(out, masks, strict=True))
    return ap, lat, masks[0], masks[1]


def expose(
    integrals: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    pixel_mm: float,
    options: FilmEffectOptions,
    generator: torch.Generator,
    regions: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`apply_film_effects` on what the online engines make of a batch.

    Args:
        integrals: (B, view, rows, columns) each: line integrals at a bone gain of 1, what each unit of bone gain above
            1 adds to them, and bool, which pixels are on the film.
        pixel_mm: size of a pixel in the patient.
        options: ranges from which effects are drawn.
        generator: source of randomness, on the films' device.
        regions: (B,) 0 cervical, 1 thoracic, 2 lumbar; None for films of the whole spine.
    """
    total, bone, film = integrals
    plain = total + (BONE_GAIN - 1) * bone
    pairs = ((bone[:, 0], bone[:, 1]), (film[:, 0], film[:, 1]))
    return apply_film_effects(
        plain[:, 0], plain[:, 1], pixel_mm, options, generator, regions=regions, bone=pairs[0], inside=pairs[1]
    )


def coloured_noise(
    like: torch.Tensor, sigma_rows: torch.Tensor, sigma_columns: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Gaussian noise of unit variance with each sample's own correlation lengths.

    Args:
        like: (B, rows, columns), for shape and device.
        sigma_rows: (B, 1, 1) standard deviation in pixels of the kernel that white noise is smoothed with.
        sigma_columns: (B, 1, 1) the same from column to column, in pixels.
        generator: source.
    """
    white = torch.randn(like.shape, device=like.device, generator=generator)
    smooth = torch.fft.irfft2(
        torch.fft.rfft2(white) * gaussian_transfer(white, sigma_rows, sigma_columns), s=white.shape[-2:]
    )
    return smooth / smooth.square().mean((-2, -1), keepdim=True).sqrt().clamp(min=1e-6)


def _scanned(films: Pair, pixel_mm: float, options: FilmEffectOptions, draw: Draw) -> Pair:
    """What the CT does to line integrals through it: blur, noise, streaks, the clumps of what it shows."""
    within = draw.uniform(*options.blur_mm) / pixel_mm
    between = torch.maximum(draw.uniform(*options.slice_blur_mm) / pixel_mm, within)
    reach = math.ceil(3 * max(*options.blur_mm, *options.slice_blur_mm) / pixel_mm)
    grain, length = draw.logarithmic(*options.noise), draw.uniform(*options.noise_mm) / pixel_mm
    streaked = draw.happens(options.streak_prob) * draw.logarithmic(*options.streaks)
    long, downwards = draw.logarithmic(*options.streak_mm) / pixel_mm, draw.happens(0.7)
    clumps, clump = draw.uniform(*options.overlays.clumps), draw.uniform(*options.overlays.clumps_mm) / pixel_mm
    thin = draw.uniform(0.3, 1.2) / pixel_mm
    out = []
    for film in films:
        film = film + clumps * coloured_noise(film, clump, clump, draw.generator)
        film = blur_each(film, between, within, reach) if reach > 0 else film
        film = film + grain * coloured_noise(film, length, length, draw.generator)
        along, across = downwards * long + (1 - downwards) * thin, downwards * thin + (1 - downwards) * long
        out.append(film + streaked * coloured_noise(film, along, across, draw.generator))
    return out[0], out[1]


def _exposed(films: Pair, pixel_mm: float, options: FilmEffectOptions, draw: Draw) -> Pair:
    """What tube and detector do: hardening, scatter, photons; line integrals again, or the absorbed share."""
    spread, ratio = draw.uniform(*options.hardening), draw.uniform(*options.scatter_ratio)
    sigma = draw.uniform(*options.scatter_mm) / pixel_mm
    photons = draw.logarithmic(*options.photons) * pixel_mm**2
    linear = draw.happens(options.linear_prob)
    out = []
    for film in films:
        primary = torch.exp(-harden(film.clamp(min=0.0), spread))
        veil = _wide_blur(torch.special.entr(primary), sigma, [v / pixel_mm for v in options.scatter_mm])
        counted = detect(primary + ratio * veil.clamp(min=0.0), photons, generator=draw.generator)
        out.append(torch.lerp(-counted.log(), 1 - counted, linear))
    return out[0], out[1]


def _wide_blur(films: torch.Tensor, sigma_px: torch.Tensor, limits_px: list[float]) -> torch.Tensor:
    """`blur_each` of widths within limits, on pixels as coarse as the narrowest allows."""
    step = max(int(limits_px[0] / 3), 1)
    size = [max(n // step, 1) for n in films.shape[-2:]]
    coarse = F.interpolate(films[:, None], size, mode="area")[:, 0]
    smooth = blur_each(coarse, sigma_px / step, sigma_px / step, math.ceil(2.5 * limits_px[1] / step))
    return F.interpolate(smooth[:, None], films.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def _field(like: torch.Tensor, options: FilmEffectOptions, draw: Draw) -> torch.Tensor:
    """Which pixels lie in a collimated field, (B, rows, columns) bool."""
    rows, columns = like.shape[-2:]
    row = ((torch.arange(rows, device=like.device) + 0.5) / rows - 0.5)[None, :, None]
    column = ((torch.arange(columns, device=like.device) + 0.5) / columns - 0.5)[None, None, :]
    most = math.radians(options.field_tilt_deg)
    tilt = torch.tan(draw.uniform(-most, most))
    collimated = draw.happens(options.field_prob)
    inside = torch.ones_like(like)
    for position in (row + tilt * column, -row - tilt * column, column - tilt * row, tilt * row - column):
        cut = collimated * draw.happens(0.5) * draw.uniform(0.0, options.field_margin)
        # What is not cut stays whole also where the edges are tilted.
        inside = inside & ((position > cut - 0.5) | (cut <= 0))
    return inside


def _displayed(films: Pair, inside: Pair, pixel_mm: float, options: FilmEffectOptions, draw: Draw) -> Pair:
    """Gamma, local contrast and polarity, on the film's own range as 0 to 1."""
    gamma, amount = draw.logarithmic(*options.gamma), draw.uniform(*options.local_contrast)
    wide = draw.uniform(*options.local_mm) / pixel_mm
    inverted = draw.happens(options.inverted_prob)
    out = []
    for film, mask in zip(films, inside, strict=True):
        low = film.masked_fill(~mask, math.inf).amin((-2, -1), keepdim=True)
        high = film.masked_fill(~mask, -math.inf).amax((-2, -1), keepdim=True)
        share = ((film - low) / (high - low).clamp(min=1e-6)).nan_to_num(0.0).clamp(0.0, 1.0)
        shown = share.clamp(min=1e-6) ** gamma
        shown = shown + amount * (shown - _wide_blur(shown, wide, [v / pixel_mm for v in options.local_mm]))
        out.append(torch.lerp(shown, 1 - shown, inverted))
    return out[0], out[1]


def _filled(film: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """The film's lowest value wherever it is not on the film; 0 where nothing is."""
    lowest = film.masked_fill(~inside, math.inf).amin((-2, -1), keepdim=True)
    return torch.where(inside, film, lowest.masked_fill(lowest.isinf(), 0.0))
