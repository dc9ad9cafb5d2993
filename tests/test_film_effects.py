"""Films drawn batch by batch: against the film's physics one by one, and against numbers that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.data.film_effects import FilmEffectOptions, apply_film_effects, coloured_noise
from scripts.data.film_overlays import Draw, OverlayOptions, overlays
from scripts.data.normalisation import normalise_film
from scripts.geometry.film import blur, blur_each, harden
from scripts.geometry.projector import BONE_GAIN, WATER_PER_MM, bone_gain_at

NO_OVERLAYS = OverlayOptions(
    gas=(0, 0, 0), bands=(0, 0, 0), edges=(0, 0, 0), calcification=(0, 0, 0), clumps=(0.0, 0.0)
)
NOTHING = FilmEffectOptions(
    prob=1.0,
    overlays=NO_OVERLAYS,
    blur_mm=(0.0, 0.0),
    slice_blur_mm=(0.0, 0.0),
    noise=(1e-9, 1e-9),
    streak_prob=0.0,
    hardening=(0.0, 0.0),
    scatter_ratio=(0.0, 0.0),
    photons=(1e12, 1e12),
    linear_prob=0.0,
    inverted_prob=0.0,
    field_prob=0.0,
    gamma=(1.0, 1.0),
    local_contrast=(0.0, 0.0),
)


def films(batch: int = 3, size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        blur(5 + 2 * torch.randn(batch, size, size, generator=source), 3.0) for _ in range(2)
    )


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_effect_leaves_the_patch_that_the_network_sees() -> None:
    ap, lat = films()
    out = apply_film_effects(ap, lat, 1.0, NOTHING, seeded())
    for clean, film, inside in zip((ap, lat), out[:2], out[2:], strict=True):
        assert inside.all()
        assert torch.allclose(normalise_film(film, inside), normalise_film(clean), atol=2e-3)


def test_the_same_seed_gives_the_same_films() -> None:
    ap, lat = films()
    options = FilmEffectOptions()
    one, two = (apply_film_effects(ap, lat, 2.0, options, seeded()) for _ in range(2))
    other = apply_film_effects(ap, lat, 2.0, options, seeded(8))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.allclose(one[0], other[0], atol=1e-3)
    assert all(torch.isfinite(film).all() for film in one[:2])


def test_a_field_that_ends_inside_hides_and_marks_what_is_beyond() -> None:
    ap, lat = films(batch=40)
    options = replace(NOTHING, field_prob=1.0, field_margin=0.3, field_tilt_deg=0.0)
    shown, _, inside, _ = apply_film_effects(ap, lat, 1.0, options, seeded())
    assert 0.3 < inside.float().mean() < 0.95
    assert inside[:, 18:42, 18:42].all()  # a margin of 0.3 of 60 pixels
    for film, mask in zip(shown, inside, strict=True):
        assert mask.any(0).sum() * mask.any(1).sum() == mask.sum()  # a rectangle
        if not mask.all():
            assert (film[~mask] == film[mask].min()).all()
    given = torch.zeros_like(inside)
    given[:, :30] = True
    again = apply_film_effects(ap, lat, 1.0, options, seeded(), inside=(given, given))
    assert torch.equal(again[2], inside & given)


def test_each_sample_is_blurred_by_its_own_width() -> None:
    image = films(batch=3)[0]
    widths = torch.tensor([0.0, 1.5, 4.0]).reshape(3, 1, 1)
    out = blur_each(image, widths, widths, 15)
    assert torch.allclose(out[0], image[0], atol=1e-4)
    # `blur` stops its kernel at three standard deviations.
    for k, width in ((1, 1.5), (2, 4.0)):
        assert (out[k] - blur(image[k], width)).abs().max() < 0.02 * image.std()
    columns_only = blur_each(image, torch.zeros(3, 1, 1), widths, 15)
    assert torch.allclose(columns_only.mean((1, 2)), image.mean((1, 2)), atol=0.05)
    assert columns_only[2].diff(dim=1).abs().mean() < columns_only[2].diff(dim=0).abs().mean()


def test_hardening_takes_a_spread_for_each_film() -> None:
    image = films(batch=2)[0]
    out = harden(image, torch.tensor([0.0, 0.05]).reshape(2, 1, 1))
    assert torch.allclose(out[0], image[0], rtol=1e-4) and torch.allclose(out[1], harden(image[1], 0.05))


def test_noise_has_unit_variance_and_the_asked_for_length() -> None:
    like = torch.zeros(2, 200, 200)
    noise = coloured_noise(
        like, torch.tensor([0.5, 3.0])[:, None, None], torch.tensor([3.0, 3.0])[:, None, None], seeded()
    )
    assert torch.allclose(noise.std((1, 2)), torch.ones(2), atol=0.02)
    # The correlation of Gaussian-smoothed noise at a lag is exp(-lag^2 / (4 sigma^2)).
    lag = (noise[1, 3:] * noise[1, :-3]).mean()
    assert float(lag) == pytest.approx(np.exp(-9 / 36), abs=0.06)


def test_the_gain_of_bone_is_that_of_the_tube_voltage() -> None:
    # Linear attenuation over water's, cortical bone and water, NIST XCOM, at 50 and 60 keV against 70 keV.
    at = {50: 0.4242 * 1.92 / 0.2269, 60: 0.3148 * 1.92 / 0.2059, 70: 0.26 * 1.92 / 0.1929}
    for energy in (50, 60):
        kilovolts = torch.tensor(60 + (energy - 44) / 0.35)
        assert float(bone_gain_at(kilovolts)) == pytest.approx((at[energy] - 1) / (at[70] - 1), abs=0.03)


def test_contrast_of_bone_follows_the_voltage() -> None:
    ap, lat = torch.full((64, 40, 40), 5.0), torch.full((64, 40, 40), 5.0)
    bone = torch.zeros_like(ap)
    bone[:, 10:30, 10:30] = 0.5
    options = replace(NOTHING, kilovolts=(60.0, 120.0))
    base = ap + BONE_GAIN * bone
    # A step that keeps its height, to measure the display's scale by.
    base[:, :5] -= 2.0
    film = apply_film_effects(base, lat, 1.0, options, seeded(), bone=(bone, bone))[0]
    gain = 2.0 * (film[:, 20, 20] - film[:, 20, 35]) / (film[:, 20, 35] - film[:, 2, 35]) / 0.5
    assert gain.min() == pytest.approx(1.1, abs=0.1) and gain.max() == pytest.approx(2.0, abs=0.1)


def test_gas_is_dark_bands_are_bright_and_regions_have_their_own() -> None:
    shape = torch.Size((32, 120, 120))
    regions = torch.tensor([0] * 16 + [2] * 16)
    draw = Draw(32, torch.device("cpu"), seeded())
    gas = replace(NO_OVERLAYS, gas=(0.0, 0.0, 1.0))
    ap, _ = overlays((shape, shape), 1.0, gas, regions, draw)
    assert (ap[:16] == 0).all()
    assert (ap[16:].amin((1, 2)) < -0.2).float().mean() > 0.6 and ap[16:].max() < 0.3
    bands, _ = overlays((shape, shape), 1.0, replace(NO_OVERLAYS, bands=(0.0, 0.0, 1.0)), regions, draw)
    assert (bands[:16] == 0).all() and bands.min() >= -1e-6 and bands.max() > 0.1


def test_vessels_and_hearts_are_as_thick_as_tubes_and_ellipsoids() -> None:
    shape = torch.Size((64, 120, 120))
    draw = Draw(64, torch.device("cpu"), seeded())
    tube = replace(NO_OVERLAYS, vessel_count=1, vessels=(1, 1, 1), vessel_mm=(10.0, 10.0), vessel_density=(0.5, 0.5))
    ap, lat = overlays((shape, shape), 1.0, tube, None, draw)
    assert ap.amax() == pytest.approx(0.5 * 20 * WATER_PER_MM, rel=0.02) and not torch.equal(ap, lat)
    # Across it, where it runs down the film: half of pi r^2, times the density.
    across = torch.stack([film[60] for film in ap if film[60, [0, -1]].amax() == 0 and film[60].amax() > 0.2])
    assert len(across) > 8
    assert across.sum(1).median().item() == pytest.approx(0.5 * np.pi * 100 * WATER_PER_MM, rel=0.05)
    ball = replace(NO_OVERLAYS, heart_count=1, hearts=(1, 1, 1), heart_mm=(20.0, 20.0), heart_step=(1.0, 1.0))
    hearts, _ = overlays((shape, shape), 1.0, ball, None, draw)
    rim = torch.ones(120, 120, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    whole = hearts[hearts[:, rim].amax(1) == 0]
    assert len(whole) > 20 and whole.amax() <= 1
    # The volume of half an ellipsoid of height 1.
    assert torch.allclose(whole.sum((1, 2)), torch.tensor(2 / 3 * np.pi * 400).float(), rtol=0.01)
    # Training for the generator has neither.
    assert OverlayOptions().vessel_count == OverlayOptions().heart_count == 0


def test_what_is_off_the_film_takes_no_part_in_normalising() -> None:
    patch = films(batch=2, size=120)[0]
    inside = torch.zeros(2, 120, 120, dtype=torch.bool)
    inside[0, 20:90, 10:] = True
    inside[1] = True
    normalised = normalise_film(patch, inside)
    # Three pixels beside where the film ends do not count either; where the patch ends, the film goes on.
    low, high = (float(np.percentile(patch[0, 23:87, 13:].numpy(), share)) for share in (0.5, 99.5))
    expected = np.clip((patch[0, 20:90, 10:].numpy() - low) / (high - low), 0, 1)
    assert np.allclose(normalised[0, 20:90, 10:], expected, atol=1e-5)
    assert (normalised[0][~inside[0]] == 0).all()
    assert torch.equal(normalised[1], normalise_film(patch[1]))
    assert torch.equal(normalised, normalise_film(patch.masked_fill(~inside, torch.nan)))
    assert (normalise_film(torch.full((4, 4), torch.nan)) == 0).all()


def test_nothing_is_asked_of_the_device() -> None:
    """The meta device fails where a value is asked for, and where a tensor comes from another device."""
    ap, lat = (torch.empty(2, 60, 60, device="meta") for _ in range(2))
    regions = torch.empty(2, dtype=torch.long, device="meta")
    out = apply_film_effects(ap, lat, 2.0, FilmEffectOptions(), regions=regions, bone=(ap, lat))
    assert [(t.device.type, t.dtype) for t in out] == [("meta", d) for d in 2 * [torch.float32] + 2 * [torch.bool]]
    assert normalise_film(out[0], out[2]).device.type == "meta"
