"""One adapter an engine: it takes a volume and the views, prepares what is not timed, and gives back the projection.

All are asked for the same rays, so that none is judged by its camera model. ``pip install -e ".[benchmark]"`` brings
all but DiffDRR, whose dependencies replace this project's torch: in an environment of its own,
``pip install --no-deps diffdrr==0.6.1`` and ``pip install fastcore``.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scripts.geometry.biplanar import Beam, BiplanarGeometry, View
from scripts.geometry.frames import Grid
from scripts.geometry.projector import project_pair

Pair = tuple[np.ndarray | torch.Tensor, np.ndarray | torch.Tensor]
Projection = Callable[[], Pair]


@dataclass(frozen=True)
class Engine:
    """An engine under test.

    Args:
        name: as in the table.
        beam: of the films.
        prepare: (volume (I, P, L), its grid, the views) -> the projection to be timed.
        on_voxels: whether the pixels lie over the voxels, instead of at 1 mm.
    """

    name: str
    beam: Beam
    prepare: Callable[[torch.Tensor, Grid, BiplanarGeometry], Projection]
    on_voxels: bool = False


def ours(volume: torch.Tensor, grid: Grid, geometry: BiplanarGeometry) -> Projection:
    """`scripts.geometry.projector`, which takes the plain sum by itself where the rays allow it."""
    return lambda: project_pair(volume, grid.affine, geometry)


def _ends(view: View, grid: Grid, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Both ends (rays, 3) of every ray in voxel indices, far outside the volume on either side."""
    pixels = np.stack(np.meshgrid(*map(np.arange, view.shape), indexing="ij"), -1).reshape(-1, 2)
    origin, direction = view.rays(pixels)
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    nearest = origin + ((middle - origin) * direction).sum(-1, keepdims=True) * direction
    reach = 0.75 * float(np.linalg.norm(np.array(grid.shape) * grid.spacing_mm)) * direction
    ends = (grid.to_index(nearest - reach), grid.to_index(nearest + reach))
    return tuple(torch.as_tensor(e, dtype=torch.float32, device=device) for e in ends)  # type: ignore[return-value]


def nanodrr(volume: torch.Tensor, grid: Grid, geometry: BiplanarGeometry) -> Projection:
    """nanodrr's `render`: fused kernel on a GPU, grid_sample on a CPU (8 rows at a time there: faster and smaller)."""
    from nanodrr.data import Subject
    from nanodrr.drr import render

    # Its "world" is the voxel grid in mm here: x, y, z of the subject are L, P, I of the volume.
    to_world = torch.diag(torch.tensor([grid.spacing_mm] * 3 + [1.0]))
    data = volume[None, None]
    subject = Subject(
        data, torch.zeros(1, 1, 1, 1, 1), to_world, to_world.inverse(), Subject._make_voxel_to_grid(data.shape),
        torch.zeros(3), max_label=0, convert_to_mu=False,
    ).to(volume.device)  # fmt: skip
    unit = torch.eye(4, device=volume.device)[None]
    tile = 8 if volume.device.type == "cpu" else 10**6

    def film(view: View) -> torch.Tensor:
        start, end = (e.flip(-1) * grid.spacing_mm for e in _ends(view, grid, volume.device))
        parts = []
        rows, columns = view.shape
        for first in range(0, rows, tile):
            height = min(tile, rows - first)
            part = slice(first * columns, (first + height) * columns)
            parts.append(
                render(subject, unit, unit, unit[:, 0, 0], height, columns, n_samples=max(grid.shape),
                       src=start[None, part], tgt=end[None, part])[0, 0]
            )  # fmt: skip
        return torch.cat(parts)

    return lambda: (film(geometry.ap), film(geometry.lat))


def _diffdrr(renderer: str) -> Callable[[torch.Tensor, Grid, BiplanarGeometry], Projection]:
    def prepare(volume: torch.Tensor, grid: Grid, geometry: BiplanarGeometry) -> Projection:
        from diffdrr.renderers import Siddon, Trilinear

        engine = Siddon() if renderer == "siddon" else Trilinear()
        options = {} if renderer == "siddon" else {"n_points": round(math.sqrt(sum(n**2 for n in grid.shape)))}

        def film(view: View) -> torch.Tensor:
            start, end = (e[None] for e in _ends(view, grid, volume.device))
            length = (end - start).norm(dim=-1)[:, None] * grid.spacing_mm
            chunks = (t.split(1024, dim=d) for t, d in ((start, 1), (end, 1), (length, 2)))
            parts = [engine(volume, s, e, n, **options) for s, e, n in zip(*chunks, strict=True)]
            return torch.cat([p.reshape(-1) for p in parts]).reshape(view.shape)

        return lambda: (film(geometry.ap), film(geometry.lat))

    return prepare


def _plastimatch(algorithm: str) -> Callable[[torch.Tensor, Grid, BiplanarGeometry], Projection]:
    """The command line tool: files in, files out, both timed."""

    def prepare(volume: torch.Tensor, grid: Grid, geometry: BiplanarGeometry) -> Projection:
        tool = shutil.which("plastimatch", path=str(Path(sys.executable).parent)) or shutil.which("plastimatch")
        if tool is None:
            raise ImportError("plastimatch")
        folder = tempfile.TemporaryDirectory()
        path = Path(folder.name) / "ct.mha"
        # LPS: x = Left, y = Posterior, z = Superior; its middle is the origin and the isocentre.
        array = np.ascontiguousarray(volume.cpu().numpy()[::-1])
        corner = [-(n - 1) / 2 * grid.spacing_mm for n in array.shape[::-1]]
        with path.open("wb") as stream:
            stream.write(
                "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
                f"Offset = {' '.join(map(str, corner))}\nElementSpacing = {' '.join([str(grid.spacing_mm)] * 3)}\n"
                f"DimSize = {' '.join(map(str, array.shape[::-1]))}\nElementType = MET_FLOAT\n"
                "ElementDataFile = LOCAL\n".encode()
            )
            array.tofile(stream)

        def film(view: View, normal: str, name: str) -> np.ndarray:
            rows, columns = view.shape
            size = (columns * view.pixel_spacing_mm[1], rows * view.pixel_spacing_mm[0])
            # Its help says "row col"; what it takes is "column row".
            subprocess.run(
                [tool, "drr", "-i", algorithm, "-P", "none", "-t", "pfm", "-n", normal, "--vup", "0 0 1",
                 "--sad", str(view.source_to_isocentre_mm), "--sid", str(view.source_to_detector_mm),
                 "-o", "0 0 0", "-r", f"{columns} {rows}", "-z", f"{size[0]} {size[1]}",
                 "-c", f"{(columns - 1) / 2} {(rows - 1) / 2}", "-O", str(Path(folder.name) / name), str(path)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            data = next(Path(folder.name).glob(f"{name}*.pfm")).read_bytes()
            image = np.frombuffer(data, "<f4", rows * columns, len(data) - 4 * rows * columns)
            return image.reshape(rows, columns) * 10  # it integrates in cm

        return lambda: (film(geometry.ap, "0 -1 0", "ap"), film(geometry.lat, "1 0 0", "lat"))

    return prepare


def rtk_joseph(volume: torch.Tensor, grid: Grid, geometry: BiplanarGeometry) -> Projection:
    """RTK's C++ Joseph projector; both views at gantry angle 0 of a volume that is laid ready for each."""
    import itk

    rtk = getattr(itk, "RTK", None)
    if rtk is None:
        raise ImportError("itk-rtk")
    pixel = itk.Image[itk.F, 3]
    array = volume.cpu().numpy()

    def image(values: np.ndarray, spacing: list[float]) -> object:
        out = itk.image_from_array(np.ascontiguousarray(values))
        out.SetSpacing(spacing)
        out.SetOrigin([-(n - 1) / 2 * s for n, s in zip(values.shape[::-1], spacing, strict=True)])
        return out

    def view_filter(values: np.ndarray, view: View) -> object:
        spacing = [view.pixel_spacing_mm[1], view.pixel_spacing_mm[0], 1.0]
        circle = rtk.ThreeDCircularProjectionGeometry.New()
        circle.AddProjection(view.source_to_isocentre_mm, view.source_to_detector_mm, 0.0)
        projector = rtk.JosephForwardProjectionImageFilter[pixel, pixel].New()
        projector.SetGeometry(circle)
        projector.SetInput(0, image(np.zeros((1, *view.shape), np.float32), spacing))
        projector.SetInput(1, image(values, [grid.spacing_mm] * 3))
        projector.InPlaceOff()  # else its second run finds its input gone
        projector.SetNumberOfWorkUnits(1)
        return projector

    # z towards the source, y = Inferior, x = columns.
    ap = view_filter(array.transpose(1, 0, 2)[::-1], geometry.ap)
    lat = view_filter(array.transpose(2, 0, 1), geometry.lat)

    def film(projector: object) -> np.ndarray:
        projector.Modified()  # type: ignore[attr-defined]
        projector.Update()  # type: ignore[attr-defined]
        return itk.array_from_image(projector.GetOutput())[0]  # type: ignore[attr-defined]

    return lambda: (film(ap), film(lat))


ENGINES: tuple[Engine, ...] = (
    Engine("ours, plain sum", Beam.PARALLEL, ours, on_voxels=True),
    Engine("ours, Joseph", Beam.PARALLEL, ours),
    Engine("ours, Joseph", Beam.SLOT, ours),
    Engine("ours, Joseph", Beam.CONE, ours),
    Engine("RTK Joseph", Beam.CONE, rtk_joseph),
    Engine("nanodrr", Beam.CONE, nanodrr),
    Engine("plastimatch exact (Siddon)", Beam.CONE, _plastimatch("exact")),
    Engine("plastimatch uniform", Beam.CONE, _plastimatch("uniform")),
    Engine("DiffDRR trilinear", Beam.CONE, _diffdrr("trilinear")),
    Engine("DiffDRR Siddon", Beam.CONE, _diffdrr("siddon")),
)
