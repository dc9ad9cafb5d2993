"""Time, memory and error of the projector and of other engines on one volume, as one Markdown table.

    python -m scripts.benchmarks.drr --size 256
    python -m scripts.benchmarks.drr --size 400,512,512 --spacing-mm 0.8 --output output/drr.md

Each engine runs in a process of its own on one thread and makes an AP and a LAT film, 1 mm pixels at the isocentre. Its
error is against closed-form line integrals: *smooth* (25 Gaussians: the engine's own error) and *edges* (ellipsoids and
boxes: mostly the voxels' error), root mean square in per cent of the film's maximum. Memory is what comes on top of
torch and the volume, an engine's own imports and copies included. Engines that are not installed are listed as such;
see `scripts.benchmarks.drr.engines` for how to get them.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.benchmarks.drr.engines import ENGINES, Engine
from scripts.benchmarks.drr.phantom import Body, edge_phantom, line_integrals, smooth_phantom, voxelise
from scripts.benchmarks.memory import peak_mb
from scripts.command import run_module
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.io.tables import markdown_table

COLUMNS = (
    "engine", "beam", "CPU s a pair", "of ours", "wall s", "extra memory MB", "smooth % AP / LAT", "edges % AP / LAT"
)  # fmt: skip


def centred_grid(shape: tuple[int, int, int], spacing_mm: float) -> Grid:
    """A grid whose middle is the world's origin."""
    grid = Grid((0.0, 0.0, 0.0), shape, spacing_mm)
    x, y, z = (float(v) for v in -grid.to_world((np.array(shape) - 1) / 2))
    return Grid((x, y, z), shape, spacing_mm)


def films_of(grid: Grid, engine: Engine) -> BiplanarGeometry:
    """The two views: one pixel a voxel for the plain sum, 1 mm at the isocentre for all others."""
    if engine.on_voxels:
        return geometry_of_grid(grid)
    rows, depth, width = (round(n * grid.spacing_mm) for n in grid.shape)
    if engine.beam is Beam.PARALLEL:
        # A hundredth of a pixel off the voxels, so that nothing but interpolation will do.
        shifted = centred_grid((rows, depth, width), 1.0)
        x, y, z = shifted.origin_mm
        return geometry_of_grid(Grid((x + 0.01, y + 0.01, z + 0.01), shifted.shape))
    return geometry_of_grid(centred_grid((rows, depth, width), 1.0), engine.beam)


def phantoms(grid: Grid) -> dict[str, list[Body]]:
    """The two phantoms that fill a grid."""
    size_mm = np.array(grid.shape)[[2, 1, 0]] * grid.spacing_mm
    return {"smooth": smooth_phantom(size_mm), "edges": edge_phantom(size_mm)}


def measure(engine: Engine, folder: Path, grid: Grid, device: str, repeats: int) -> dict[str, Any]:
    """One engine's row: seconds, memory and errors. Runs in a process of its own."""
    torch.set_num_threads(1)
    geometry = films_of(grid, engine)
    row: dict[str, Any] = {}
    for name, bodies in phantoms(grid).items():
        volume = torch.from_numpy(np.load(folder / f"{name}.npy")).to(device)
        before = peak_mb(device)
        try:
            project = engine.prepare(volume, grid, geometry)
        except ImportError as error:
            return {"missing": str(error)}
        if name == "smooth":
            seconds = []
            for _ in range(repeats):
                cpu, wall = _cpu_seconds(), time.perf_counter()
                films = project()
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                seconds.append((_cpu_seconds() - cpu, time.perf_counter() - wall))
            row["cpu_s"], row["wall_s"] = min(seconds)
            row["compared_s"] = row["wall_s" if device.startswith("cuda") else "cpu_s"]
            row["extra_mb"] = peak_mb(device) - before + _children_mb()
        else:
            films = project()
        row[name] = [_error(film, line_integrals(bodies, view))
                     for film, view in zip(films, (geometry.ap, geometry.lat), strict=True)]  # fmt: skip
    return row


def _error(film: np.ndarray | torch.Tensor, truth: np.ndarray) -> float:
    values = film.cpu().numpy() if isinstance(film, torch.Tensor) else film
    return float(np.sqrt(np.mean((values - truth) ** 2)) / truth.max() * 100)


def _cpu_seconds() -> float:
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + child.ru_utime + child.ru_stime


def _children_mb() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def table(rows: list[tuple[Engine, dict[str, Any]]]) -> str:
    """The rows in Markdown; "of ours" compares CPU seconds (on a GPU: wall) with our Joseph of the same beam."""
    ours = {e.beam: row["compared_s"] for e, row in rows if e.name == "ours, Joseph" and "compared_s" in row}
    cells = []
    for engine, row in rows:
        start = [engine.name, engine.beam.value]
        if "cpu_s" not in row:
            cells.append([*start, row.get("missing", "failed"), *[""] * 5])
            continue
        ratio = f"{row['compared_s'] / ours[engine.beam]:.2g}" if engine.beam in ours else ""
        errors = (" / ".join(f"{e:.3f}" for e in row[name]) for name in ("smooth", "edges"))
        cells.append([*start, f"{row['cpu_s']:.3g}", ratio, f"{row['wall_s']:.3g}", f"{row['extra_mb']:.0f}", *errors])
    return "\n".join(markdown_table(COLUMNS, cells)) + "\n"


def main(
    size: tuple[int, int, int] = (256, 256, 256),
    spacing_mm: float = 1.0,
    output: Path = Path("output/drr_benchmark.md"),
    device: str = "cpu",
    repeats: int = 3,
    only: str = "",
    engine: int = -1,
    folder: Path = Path(),
) -> None:
    """Compare the engines and write the table.

    Args:
        size: voxels along I, P, L, such as 400,512,512, or one number for a cube.
        spacing_mm: voxel size.
        output: the Markdown file.
        device: cpu or cuda, for the engines that know one.
        repeats: of each timing; the fastest counts.
        only: engines whose name holds this word.
        engine: (internal) number of the one engine to run in this process.
        folder: (internal) where the volumes are.
    """
    grid = centred_grid(size, spacing_mm)
    if engine >= 0:
        print(json.dumps(measure(ENGINES[engine], folder, grid, device, repeats)))
        return
    with tempfile.TemporaryDirectory() as volumes:
        for name, bodies in phantoms(grid).items():
            np.save(Path(volumes) / f"{name}.npy", voxelise(bodies, grid))
        rows = []
        for number, candidate in enumerate(ENGINES):
            if only.lower() in candidate.name.lower():
                options = {"size": ",".join(map(str, size)), "spacing-mm": spacing_mm, "device": device,
                           "repeats": repeats, "engine": number, "folder": volumes}  # fmt: skip
                command = [f"--{name}={value}" for name, value in options.items()]
                rows.append((candidate, _in_process(command)))
                print(table(rows).splitlines()[-1], flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(table(rows))
    print(f"\n{table(rows)}\n{output}")


def _in_process(arguments: list[str]) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.drr", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode != 0:
        print(run.stderr[-2000:], file=sys.stderr)
        return {"missing": "failed"}
    row = json.loads(run.stdout.strip().splitlines()[-1])
    return {"missing": f"not installed ({row['missing']})"} if "missing" in row else row


if __name__ == "__main__":
    run_module(main)
