"""What is painted around and into simulated bones, and what the scanner makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.geometry.frames import Grid
from scripts.simulation.aorta import AortaOptions, paint_aorta
from scripts.simulation.belly import BellyOptions, paint_belly
from scripts.simulation.body import build_body, grid_axes
from scripts.simulation.bone import BoneOptions, paint_bone
from scripts.simulation.chest import ChestOptions, paint_chest
from scripts.simulation.contrast import ContrastOptions, paint_contrast
from scripts.simulation.painting import Ingredients, paint_ct
from scripts.simulation.posture import Posture
from scripts.simulation.scanner import NO_SCANNER, ScannerOptions, scan
from scripts.simulation.torso import TorsoOptions, paint_torso


@pytest.fixture(scope="module")
def posture() -> Posture:
    """T9 to L5, straight."""
    levels = tuple(range(16, 25))
    heights = 32.0 * np.arange(len(levels))
    centroids = np.stack([heights, 0 * heights, 0 * heights], 1)
    return Posture(levels, centroids, np.zeros(len(levels)), 0.0)


@pytest.fixture(scope="module")
def grid() -> Grid:
    """160 mm to each side, 200 in front, 120 behind, from 20 above the first centroid on."""
    return Grid((160.0, 200.0, 20.0), (75, 80, 80), 4.0)


def one_of(value: float) -> tuple[float, float]:
    return value, value


def test_a_scanner_blurs_by_the_thickness_of_its_slices() -> None:
    hu = np.zeros((64, 32, 32), np.float32)
    hu[32, 16, 16] = 1000.0
    scan(hu, 1.0, 0.0, replace(NO_SCANNER, slice_mm=one_of(4.0), plane_mm=one_of(2.0)), np.random.default_rng(0))
    assert hu.sum() == pytest.approx(1000, rel=1e-3)
    for axis, width in ((0, 4.0), (1, 2.0), (2, 2.0)):
        profile = hu.sum(tuple(a for a in range(3) if a != axis))
        place = np.arange(len(profile)) - np.argmax(profile)
        spread = np.sqrt((profile * place**2).sum() / profile.sum())
        assert 2.355 * spread == pytest.approx(width, rel=0.06)


def test_tube_voltage_changes_bone_and_nothing_else() -> None:
    values = np.array([-1000, 0, 100, 500, 1100], np.float32)
    hu = np.tile(values, (4, 4, 1))
    scan(hu, 1.0, 0.0, replace(NO_SCANNER, bone_contrast=one_of(0.75)), np.random.default_rng(0))
    assert hu[0, 0].tolist() == [-1000, 0, 100, 400, 850]


def test_noise_and_streaks_are_as_strong_as_asked() -> None:
    for seed in range(4):
        hu = np.zeros((60, 60, 60), np.float32)
        scan(hu, 1.0, 30.0, NO_SCANNER, np.random.default_rng(seed))
        assert hu.std() == pytest.approx(30, rel=0.05)
        hu[:] = 0
        streaks = ScannerOptions(one_of(0.7), one_of(0.0), 1.0, one_of(10.0), one_of(1.0))
        scan(hu, 1.0, 0.0, streaks, np.random.default_rng(seed))
        assert hu.std() == pytest.approx(10, rel=0.35)
        # Along one axis at least they do not cancel.
        assert max(hu.mean(axis).std() for axis in range(3)) > 5


def test_bodies_have_a_thinner_shell_than_processes() -> None:
    """A ball of 28 mm and a rod of 6 mm, painted as one bone."""
    index = np.stack(np.meshgrid(*[np.arange(60)] * 3, indexing="ij"), axis=-1) - 30.0
    ball = np.linalg.norm(index, axis=-1) - 14
    rod = np.linalg.norm(index[..., [0, 2]] - [0, 25], axis=-1) - 3
    distance = np.minimum(ball, rod).astype(np.float32)
    options = BoneOptions(body_share=one_of(0.4), endplate_gain=one_of(1.0), texture_hu=one_of(0.0))
    heights = []
    for seed in range(5):
        hu = np.zeros(distance.shape, np.float32)
        paint_bone(hu, distance, 1.0, options, np.random.default_rng(seed))
        core = hu[ball < -8].mean()
        heights.append([hu[(d < -1) & (d > -2)].mean() - core for d in (ball, rod)])
    body, thin = np.mean(heights, 0)
    assert 0.25 < body / thin < 0.65


def test_gas_organs_and_plaques_are_where_they_are_asked_for(posture: Posture, grid: Grid) -> None:
    rng = np.random.default_rng(3)
    body = build_body(posture, grid, rng)
    none = TorsoOptions(gas_loops=(0, 0), belly=BellyOptions(0.0, psoas_share=0.0))
    plain = paint_torso(body, grid, np.random.default_rng(5), none)
    gassy = paint_torso(body, grid, np.random.default_rng(5), replace(none, gas_loops=(12, 12)))
    belly = (body.rank > 19.6) & (body.rank < 24)
    inside = plain[belly] > -200
    assert (gassy[belly] < -700)[inside].mean() > 0.01 > (plain[belly] < -700)[inside].mean()
    hu = np.full(grid.shape, -100.0, np.float32)
    paint_belly(hu, body, grid, BellyOptions(0.0, psoas_share=1.0, organ_hu=one_of(55.0)), np.random.default_rng(0))
    aorta = AortaOptions(calcified_share=1.0, plaque_share=one_of(0.3))
    paint_aorta(hu, body, grid, aorta, np.random.default_rng(0))
    chalk = np.argwhere(hu > 250)
    assert len(chalk) > 20
    spine = np.argmin(np.abs(body.rank[:, None] - np.arange(16, 25)), axis=0)
    assert (hu[spine[-2]] == 55).sum() > 20
    _, p, left = grid_axes(grid)
    rank, off = body.rank[chalk[:, 0]], np.stack([p[chalk[:, 1]], left[chalk[:, 2]]], 1) - body.spine[chalk[:, 0]]
    # Beside the left half of the thoracic bodies, in front of the lumbar ones, and never inside a body.
    assert (off[rank < 17, 1] > 0).all() and (off[rank > 20, 0] < 0).all()
    assert np.linalg.norm(off, axis=1).min() > 14


def test_contrast_agent_is_in_vessels_and_heart_and_spares_bone(grid: Grid) -> None:
    levels = tuple(range(8, 20))
    centroids = np.stack([24.0 * np.arange(len(levels)), *np.zeros((2, len(levels)))], 1)
    body = build_body(Posture(levels, centroids, np.zeros(len(levels)), 0.0), grid, np.random.default_rng(3))
    hu = np.full(grid.shape, 40.0, np.float32)
    _, p, left = grid_axes(grid)
    bone = np.abs(left) < 4
    hu[:, :, bone] = 700.0
    options = ContrastOptions(1.0, one_of(300.0), one_of(900.0), veins_share=1.0, heart_share=1.0)
    paint_contrast(hu, body, grid, AortaOptions(calcified_share=0.0), options, np.random.default_rng(0))
    assert (hu[:, :, bone] == 700).all() and set(np.unique(hu)) == {40.0, 300.0, 500.0, 700.0, 900.0}
    for value, side in ((300.0, 1), (900.0, -1)):
        at = np.argwhere(hu == value)
        rank, off = body.rank[at[:, 0]], left[at[:, 2]] - body.spine[at[:, 0], 1]
        # The aorta on the left of the middle of the chest, the vena cava on the right; nothing inside a body.
        inner = (rank > 12.2) & (rank < 13.2) & (value == 900.0) | (rank > 15) & (rank < 18) & (value == 300.0)
        assert inner.sum() > 50 and (side * off[inner] > 0).mean() > 0.95
        assert np.hypot(off, p[at[:, 1]] - body.spine[at[:, 0], 0]).min() > 14
    plain = np.full(grid.shape, 40.0, np.float32)
    paint_contrast(
        plain, body, grid, AortaOptions(calcified_share=0.0), replace(options, veins_share=0.0, heart_share=0.0),
        np.random.default_rng(0),
    )  # fmt: skip
    assert set(np.unique(plain)) == {40.0, 300.0}


def test_the_right_lung_reaches_behind_the_heart(posture: Posture, grid: Grid) -> None:
    body = build_body(posture, grid, np.random.default_rng(3))
    _, p, left = grid_axes(grid)
    row = int(np.abs(body.rank - 15.5).argmin())
    depth = p - body.spine[row, 0]
    recess = np.ix_((depth < -27) & (depth > -38), (left > -40) & (left < -28))
    seen = {}
    for share in (0.0, 1.0):
        lungs = ((one_of(45.0),) * 2,) * 2, share, (one_of(20.0), one_of(0.0))
        options = ChestOptions(*lungs, hilum_share=0.0, breath_levels=one_of(0.0))
        hu = np.full(grid.shape, 50.0, np.float32)
        paint_chest(hu, body, grid, options, np.random.default_rng(1))
        seen[share] = np.mean(hu[row][recess] < -400)
    assert seen[0.0] < 0.3 and seen[1.0] > 0.9


def test_discs_lie_between_bodies_and_every_ingredient_can_be_left_out(posture: Posture, grid: Grid) -> None:
    rows = np.stack([grid.to_index(np.array([0.0, 0.0, -i]))[0] for i in posture.centroids[:, 0]])
    index = np.arange(grid.shape[0])[:, None, None]
    high = np.abs(index - rows[:, None, None, None]).min(0) * grid.spacing_mm - 12.0
    distance = np.broadcast_to(high, grid.shape).astype(np.float32)
    bare = Ingredients(
        organs=False, skeleton=False, donor_share=0.0, hardware_share=0.0, noise_hu=(0.0, 0.0), scanner=NO_SCANNER
    )
    between = int((rows[4] + rows[5]) / 2)
    middle = tuple(int(v) for v in grid.to_index(np.zeros(3))[1:])
    values = {}
    for disc in (None, one_of(110.0)):
        rng = np.random.default_rng(1)
        values[disc] = paint_ct(posture, distance, None, grid, replace(bare, disc_hu=disc), rng).hu[(between, *middle)]
    assert abs(values[one_of(110.0)] - 110) <= 4 and abs(values[None] - 110) > 8
