"""The page's projection mathematics, run as the browser would run it, beside the geometry that it repeats."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from deno import find_deno_bin
from scipy.optimize import brentq

from scripts.geometry.biplanar import Beam, BiplanarGeometry, View, geometry_of_grid
from scripts.geometry.frames import Grid
from tests.conftest import ROOT

MODULE = ROOT / "scripts" / "viewer" / "static" / "geometry.js"
DRIVER = f"""
import * as geometry from "{MODULE.as_uri()}";
const calls = JSON.parse(await new Response(Deno.stdin.readable).text());
console.log(JSON.stringify(calls.map(([name, ...values]) => geometry[name](...values))));
"""
COUNT = 40


def in_javascript(calls: list[tuple[Any, ...]]) -> list[Any]:
    """What functions of geometry.js return; each call is a function's name and its arguments."""
    run = subprocess.run(
        [find_deno_bin(), "eval", "--no-config", DRIVER], input=json.dumps(calls), capture_output=True, text=True,
        check=False, env={**os.environ, "DENO_NO_UPDATE_CHECK": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == len(calls)
    return found


@dataclass(frozen=True)
class Scene:
    """Two views from odd angles, and points in the patient with their pixels; all drawn at random."""

    geometry: BiplanarGeometry
    points: np.ndarray
    ap: np.ndarray
    lat: np.ndarray

    def sides(self) -> list[tuple[View, np.ndarray, View, np.ndarray]]:
        """From each view to the other one: view, its pixels (N, 2), the other view, its pixels."""
        ap, lat = (self.geometry.ap, self.ap), (self.geometry.lat, self.lat)
        return [(*ap, *lat), (*lat, *ap)]


@pytest.fixture(params=list(Beam), ids=lambda beam: beam.value)
def scene(request: pytest.FixtureRequest) -> Scene:
    rng = np.random.default_rng(list(Beam).index(request.param))
    exact = geometry_of_grid(
        Grid((90.0, 70.0, 200.0), (400, 300, 350), 0.8), request.param, (1000.0, 1150.0), (1300.0, 1500.0)
    )

    def odd(view: View) -> View:
        moved = replace(
            view,
            isocentre_mm=tuple(np.asarray(view.isocentre_mm) + rng.normal(0, 20, 3)),
            principal_point=tuple(np.asarray(view.principal_point) + rng.normal(0, 15, 2)),
            pixel_spacing_mm=tuple(np.asarray(view.pixel_spacing_mm) * rng.uniform(0.5, 1.5, 2)),
        )
        return moved.turned(*rng.uniform(-6, 6, 3))

    geometry = BiplanarGeometry(odd(exact.ap), odd(exact.lat))
    points = rng.uniform(-120, 120, (COUNT, 3)) + geometry.ap.isocentre_mm
    return Scene(geometry, points, *geometry.project(points))


def test_points_are_projected_alike(scene: Scene) -> None:
    for view, pixels, _, _ in scene.sides():
        found = in_javascript([("project", view.to_dict(), point) for point in scene.points.tolist()])
        assert np.allclose(found, pixels, rtol=0, atol=1e-8)


def test_rays_of_two_marks_miss_each_other_by_as_much(scene: Scene) -> None:
    ap = scene.ap + np.random.default_rng(7).normal(0, 8, scene.ap.shape)
    _, expected = scene.geometry.back_project(ap, scene.lat)
    assert expected.min() < 2 < 8 < expected.max()
    pairs = zip(ap.tolist(), scene.lat.tolist(), strict=True)
    found = in_javascript([("residual", scene.geometry.to_dict(), *pair) for pair in pairs])
    assert np.allclose(found, expected, rtol=0, atol=1e-7)


def row_along_the_ray(view: View, pixel: np.ndarray, other: View, column: float) -> float:
    """The row at which the other film shows that point of a pixel's ray which lies in a column; found by search."""
    origin, direction = view.rays(pixel)
    middle = (np.asarray(other.isocentre_mm) - origin) @ direction

    def place(t: float) -> np.ndarray:
        return other.project(origin + t * direction)[0]

    t = brentq(lambda t: place(t)[1] - column, middle - 400, middle + 400, xtol=1e-10)
    return float(place(t)[0])


def test_the_matching_row_is_that_of_the_ray(scene: Scene) -> None:
    for view, pixels, other, there in scene.sides():
        columns = there[:, 1] + np.random.default_rng(8).normal(0, 10, COUNT)
        expected = [row_along_the_ray(view, p, other, c) for p, c in zip(pixels, columns, strict=True)]
        calls = zip(pixels.tolist(), columns.tolist(), strict=True)
        found = in_javascript([("matchingRow", view.to_dict(), p, other.to_dict(), c) for p, c in calls])
        assert np.abs(np.array(found) - expected).max() < 1e-6


def test_a_film_hangs_where_its_corners_project_to(scene: Scene) -> None:
    for view, _, _, _ in scene.sides():
        rows, columns = view.shape
        pixels = [[-0.5, -0.5], [-0.5, columns - 0.5], [rows - 0.5, -0.5], [rows - 0.5, columns - 0.5]]
        found = in_javascript([("filmCorners", view.to_dict(), view.shape, point) for point in scene.points.tolist()])
        for corners, point in zip(np.array(found), scene.points, strict=True):
            assert np.allclose(view.project(corners), pixels, rtol=0, atol=1e-7)
            assert np.abs((corners - point) @ np.asarray(view.beam_direction)).max() < 1e-9
