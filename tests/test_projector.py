"""The projector against analytic line integrals, its own fast path, and the orientation of a real anatomy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy.ndimage import maximum_filter, minimum_filter

from scripts.benchmarks.drr.phantom import box_chord, ellipsoid_chord, gaussian_integral
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR, Grid
from scripts.geometry.projector import hu_to_attenuation, project_pair, project_views
from tests.conftest import project_volume

GRID = Grid((40.0, 40.0, 40.0), (80, 80, 80))


def oblique_affine(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """A volume turned by 12 and 7 degrees about its middle at the world's origin, with the given spacing."""
    a, b = np.radians([12.0, 7.0])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def world_points(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return apply_affine(affine, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))


def pixels_of(shape: tuple[int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"), -1)


VOLUMES = {
    "canonical": (GRID.affine, GRID.shape),
    "anisotropic": (np.diag([0.7, 0.7, 2.5, 1.0]), (128, 128, 36)),
    "oblique": (oblique_affine((0.9, 1.3, 2.0), (100, 70, 44)), (100, 70, 44)),
}


def centred(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return moved


@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("name", list(VOLUMES))
def test_gaussian_blob_is_exact(name: str, beam: Beam) -> None:
    """A Gaussian's line integral is known in closed form and has no edges: only the engine's error is left."""
    affine, shape = VOLUMES[name]
    affine = centred(affine, shape)
    sigma, centre = 7.0, np.array([5.0, -8.0, 6.0])
    points = world_points(affine, shape)
    volume = torch.from_numpy(np.exp(-((points - centre) ** 2).sum(-1) / (2 * sigma**2)))
    view_grid = Grid((39.5, 39.5, 39.5), (80, 80, 80))
    geometry = geometry_of_grid(view_grid, beam, (700.0, 700.0), (900.0, 900.0))
    for view in (geometry.ap, geometry.lat):
        origin, direction = view.rays(pixels_of(view.shape))
        expected = gaussian_integral(origin - centre, direction, sigma)
        image = project_volume(volume, affine, view).numpy()
        # Linear interpolation between 2.5 mm slices of a Gaussian this narrow costs about half a per cent.
        assert np.abs(image - expected).max() < 0.02 * expected.max()
        assert np.sqrt(np.mean((image - expected) ** 2)) < 0.004 * expected.max()


EXTENT = np.array([14.0, 22.0, 18.0])


@cache
def solid(name: str, body: str) -> torch.Tensor:
    """A box or ellipsoid with partial volumes by 4^3 points a voxel, or voxelisation would dominate the error."""
    affine, shape = VOLUMES[name]
    affine = centred(affine, shape)
    volume = np.zeros(shape)
    steps = (np.arange(4) - 1.5) / 4
    points = world_points(affine, shape)
    for shift in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3):
        scaled = (points + affine[:3, :3] @ shift) / EXTENT
        volume += ((scaled**2).sum(-1) < 1) if body == "ellipsoid" else (np.abs(scaled) < 1).all(-1)
    return torch.from_numpy(volume / 64)


@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("name", list(VOLUMES))
@pytest.mark.parametrize("body", ["ellipsoid", "box"])
def test_solids_agree_with_their_chords(name: str, beam: Beam, body: str) -> None:
    affine, shape = VOLUMES[name]
    chords = ellipsoid_chord if body == "ellipsoid" else box_chord
    image_grid = Grid((39.5, 39.5, 39.5), (80, 80, 80))
    geometry = geometry_of_grid(image_grid, beam, (700.0, 700.0), (900.0, 900.0))
    for view in (geometry.ap, geometry.lat):
        expected = chords(*view.rays(pixels_of(view.shape)), EXTENT)
        image = project_volume(solid(name, body), centred(affine, shape), view).numpy()
        # At a silhouette's step the answer depends on the voxel size, not on the engine.
        smooth = maximum_filter(expected, 7) - minimum_filter(expected, 7) < 0.35 * expected.max()
        assert smooth[expected > 0].mean() > 0.2
        assert np.sqrt(np.mean((image - expected)[smooth] ** 2)) < 0.01 * expected.max()
        # Quarters of a 2.5 mm voxel: the solid itself is 1 % too large.
        assert image.sum() == pytest.approx(expected.sum(), rel=0.012)


def test_fast_path_equals_the_marching_path() -> None:
    volume = torch.rand(40, 50, 60, dtype=torch.float64)
    grid = Grid((0.0, 0.0, 0.0), (40, 50, 60), 1.5)
    geometry = geometry_of_grid(grid)
    ap, lat = project_pair(volume, grid.affine, geometry)
    assert torch.allclose(ap, volume.sum(1) * 1.5) and torch.allclose(lat, volume.sum(2) * 1.5)
    # A shift of 1e-3 pixel leaves the fast path and hardly changes the picture.
    for view, image in ((geometry.ap, ap), (geometry.lat, lat)):
        row, column = view.principal_point
        marched = project_volume(volume, grid.affine, replace(view, principal_point=(row + 1e-3, column)))
        assert (marched - image)[1:-1, 1:-1].abs().max() < 2e-3 * image.max()


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("beam", list(Beam))
def test_views_and_volumes_in_one_call_are_those_of_single_calls(beam: Beam, chunk: int) -> None:
    """Turned views, views of another size and views along all three axes of an oblique volume, two volumes a time."""
    affine = oblique_affine((0.9, 1.3, 2.0), (50, 40, 30))
    volumes = torch.rand(2, 1, 50, 40, 30, dtype=torch.float64)
    geometry = geometry_of_grid(Grid((14.5, 19.5, 24.5), (50, 40, 30)), beam, (300.0, 300.0), (400.0, 400.0))
    down = replace(
        geometry.ap,
        row_direction=tuple(POSTERIOR),
        beam_direction=tuple(INFERIOR),
    )
    views = [geometry.lat, geometry.ap, down, geometry.ap.turned(4.0, -3.0, 2.0), replace(geometry.lat, shape=(20, 9))]
    images = project_views(volumes, affine, views, chunk)
    assert [image.shape for image in images] == [(2, 1, *view.shape) for view in views]
    for view, image in zip(views, images, strict=True):
        for one, volume in zip(image, volumes, strict=True):
            assert torch.allclose(one[0], project_volume(volume[0], affine, view), atol=1e-9)


def test_the_plain_sum_takes_volumes_too() -> None:
    volumes = torch.rand(3, 4, 5, 6)
    grid = Grid((0.0, 0.0, 0.0), (4, 5, 6), 2.0)
    ap, lat = project_pair(volumes, grid.affine, geometry_of_grid(grid))
    assert torch.allclose(ap, volumes.sum(2) * 2) and torch.allclose(lat, volumes.sum(3) * 2)


@pytest.mark.parametrize("beam", list(Beam))
def test_everything_is_made_on_the_volume_s_device(beam: Beam) -> None:
    """The meta device stands for one that is not here: mixing it with the CPU, or asking for a value, fails."""
    grid = Grid((0.0, 0.0, 0.0), (20, 22, 24))
    geometry = geometry_of_grid(grid, beam)
    volumes = torch.empty(2, *grid.shape, device="meta")
    images = project_views(volumes, grid.affine, [geometry.ap, geometry.lat, geometry.ap.turned(3.0, 2.0)])
    assert [image.device.type for image in images] == ["meta"] * 3 and images[1].shape == (2, 20, 22)


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8, torch.bool])
def test_small_types_are_projected_in_float32(dtype: torch.dtype) -> None:
    """Positions in half precision would be off by whole voxels."""
    grid = Grid((0.0, 0.0, 0.0), (30, 20, 40))
    volume = (torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)) > 0.5).to(dtype)
    for beam in (Beam.PARALLEL, Beam.CONE):
        geometry = geometry_of_grid(grid, beam)
        for small, full in zip(
            *(project_pair(v, grid.affine, geometry) for v in (volume, volume.float())), strict=True
        ):
            assert small.dtype == torch.float32 and torch.allclose(small, full)


def test_too_wide_a_view_is_refused() -> None:
    grid = Grid((0.0, 0.0, 0.0), (40, 40, 40))
    view = replace(geometry_of_grid(grid, Beam.CONE, (20.0, 20.0), (20.0, 20.0)).ap.turned(yaw_deg=30.0))
    with pytest.raises(ValueError, match="too wide"):
        project_volume(torch.rand(40, 40, 40), grid.affine, replace(view, pixel_spacing_mm=(3.0, 3.0)))


def test_gradient_reaches_the_volume() -> None:
    volume = torch.rand(6, 7, 5, dtype=torch.float64, requires_grad=True)
    grid = Grid((0.0, 0.0, 0.0), (6, 7, 5))
    view = geometry_of_grid(grid, Beam.CONE, (60.0, 60.0), (80.0, 80.0)).ap
    assert torch.autograd.gradcheck(lambda v: project_volume(v, grid.affine, view), volume)


def test_attenuation_scale() -> None:
    hu = torch.tensor([-2000.0, -1000.0, 0.0, 100.0, 1100.0])
    mu = hu_to_attenuation(hu, bone_gain=1.6)
    assert torch.allclose(mu, 0.0206 * torch.tensor([0.0, 0.0, 1.0, 1.1, 2.7]), atol=1e-6)
    assert torch.allclose(hu_to_attenuation(hu, 2.0), 0.0206 * torch.tensor([0.0, 0.0, 1.0, 1.1, 3.1]), atol=1e-6)


@pytest.mark.parametrize("beam", list(Beam))
def test_each_direction_appears_where_a_radiologist_expects_it(beam: Beam) -> None:
    """A bead up, one in front, one on the patient's left: AP shows left on the right, LAT shows front on the left."""
    centre = GRID.to_world((np.array(GRID.shape) - 1) / 2)
    geometry = geometry_of_grid(GRID, beam, (700.0, 700.0), (900.0, 900.0))
    beads = {"up": -20 * INFERIOR, "front": -20 * POSTERIOR, "left": 20 * LEFT}
    middle = 39.5
    for name, offset in beads.items():
        volume = torch.zeros(GRID.shape)
        volume[tuple(np.rint(GRID.to_index(centre + offset)).astype(int))] = 1.0
        ap, lat = (np.unravel_index(int(v.argmax()), v.shape) for v in project_pair(volume, GRID.affine, geometry))
        if name == "up":
            assert ap[0] < middle - 15 and lat[0] < middle - 15
        if name == "front":
            assert lat[1] < middle - 15 and abs(ap[1] - middle) < 2
        if name == "left":
            assert ap[1] > middle + 15 and abs(lat[1] - middle) < 2
