"""What a vertebra's own patches say of its level counts beside what the films say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.films.film import NO_FILM, Films
from scripts.films.pair import read_films
from scripts.levels import LEVEL_NUMBERS, TABLE_SIZE
from scripts.localization.anchors import Anchor
from scripts.localization.annotate import annotate_films
from scripts.localization.found import Localization
from scripts.localization.levels import LEVELS, NAMES, S1_INDEX
from scripts.localization.localizer import Localizer
from scripts.localization.patch_levels import with_patch_levels
from scripts.reconstruction.predictor import Predictor
from scripts.spine.patch_levels import PatchLevels
from tests.conftest import SAMPLE


@pytest.fixture(scope="module")
def films() -> Films:
    return read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(device="cpu")


def named(found: Localization) -> list[str]:
    return [NAMES[v.level] for v in found.vertebrae]


def log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / probabilities.sum(-1, keepdims=True))


def test_both_opinions_multiply_and_the_sacrum_is_left_to_the_films() -> None:
    rng = np.random.default_rng(0)
    films, patches = rng.random((3, LEVELS)), rng.random((3, LEVELS))
    films /= films.sum(1, keepdims=True)
    said = log(patches)
    said[1] = np.nan
    mixed = np.exp(with_patch_levels(np.log(films), said, 0.5, 1.0))
    np.testing.assert_allclose(mixed.sum(1), 1)
    np.testing.assert_allclose(mixed[:, S1_INDEX], films[:, S1_INDEX])
    np.testing.assert_allclose(mixed[1], films[1])
    odds = mixed[0, 3] / mixed[0, 7]
    assert odds == pytest.approx((films[0, 3] / films[0, 7]) ** 0.5 * np.exp(said[0, 3] - said[0, 7]))


def test_patches_rule_nothing_out() -> None:
    films = log(np.ones((1, LEVELS)))
    said = np.full((1, LEVELS), -np.inf)
    said[0, :2] = 0.0, -1000.0
    mixed = with_patch_levels(films, np.nan_to_num(said, neginf=-1e9), 1.0, 1.0)
    assert mixed[0, 1] - mixed[0, 0] == pytest.approx(np.log(1e-4))


class Opinion:
    """A network that is certain that each vertebra, head to foot, is the next level of a list."""

    takes_level = True

    def __init__(self, levels: list[str]) -> None:
        self.levels = levels

    def read_levels(self, inputs: list[torch.Tensor]) -> np.ndarray:
        assert all(item.shape == (4, 120, 120) for item in inputs)
        said = np.full((len(inputs), TABLE_SIZE), -9.0)
        for row, name in zip(said, self.levels, strict=False):
            row[LEVEL_NUMBERS[name]] = 0.0
        return said


def test_the_spine_is_named_as_its_patches_say(films: Films, localizer: Localizer) -> None:
    """Where they contradict the films with certainty, one film pair after the other."""
    alone = annotate_films(films, localizer)[1]
    usual = [name for name in NAMES if name not in ("T13", "L6", "S1")]
    lower = [usual[usual.index(NAMES[v.level]) + 1] for v in alone.vertebrae if v.seen_in == "both"]
    sure = replace(localizer.path, films=0.0, patches=3.0)
    other = Localizer(device="cpu", path=sure)
    moved = annotate_films(films, other, read_patches=PatchLevels(Opinion(lower)))[1]  # type: ignore[arg-type]
    assert [n for n in named(moved) if n in lower] == lower
    assert [(v.ap, v.lat) for v in moved.vertebrae if v.seen_in == "both"] == [
        (v.ap, v.lat) for v in alone.vertebrae if v.seen_in == "both"
    ]


def test_a_vertebra_that_one_view_lacks_has_no_patches(films: Films, localizer: Localizer) -> None:
    found = annotate_films(films, localizer)[1]
    assert found.matched is not None
    matched = found.matched
    pairing = replace(matched.pairing, lat=np.where(np.arange(len(matched.pairing.lat)) == 2, -1, matched.pairing.lat))
    lacking = replace(found, matched=replace(matched, pairing=pairing))
    said = PatchLevels(Opinion(list(LEVEL_NUMBERS)))(films, lacking)  # type: ignore[arg-type]
    assert said is not None and said.shape == (len(pairing.ap), LEVELS)
    unread = np.isnan(said[:, :S1_INDEX]).any(1)
    assert unread.tolist() == [bool(i < 0 or j < 0) for i, j in zip(pairing.ap, pairing.lat, strict=True)]


def test_one_film_alone_or_a_network_without_levels_says_nothing(films: Films, localizer: Localizer) -> None:
    single = replace(films, lat=NO_FILM)
    found = annotate_films(single, localizer)[1]
    assert PatchLevels(Opinion([]))(single, found) is None  # type: ignore[arg-type]
    plain = Opinion([])
    plain.takes_level = False
    assert PatchLevels(plain)(films, annotate_films(films, localizer)[1]) is None  # type: ignore[arg-type]


def test_the_shipped_network_reads_a_chest_that_it_never_saw(
    films: Films, localizer: Localizer, predictor: Predictor
) -> None:
    """LIDC-IDRI-0001: its own levels are likelier than those one higher or lower."""
    found = annotate_films(films, localizer)[1]
    said = PatchLevels(predictor)(films, found)
    assert said is not None and found.matched is not None
    rows = [(said[i], level) for i, level in enumerate(found.reading.levels) if np.isfinite(said[i, 0])]
    likelihood = {by: np.mean([row[level + by] for row, level in rows if NAMES[level][0] == "T" and level < 17])
                  for by in (-1, 0, 1)}  # fmt: skip
    assert likelihood[0] > max(likelihood[-1], likelihood[1]) + 0.7


@pytest.mark.parametrize("anchors", [(), (Anchor(LEVEL_NUMBERS["T8"], "lat", (0.0, 0.0)),)])
def test_films_that_do_not_know_how_they_lie_are_read_too(
    films: Films, localizer: Localizer, predictor: Predictor, anchors: tuple[Anchor, ...]
) -> None:
    loose = replace(films, registered=False)
    truth = annotate_films(films, localizer)[0].lat.by_level()[LEVEL_NUMBERS["T8"]]
    anchors = tuple(replace(anchor, pixel=truth.centroid) for anchor in anchors)
    alone = annotate_films(loose, localizer, anchors=anchors)[1]
    both = annotate_films(loose, localizer, anchors=anchors, read_patches=PatchLevels(predictor))[1]
    assert named(both)[3:-3] == named(alone)[3:-3]
    assert both.reading.margin != alone.reading.margin
