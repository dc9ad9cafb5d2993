"""Film effects against hand computations that share no code with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import gamma

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.geometry.film import FilmOptions, add_scatter, blur, detect, harden, invert, make_film
from scripts.io.nifti import read_film
from tests.conftest import SimulatedCase


@pytest.fixture
def clean() -> torch.Tensor:
    """Two films of 0 to 6 with a bright block."""
    film = torch.linspace(0, 4, 40, dtype=torch.float64).repeat(2, 30, 1)
    film[:, 10:20, 15:25] += 2
    return film


def test_default_changes_nothing(clean: torch.Tensor) -> None:
    assert make_film(clean, FilmOptions()) is clean


def test_hardening_is_the_mean_over_the_spectrum() -> None:
    """Against a numerical integral over 2000 energies."""
    for spread in (0.02, 0.2):
        shares = (np.arange(2000) + 0.5) / 2000
        relative = gamma.ppf(shares, 1 / spread, scale=spread)
        for p in (0.1, 2.0, 6.0):
            expected = -math.log(np.exp(-relative * p).mean())
            assert harden(torch.tensor(p, dtype=torch.float64), spread).item() == pytest.approx(expected, rel=2e-3)


def test_scatter_is_a_veil_of_the_low_pass(clean: torch.Tensor) -> None:
    primary = torch.exp(-clean)
    assert np.allclose(
        blur(primary, 4.0)[1].numpy(), gaussian_filter(primary[1].numpy(), 4.0, mode="nearest", truncate=3), atol=1e-12
    )
    # Thrice as thick, thrice the share of scatter; nothing in the open field.
    for p in (0.0, 2.0, 6.0):
        open_field = torch.full((8, 8), math.exp(-p))
        assert torch.allclose(add_scatter(open_field, 0.2, 5.0), math.exp(-p) * (1 + 0.2 * p) * torch.ones(8, 8))
    film = make_film(clean, FilmOptions(scatter_ratio=0.3, scatter_mm=2.0), pixel_mm=0.5)[0].numpy()
    p, intensity = clean[0].numpy(), np.exp(-clean[0].numpy())
    expected = intensity + 0.3 * gaussian_filter(p * intensity, 4.0, mode="nearest", truncate=3)
    assert np.allclose(film, -np.log(expected))
    assert film.max() - film.min() < float(clean.max() - clean.min())


def test_noise_has_the_variance_of_counting() -> None:
    generator = torch.Generator().manual_seed(0)
    intensity = torch.full((300, 300), 0.2)
    counts = 1000 * detect(intensity, 1000.0, 12.0, generator)
    assert counts.mean().item() == pytest.approx(200, abs=0.5)
    assert counts.var().item() == pytest.approx(200 + 144, rel=0.03)
    # A line integral's noise is 1 / sqrt(counts) and is larger behind bone.
    film = make_film(torch.full((300, 300), 3.0), FilmOptions(photons=1e4), generator=generator)
    assert film.std().item() == pytest.approx(1 / math.sqrt(1e4 * math.exp(-3)), rel=0.03)
    dark = make_film(torch.full((20, 20), 30.0), FilmOptions(photons=1e4), generator=generator)
    assert torch.allclose(dark, torch.tensor(math.log(2e4)))  # nothing arrives: half a count, not infinity


def test_same_seed_same_film(clean: torch.Tensor) -> None:
    films = [make_film(clean, FilmOptions(photons=500), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(films[0], films[1]) and not torch.equal(films[0], films[2])


def test_display(clean: torch.Tensor) -> None:
    linear = make_film(clean, FilmOptions(log_display=False))
    assert torch.allclose(linear, 1 - torch.exp(-clean))
    window = make_film(clean, FilmOptions(window=(1.0, 3.0)))
    assert torch.allclose(window, torch.from_numpy(np.interp(clean.numpy(), [1, 3], [0, 1])))
    negative = make_film(clean, FilmOptions(window=(1.0, 3.0), bone_bright=False))
    assert torch.allclose(negative, 1 - window)
    assert torch.allclose(invert(clean), 6 - clean - (6 - clean.max()))


@pytest.mark.parametrize("bright", [False, True])
def test_collimation(clean: torch.Tensor, bright: bool) -> None:
    film = make_film(clean, FilmOptions(field=(0.2, 0.25, 0.8, 0.75), shutter_bright=bright))
    inside = np.zeros((30, 40), bool)
    inside[6:24, 10:30] = True
    assert torch.equal(film[:, inside], clean[:, inside])
    edge = clean[0][inside].max() if bright else clean[0][inside].min()
    assert (film[:, ~inside] == edge).all()
    # What the collimator shields does not scatter into the field.
    options = {"scatter_ratio": 1.0, "scatter_mm": 3.0}
    veiled = make_film(clean, FilmOptions(**options, field=(0.2, 0.25, 0.8, 0.75)))
    assert (veiled[:, 7, 20] > make_film(clean, FilmOptions(**options))[:, 7, 20]).all()


def test_everything_is_made_on_the_film_s_device(clean: torch.Tensor) -> None:
    """The meta device stands for one that is not here: mixing it with the CPU, or asking for a value, fails."""
    options = FilmOptions(0.1, 1.0, photons=1e4, field=(0.1, 0.1, 0.9, 0.9), window=(0, 1), bone_bright=False)
    film = make_film(clean.to("meta"), options)
    assert film.device.type == "meta" and film.shape == clean.shape


@pytest.mark.parametrize(
    "wrong",
    [
        {"hardening": -1},
        {"photons": 0},
        {"readout": 3.0},
        {"nonsense": 1},
        {"window": (2, 1)},
        {"field": (0.5, 0, 0.4, 1)},
    ],
)
def test_impossible_films_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="film"):
        FilmOptions.from_dict(wrong)


def test_prepare_stores_such_films(tmp_path: Path, case: SimulatedCase, capsys: pytest.CaptureFixture[str]) -> None:
    """Scatter only, so that the stored film can be computed from the clean one; and the clean one stays as it was."""
    common = ["prepare", f"--source={case.ct.parent}", "--test_share=0", "--validation_share=0"]
    assert main([*common, f"--output={tmp_path / 'clean'}"]) == 0
    assert main([*common, f"--output={tmp_path / 'film'}", '--film={"scatter_ratio": 0.2, "scatter_mm": 10}']) == 0
    clean, film = (read_film(next((tmp_path / n).rglob("ap.nii.gz")), frontal=True)[0] for n in ("clean", "film"))
    intensity = np.exp(-clean)
    veiled = -np.log(intensity + 0.2 * gaussian_filter(clean * intensity, 10.0, mode="nearest", truncate=3))
    assert np.abs(film - veiled.clip(min=0)).max() < 1e-3 < np.abs(film - clean).max()
    options = [json.loads((tmp_path / n / "dataset.json").read_text())["options"] for n in ("clean", "film")]
    assert "film" not in options[0] and options[1]["film"]["scatter_mm"] == 10
    assert main([*common, f"--output={tmp_path / 'no'}", '--film={"scater": 1}']) == 1
    assert "scater" in capsys.readouterr().err and not (tmp_path / "no").exists()
