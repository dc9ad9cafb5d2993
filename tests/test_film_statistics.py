"""Numbers of patches whose contrast, gradient and detail are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks import film_statistics as film_statistics_module
from scripts.benchmarks.film_statistics import film_statistics, main, region_of
from scripts.data.film_effects import FilmEffectOptions, apply_film_effects
from scripts.errors import UserError
from tests.conftest import ROOT


def patch_and_shadow() -> tuple[np.ndarray, np.ndarray]:
    """A square of 0.5 on 0.25, between a band of 0 and one of 1."""
    shadow: np.ndarray = np.zeros((120, 120), bool)
    shadow[40:80, 40:80] = True
    patch = np.where(shadow, 0.5, 0.25)
    patch[:20], patch[100:] = 0.0, 1.0
    return patch, shadow


def test_contrast_of_a_known_step_in_any_unit() -> None:
    patch, shadow = patch_and_shadow()
    found = film_statistics(patch, shadow)
    assert found is not None and found.contrast == pytest.approx(0.25, abs=1e-4)
    scaled = film_statistics(1000 * patch - 7, shadow)
    assert scaled is not None and scaled.contrast == pytest.approx(found.contrast, abs=1e-4)


def test_gradient_and_detail_of_a_ramp_and_of_noise() -> None:
    _, shadow = patch_and_shadow()
    ramp = np.tile(np.linspace(0, 1, 120), (120, 1))
    found = film_statistics(ramp, shadow)
    assert found is not None
    # The percentiles cut the range to 99 %.
    assert found.gradient == pytest.approx(1 / 119 / 0.99, rel=0.02) and found.detail < 1e-3
    noise = np.random.default_rng(0).normal(size=(120, 120))
    noisy = film_statistics(ramp + 0.02 * noise, shadow)
    # White noise less its Gaussian mean, of kernel g: variance 1 - 2 g(0) + sum of g squared.
    left = np.sqrt(1 - 2 / (2 * np.pi * 1.5**2) + 1 / (4 * np.pi * 1.5**2))
    assert noisy is not None and noisy.detail == pytest.approx(0.02 * left, rel=0.1)


def test_off_film_pixels_do_not_count() -> None:
    patch, shadow = patch_and_shadow()
    known = film_statistics(patch, shadow)
    cut = patch.copy()
    cut[:, :15] = np.nan
    found = film_statistics(cut, shadow)
    assert known is not None and found is not None and found.contrast == pytest.approx(known.contrast, abs=1e-3)
    cut[:, 30:] = np.nan
    assert film_statistics(cut, shadow) is None


def test_regions_and_bad_input(tmp_path: Path) -> None:
    assert [region_of(level) for level in ("C7", "T1", "T12", "T13", "L1", "L6")] == [
        "cervical", "thoracic", "thoracic", "thoracic", "lumbar", "lumbar",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"dataset\.json"):
        main((str(tmp_path / "none"),), tmp_path / "out")


def test_effects_are_those_of_a_training(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[FilmEffectOptions] = []

    def noted(ap: Any, lat: Any, pixel_mm: float, options: FilmEffectOptions, *rest: Any, **more: Any) -> Any:
        used.append(options)
        return apply_film_effects(ap, lat, pixel_mm, options, *rest, **more)

    monkeypatch.setattr(film_statistics_module, "apply_film_effects", noted)
    main((f"some={dataset}",), tmp_path, effects=("some",))
    config = json.loads((ROOT / "configs" / "online.json").read_text())["film_effects"]
    assert used and {tuple(o.noise) for o in used} == {tuple(config["noise"])} != {FilmEffectOptions().noise}
    assert "some + effects" in (tmp_path / "table.md").read_text()


def test_the_document_has_the_numbers_of_the_config() -> None:
    config = json.loads((ROOT / "configs" / "online.json").read_text())["film_effects"]
    page = (ROOT / "docs" / "augmentation.md").read_text()
    for name, of in (("noise", "| {}-{} |"), ("streaks", "of samples, {}-{} |"), ("blur_mm", "deviation {:.0f}-{} mm")):
        assert of.format(*config[name]) in page, name
    for name, of in (("streak_prob", "| {:.0%}"), ("field_prob", "| {:.0%}"), ("prob", "where {:.0%}")):
        assert of.format(config[name]).replace("%", " %") in page, name
    assert "up to {} at lengths".format(config["overlays"]["clumps"][1]) in page
