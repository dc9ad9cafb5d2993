"""Patches and cubes: they belong together, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.data.normalisation import normalise_film
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.cropping import (
    CUBE_SIZE,
    centroid_mask,
    clipped_fraction,
    crop_cube,
    crop_patch,
    network_input,
    place_cube,
    smooth_for_pitch,
)
from scripts.geometry.frames import POSTERIOR, Grid
from scripts.geometry.projector import project_pair

GRID = Grid((80.0, 75.0, 90.0), (180, 150, 160))
CENTROID = GRID.to_world(np.array([88.3, 61.2, 77.9]))


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(GRID.shape, dtype=np.float32))


def test_patch_is_the_projection_of_the_cube(volume: torch.Tensor) -> None:
    """With parallel beams, of a volume that lies inside its cube, to rounding."""
    cube = place_cube(CENTROID, GRID)
    only = np.zeros(GRID.shape, np.float32)
    box = tuple(slice(s, s + CUBE_SIZE) for s in cube.start)
    only[box] = volume.numpy()[box]
    geometry = geometry_of_grid(GRID)
    films = project_pair(torch.from_numpy(only), GRID.affine, geometry)
    inside = crop_cube(only, cube)
    assert np.abs(crop_patch(films[0], geometry.ap, cube).numpy() - inside.sum(1)).max() < 2e-3
    assert np.abs(crop_patch(films[1], geometry.lat, cube).numpy() - inside.sum(2)).max() < 2e-3


def test_cube_lies_behind_the_centroid_on_the_lattice() -> None:
    cube = place_cube(CENTROID, GRID)
    assert np.abs(cube.centre_mm - (CENTROID + 20 * POSTERIOR)).max() <= 0.5
    assert np.allclose(GRID.to_index(cube.grid.to_world([0, 0, 0])), cube.start)


def test_crop_pads_and_counts_what_it_clips() -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[0:10, 50:60, 70:80] = True
    centroid = GRID.to_world(np.array([66.5, 55.0, 75.0]))
    cube = place_cube(centroid, GRID)  # begins 7 rows down: 7 of the mask's 10 rows are outside
    assert cube.start[0] == 7
    assert clipped_fraction(mask, cube) == pytest.approx(0.7)
    above = place_cube(GRID.to_world(np.array([5.0, 55.0, 75.0])), GRID)
    cut = crop_cube(mask, above)
    assert cut.shape == (CUBE_SIZE,) * 3 and cut.sum() == mask.sum()
    assert crop_cube(mask.astype(np.float32), above, fill=-1)[0, 0, 0] == -1


@pytest.mark.parametrize("beam", list(Beam))
def test_centroid_mask_peaks_at_the_centroid(beam: Beam) -> None:
    geometry = geometry_of_grid(GRID, beam, (900.0, 900.0), (1200.0, 1200.0))
    cube = place_cube(CENTROID, GRID)
    ap, lat = geometry.project(CENTROID)
    expected = cube.grid.to_index(CENTROID)
    rows, columns = np.indices((CUBE_SIZE, CUBE_SIZE))
    for pixel, view, column in ((ap[0], geometry.ap, 2), (lat[0], geometry.lat, 1)):
        mask = centroid_mask(pixel, view, cube)
        found = np.array([(rows * mask).sum(), (columns * mask).sum()]) / mask.sum()
        # A fan shows the centroid slightly shifted, as it lies off the patch's plane.
        assert np.abs(found - expected[[0, column]]).max() < (0.01 if beam is Beam.PARALLEL else 1.5)
        assert mask.max() <= 1.0 and mask.max() > 0.98


def test_magnified_patch_still_shows_1_mm_pixels() -> None:
    """A ball of 30 mm at the vertebra measures 30 px in the patch, whatever the beam."""
    centre = place_cube(CENTROID, GRID).centre_mm
    index = GRID.to_index(centre)
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(GRID.shape), index, strict=True)))
    ball = torch.from_numpy(np.clip(15.5 - distance, 0, 1).astype(np.float32))
    for beam in Beam:
        geometry = geometry_of_grid(GRID, beam, (500.0, 500.0), (900.0, 900.0))
        films = project_pair(ball, GRID.affine, geometry)
        cube = place_cube(CENTROID, GRID)
        for film, view in zip(films, (geometry.ap, geometry.lat), strict=True):
            patch = crop_patch(film, view, cube).numpy()
            assert (patch > 3).sum() == pytest.approx(np.pi * 15**2, rel=0.04)
            assert np.abs(np.argwhere(patch > 3).mean(0) - 59.5).max() < 0.6


def test_beyond_the_film_a_patch_has_no_values(volume: torch.Tensor) -> None:
    geometry = geometry_of_grid(GRID)
    film = project_pair(volume, GRID.affine, geometry)[0]
    cube = place_cube(GRID.to_world(np.array([5.0, 60.0, 80.0])), GRID)
    patch = crop_patch(film, geometry.ap, cube)
    outside, inside = patch[: -cube.start[0]], patch[-cube.start[0] :]
    assert outside.isnan().all() and inside.isfinite().all()


def test_the_rim_of_a_narrow_film_takes_no_contrast_from_the_bone() -> None:
    """Of a CT cropped to the spine the outermost rays meet a part of a voxel only."""
    rng = np.random.default_rng(3)
    geometry = geometry_of_grid(GRID)
    tissue = torch.from_numpy(rng.uniform(3.0, 4.0, geometry.ap.shape)).float()
    rimmed = tissue.clone()
    rimmed[:, :2] = rimmed[:2] = 0.3
    cube = place_cube(GRID.to_world(np.array([40.0, 61.0, 45.0])), GRID)
    patches = [crop_patch(film, geometry.ap, cube) for film in (tissue, rimmed)]
    whole, cut = (normalise_film(patch) for patch in patches)
    rim = (patches[0] != patches[1]) & patches[0].isfinite()
    assert patches[0].isnan().any() and 300 < int(rim.sum()) < 700
    assert torch.equal(whole[~rim], cut[~rim]) and (cut[rim] < 0.5).all() and whole.max() == 1


def test_input_channels() -> None:
    geometry = geometry_of_grid(GRID)
    cube = place_cube(CENTROID, GRID)
    ap, lat = geometry.project(CENTROID)
    films = (torch.full(geometry.ap.shape, 2.0), torch.full(geometry.lat.shape, 3.0))
    image = network_input(films, (ap[0], lat[0]), geometry, cube)
    assert image.shape == (4, 120, 120) and image.dtype == torch.float32
    assert (image[0] == 2).all() and (image[2] == 3).all()
    assert image[1].max() <= 1 and image[3].argmax() != image[1].argmax()


def test_fine_films_are_smoothed_before_sampling() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 400))
    smooth = smooth_for_pitch(noise, (0.2, 0.2))
    block_mean = noise.reshape(80, 5, 80, 5).mean((1, 3)).std()
    assert smooth.std() == pytest.approx(block_mean, rel=0.25)
    assert smooth_for_pitch(noise, (1.0, 1.0)) is noise
