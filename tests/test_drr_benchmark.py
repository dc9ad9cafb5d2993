"""The benchmark's phantoms and its table, on a small volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.benchmarks.drr.__main__ import centred_grid, films_of, main, measure, phantoms, table
from scripts.benchmarks.drr.engines import ENGINES
from scripts.benchmarks.drr.phantom import box_chord, ellipsoid_chord, gaussian_integral, voxelise


def test_closed_forms_against_a_numerical_integral() -> None:
    """An oblique line through each body, summed in steps of 1/100 mm."""
    origin, direction = np.array([4.0, -3.0, 2.0]), np.array([0.6, 0.48, 0.64])
    steps = np.arange(-80, 80, 0.01)
    points = origin + steps[:, None] * direction
    assert np.linalg.norm(direction) == pytest.approx(1)
    radii = np.array([20.0, 12.0, 15.0])
    inside = ((points / radii) ** 2).sum(-1) < 1
    assert ellipsoid_chord(origin, direction, radii) == pytest.approx(inside.sum() * 0.01, abs=0.03)
    assert box_chord(origin, direction, radii) == pytest.approx((np.abs(points) < radii).all(-1).sum() * 0.01, abs=0.03)
    gauss = np.exp(-(points**2).sum(-1) / (2 * 7.0**2)).sum() * 0.01
    assert gaussian_integral(origin, direction, 7.0) == pytest.approx(gauss, rel=1e-4)


def test_voxels_lie_where_the_bodies_do() -> None:
    """Mass and centre of mass of each body on a grid, against its closed form."""
    grid = centred_grid((48, 40, 44), 1.5)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    world = grid.to_world(index)
    for bodies in phantoms(grid).values():
        for body in bodies[1:4]:
            volume = voxelise([body], grid)
            centre = (world * volume[..., None]).sum((0, 1, 2)) / volume.sum()
            assert np.abs(centre - np.array(body.centre)).max() < 0.1
    box = phantoms(grid)["edges"][2]
    assert voxelise([box], grid).sum() * 1.5**3 == pytest.approx(box.density * 8 * np.prod(box.half), rel=1e-4)


def test_our_engines_are_measured_and_right(tmp_path) -> None:
    grid = centred_grid((40, 36, 44), 2.0)
    for name, bodies in phantoms(grid).items():
        np.save(tmp_path / f"{name}.npy", voxelise(bodies, grid))
    rows = [(engine, measure(engine, tmp_path, grid, "cpu", 1)) for engine in ENGINES if engine.name.startswith("ours")]
    assert len(rows) == 4
    for engine, row in rows:
        assert max(row["smooth"]) < 1.0 and max(row["edges"]) < 6.0, engine
        assert row["cpu_s"] > 0
    lines = table([*rows, (ENGINES[-1], {"missing": "not installed (diffdrr)"})]).splitlines()
    assert len(lines) == 7 and all(line.count("|") == 9 for line in lines)


def test_parallel_joseph_is_not_the_plain_sum_in_disguise() -> None:
    grid = centred_grid((8, 9, 10), 1.0)
    engine = next(e for e in ENGINES if e.name == "ours, Joseph" and e.beam.value == "parallel")
    volume = torch.rand(grid.shape)
    ap = engine.prepare(volume, grid, films_of(grid, engine))()[0]
    assert not torch.equal(ap, volume.sum(1)) and torch.allclose(ap[1:-1, 1:-1], volume.sum(1)[1:-1, 1:-1], atol=0.2)


def test_command_writes_the_table(tmp_path, capsys) -> None:
    main((16, 16, 16), output=tmp_path / "new" / "t.md", repeats=1, only="sum")
    assert (tmp_path / "new" / "t.md").read_text().splitlines()[2].startswith("| ours, plain sum | parallel | ")
