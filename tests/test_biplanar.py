"""The two views against hand-computed cases and the closed forms of the geometry."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, BiplanarGeometry, View, geometry_of_grid
from scripts.geometry.frames import IPL_AXES, Grid, bounding_grid, resample_labels
from scripts.spine.assembly import patient_lattice

GRID = Grid((30.0, 40.0, 500.0), (200, 120, 100))


def test_ipl_is_right_handed_and_grids_round_trip() -> None:
    assert np.allclose(np.cross(IPL_AXES[0], IPL_AXES[1]), IPL_AXES[2])
    index = np.array([[3.0, 5.5, 7.0]])
    assert np.allclose(GRID.to_index(GRID.to_world(index)), index)
    # One step along each axis: towards the feet, the back, the patient's left.
    assert np.allclose(GRID.to_world([1, 1, 1]) - GRID.to_world([0, 0, 0]), [-1, -1, -1])
    assert np.allclose((GRID.affine @ [3, 5.5, 7, 1])[:3], GRID.to_world(index[0]))


@pytest.mark.parametrize("beam", list(Beam))
def test_projection_and_back_projection_are_inverse(beam: Beam) -> None:
    geometry = geometry_of_grid(GRID, beam, (1000.0, 900.0), (1300.0, 1250.0))
    points = GRID.to_world(np.random.default_rng(0).uniform(0, 100, (50, 3)))
    found, residual = geometry.back_project(*geometry.project(points))
    assert np.abs(found - points).max() < 1e-8
    assert residual.max() < 1e-8


def test_parallel_pixels_lie_over_voxels() -> None:
    geometry = geometry_of_grid(GRID)
    ap, lat = geometry.project(GRID.to_world(np.array([[7, 11, 13]])))
    assert np.allclose(ap, [[7, 13]]) and np.allclose(lat, [[7, 11]])


def test_slot_agrees_with_the_closed_form() -> None:
    """Image mm in the plane of the isocentre: u1 = -x D1/(D1-y), u2 = -y D2/(D2+x), rows v = -z."""
    d1, d2 = 987.0, 918.0
    geometry = geometry_of_grid(GRID, Beam.SLOT, (d1, d2), (1300.0, 1300.0))
    centre = np.asarray(geometry.ap.isocentre_mm)
    x, y, z = 60.0, -80.0, 35.0
    ap, lat = geometry.project(centre + [x, y, z])
    # Patient's left is -x and the AP source lies in front (+y); LAT columns grow to the back (-y), its source lies on
    # the patient's left (-x).
    assert np.allclose(ap[0] - geometry.ap.principal_point, [-z, -x * d1 / (d1 - y)])
    assert np.allclose(lat[0] - geometry.lat.principal_point, [-z, -y * d2 / (d2 + x)])


def test_cone_magnifies_towards_the_source() -> None:
    geometry = geometry_of_grid(GRID, Beam.CONE, (1000.0, 1000.0), (1500.0, 1500.0))
    view = geometry.ap
    centre = np.asarray(view.isocentre_mm)
    near, far = centre + [0, 100, 0], centre - [0, 100, 0]
    detector_pixel = view.pixel_spacing_mm[0]
    assert np.allclose(view.pixel_size_mm(centre)[0], 1.0)
    assert np.allclose(view.pixel_size_mm(near)[0], detector_pixel / (1500 / 900))
    assert np.allclose(view.pixel_size_mm(far)[0], detector_pixel / (1500 / 1100))


def test_residual_is_the_height_mismatch_of_shared_rows() -> None:
    geometry = geometry_of_grid(GRID)
    ap, lat = geometry.project(GRID.to_world(np.array([[50, 60, 40]])))
    point, residual = geometry.back_project(ap, lat + [4.0, 0.0])
    assert np.allclose(residual, 4.0)
    assert np.allclose(GRID.to_index(point), [[52, 60, 40]])


@pytest.mark.parametrize("beam", list(Beam))
def test_geometry_survives_json(beam: Beam) -> None:
    geometry = geometry_of_grid(GRID, beam)
    assert BiplanarGeometry.from_dict(geometry.to_dict()) == geometry


def test_impossible_views_are_refused() -> None:
    values = geometry_of_grid(GRID).ap.to_dict()
    for wrong, words in (
        ({"pixel_spacing_mm": [0, 1]}, "spacing must be positive"),
        ({"beam": "cone"}, "cone beam needs finite source distances"),
        ({"beam": "fan"}, "'fan' is not a valid Beam"),
        ({"column_direction": values["row_direction"]}, "perpendicular"),
        ({"unknown": 1}, "unexpected keyword argument 'unknown'"),
    ):
        with pytest.raises(UserError, match=words):
            View.from_dict({**values, **wrong})


def test_lattice_of_parallel_films_is_the_grid_they_came_from() -> None:
    lattice = patient_lattice(geometry_of_grid(GRID))
    assert lattice.shape == GRID.shape
    assert np.allclose(lattice.origin_mm, GRID.origin_mm)


def test_bounding_grid_keeps_a_canonical_volume_and_covers_an_oblique_one() -> None:
    assert bounding_grid(GRID.affine, GRID.shape) == GRID
    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= [1.0, 0.5, 3.0]
    grid = bounding_grid(affine, (40, 60, 10))
    corners = np.array([[0, 0, 0], [39, 0, 0], [0, 59, 0], [39, 59, 9]])
    index = grid.to_index(corners @ affine[:3, :3].T)
    assert index.min() > -0.5 and (index < np.array(grid.shape) - 0.5).all()


def test_resampled_labels_keep_volume_and_place() -> None:
    """A box in thick, oblique slices against its analytic volume and centre."""
    angle = np.radians(10)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.8, 0.8, 2.5])
    labels = np.zeros((60, 60, 20), np.uint8)
    labels[20:40, 20:45, 6:14] = 21
    grid = bounding_grid(affine, labels.shape)
    found = resample_labels(labels, affine, grid) == 21
    assert found.sum() == pytest.approx(20 * 25 * 8 * 0.8 * 0.8 * 2.5, rel=0.02)
    centre = np.array([29.5, 32.0, 9.5]) @ affine[:3, :3].T
    assert np.abs(grid.to_world(np.argwhere(found).mean(0)) - centre).max() < 0.2


@pytest.mark.parametrize("beam", list(Beam))
def test_turned_view_is_the_view_of_the_patient_turned_back(beam: Beam) -> None:
    """Turning the source one way shows what turning the patient the other way about the isocentre shows."""
    view = geometry_of_grid(Grid((30.0, 20.0, 40.0), (60, 50, 70)), beam, (900.0, 900.0), (1200.0, 1200.0)).ap
    points = np.random.default_rng(0).normal(view.isocentre_mm, 20, (20, 3))
    for name, axis in (("yaw_deg", view.row_direction), ("pitch_deg", view.column_direction),
                       ("roll_deg", view.beam_direction)):  # fmt: skip
        angle, u = np.radians(7.0), np.asarray(axis)
        v = points - view.isocentre_mm
        # Rodrigues' formula, by minus the angle.
        back = v * np.cos(angle) - np.cross(u, v) * np.sin(angle) + np.outer(v @ u, u) * (1 - np.cos(angle))
        turned = view.turned(**{name: 7.0})
        assert np.allclose(turned.project(points), view.project(back + view.isocentre_mm), atol=1e-9)
    assert view.turned() == view
