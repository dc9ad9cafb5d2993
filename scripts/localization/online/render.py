"""Windows of the films of a deformed patient, sampled along the rays: only what the network is shown is computed.

Everything is in mm along I, P, L about the middle of the patient's volume. A pixel of a window is a pixel of a film
(`scripts.localization.windows`), that is a ray (`scripts.geometry.biplanar`); the points where rays cross planes of the
patient are found on a coarse lattice, taken to where in the original CT they come from, and interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from scripts.data.online.render import share_on_film, sums_along_rays
from scripts.data.volumes import AIR_HU
from scripts.geometry.biplanar import View
from scripts.geometry.frames import IPL_AXES
from scripts.geometry.projector import WATER_PER_MM
from scripts.localization.machines import MachineRange, draw_geometry
from scripts.localization.online.deformation import BodyDeformation, DrawnDeformation, draw_deformation, source
from scripts.localization.online.patient import CORONAL, SAGITTAL, FilmPatient
from scripts.localization.online.spine_shift import SpineShift, SpineShiftOptions, draw_spine_shift, shift_source
from scripts.localization.windows import MIRRORED_CORNERS, Window, WindowOptions, draw_windows, mirror_points

# Along the rays and across them.
LATTICE_STEP_MM = 12.0
# Axis of the volume along which each view's rays run, and how far planes reach beyond it.
DEPTH_AXIS = (1, 2)
DEPTH_ROOM_MM = 15.0


@dataclass(frozen=True)
class ViewDraw:
    """A window of one film.

    Args:
        rays: (2, 3, 3) origin and direction, mm along I, P, L, of the ray of window pixel (r, c): ``[1, r, c]`` times
            each.
        points: (N, 5, 2) centroid and corners, pixels of the window; NaN where unknown.
        half_rows: rows of the window above and below its middle in which there is film.
        columns: first and last of the window between which there is film.
        half_depth_mm: how far the patient reaches in front of and behind its middle.
        mirrored: whether its columns run the other way.
    """

    rays: np.ndarray
    points: np.ndarray
    half_rows: float
    columns: tuple[float, float]
    half_depth_mm: float
    mirrored: bool


@dataclass(frozen=True)
class FilmsDraw:
    """All that was drawn for one item.

    Args:
        patient: who is filmed.
        deformation: of it.
        shift: of its spine, before the deformation.
        views: AP and LAT.
    """

    patient: FilmPatient
    deformation: DrawnDeformation
    shift: SpineShift
    views: tuple[ViewDraw, ViewDraw]


def draw_films(
    patient: FilmPatient,
    machines: MachineRange,
    deformation: BodyDeformation,
    shift: SpineShiftOptions,
    windows: WindowOptions,
    random: np.random.RandomState,
) -> FilmsDraw:
    """A deformed patient in a random machine, and a window of each of its films.

    Args:
        patient: who is filmed.
        machines: that take the films.
        deformation: how far the patient may be deformed.
        shift: how far the spine may lie from where it was.
        windows: how windows are drawn.
        random: source of everything.
    """
    drawn = draw_deformation(deformation, random)
    shifted = draw_spine_shift(shift, patient.points[:, 0], random)
    points = drawn.target(shifted.target(patient.points))
    if drawn.mirrored:
        points[:, CORONAL] = points[:, CORONAL][:, list(MIRRORED_CORNERS)]
    geometry = draw_geometry(patient.grid, machines, random)
    marks = []
    for view, corners in ((geometry.ap, CORONAL), (geometry.lat, SAGITTAL)):
        wanted = np.concatenate([points[:, :1], points[:, corners]], 1)
        marks.append(view.project(wanted.reshape(-1, 3) @ IPL_AXES).reshape(-1, 5, 2))
    places = draw_windows([m[:, 0] for m in marks], windows, random)
    grown = float(torch.linalg.matrix_norm(torch.linalg.inv(drawn.matrix), 2))
    views = [
        _view(view, points_px, place, windows.shape, grown * float(patient.half_mm[axis]) + DEPTH_ROOM_MM)
        for view, points_px, place, axis in zip((geometry.ap, geometry.lat), marks, places, DEPTH_AXIS, strict=True)
    ]
    return FilmsDraw(patient, drawn, shifted, (views[0], views[1]))


def _view(view: View, points: np.ndarray, place: Window, shape: tuple[int, int], half_depth_mm: float) -> ViewDraw:
    centre = (np.array(shape) - 1) / 2
    turn = place.turn()
    moved = (points - place.middle) @ turn * place.scale + centre
    if place.mirrored:
        moved = mirror_points(moved, shape[1])
    # [1, r, c] of the window times this is [1, r, c] of the film.
    to_film = np.eye(3)
    to_film[1:, 1:] = turn.T / place.scale
    to_film[0, 1:] = place.middle - centre @ turn.T / place.scale
    columns = place.columns
    if place.mirrored:
        flip = np.diag([1.0, 1.0, -1.0])
        flip[0, 2] = shape[1] - 1
        to_film = flip @ to_film
        columns = (shape[1] - 1 - columns[1], shape[1] - 1 - columns[0])
    rays = np.stack([to_film @ basis @ IPL_AXES.T for basis in view.ray_basis()])
    return ViewDraw(rays, moved, place.half_rows, columns, half_depth_mm, bool(place.mirrored))


def render_views(
    draws: list[FilmsDraw], shape: tuple[int, int], pixel_mm: float, ray_mm: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The windows of a batch.

    Args:
        draws: B items, their patients on the device.
        shape: (H, W) of the windows.
        pixel_mm: about the size of a window's pixel in the patient.
        ray_mm: step along the rays.
        device: where to compute.

    Returns:
        (B, 2, H, W) each: line integrals at a bone gain of 1, what each unit of bone gain above 1 adds to them, and
        bool where there is film.
    """
    planes_a_step = max(round(LATTICE_STEP_MM / ray_mm), 1)
    step_mm = planes_a_step * ray_mm
    # How many steps of the lattice each patient reaches in front of and behind its middle.
    reaches = [[math.ceil(view.half_depth_mm / step_mm) for view in draw.views] for draw in draws]
    # All that the device needs to know in a few copies, none of which is waited for.
    rays, halves, shutters = (
        torch.from_numpy(np.stack(parts).astype(np.float32)).to(device, non_blocking=True)
        for parts in (
            [[view.rays for view in draw.views] for draw in draws],
            [draw.patient.half_mm for draw in draws],
            [[(view.half_rows, *view.columns) for view in draw.views] for draw in draws],
        )
    )
    matrices = torch.stack([draw.deformation.matrix for draw in draws]).to(device, non_blocking=True)
    fields = torch.stack([draw.deformation.displacement for draw in draws]).to(device, non_blocking=True)
    shifts = torch.stack([draw.shift.table for draw in draws]).to(device, non_blocking=True)
    shift_reaches = torch.stack([draw.shift.reach for draw in draws]).to(device, non_blocking=True)
    pixels = _coarse_pixels(shape, pixel_mm, device)
    lattices, lengths, films = [], [], []
    for which, axis in enumerate(DEPTH_AXIS):
        most = max(reach[which] for reach in reaches)
        points, length = _lattice(rays[:, which], pixels, most, step_mm, axis)
        # Of the volume's faces, -1 and 1, as grid_sample has it, with the last axis first.
        origin = shift_source(source(points, matrices, fields), shifts, shift_reaches)
        where = (origin / halves[:, None, None, None]).flip(-1).movedim(-1, 1)
        lattices.append(where)
        lengths.append(_enlarged(length, shape))
        films.append(_enlarged(share_on_film(where), shape) > 0.5)
    values = []
    for i, draw in enumerate(draws):
        volume = (draw.patient.hu.float() - AIR_HU).clamp_(min=0.0)
        for which, where in enumerate(lattices):
            reach, middle = reaches[i][which], where.shape[2] // 2
            part = where[i, :, middle - reach : middle + reach + 1]
            values.append(_sums(volume, part, planes_a_step, shape))
    total, bone = (torch.stack(parts).unflatten(0, (-1, 2)) for parts in zip(*values, strict=True))
    unit = torch.stack(lengths, 1) * (WATER_PER_MM * ray_mm / 1000)
    return total * unit, bone * unit, torch.stack(films, 1) & _between_shutters(shutters, shape)


def _between_shutters(shutters: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(B, 2, H, W) bool, of (B, 2, 3) half the rows, first and last column with film."""
    half, first, last = shutters[..., None].unbind(2)
    row, column = (torch.arange(n, device=shutters.device) for n in shape)
    rows, columns = (row - (shape[0] - 1) / 2).abs() <= half, (column >= first) & (column <= last)
    return rows[..., None] & columns[..., None, :]


def _coarse_pixels(shape: tuple[int, int], pixel_mm: float, device: torch.device) -> torch.Tensor:
    """(r, c, 3) rows ``[1, r, c]`` of pixels of a window, far apart, the window's corners in the corners."""
    counts = [math.ceil(n * pixel_mm / LATTICE_STEP_MM) + 1 for n in shape]
    axes = [torch.linspace(0, n - 1, count, device=device) for n, count in zip(shape, counts, strict=True)]
    plane = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return torch.cat([torch.ones_like(plane[..., :1]), plane], -1)


def _lattice(
    rays: torch.Tensor, pixels: torch.Tensor, reach: int, step_mm: float, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays cross planes of the patients.

    Args:
        rays: (B, 2, 3, 3) origins and directions in mm along I, P, L, per constant, row and column of a pixel.
        pixels: (r, c, 3) rows ``[1, r, c]``.
        reach: planes in front of and behind the middle.
        step_mm: distance of the planes.
        axis: across which they lie.

    Returns:
        points (B, 2 reach + 1, r, c, 3), and how much of each ray (B, r, c) lies between two planes 1 mm apart.
    """
    depths = torch.arange(-reach, reach + 1, device=rays.device) * step_mm
    origin, direction = (torch.einsum("rcj,bjk->brck", pixels, rays[:, part]) for part in (0, 1))
    along = direction / direction[..., axis, None]
    foot = origin - origin[..., axis, None] * along
    return foot[:, None] + depths[:, None, None, None] * along[:, None], along.norm(dim=-1)


def _enlarged(coarse: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(B, r, c) at every pixel of a window."""
    return F.interpolate(coarse[:, None], shape, mode="bilinear", align_corners=True)[:, 0]


def _sums(
    volume: torch.Tensor, where: torch.Tensor, planes_a_step: int, shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums along the rays of one window: of what lies above air, and of what lies above the beginning of bone.

    Args:
        volume: (I, P, L) HU above air.
        where: (3, depth, r, c) coarse lattice in `grid_sample`'s units.
        planes_a_step: fine planes from one coarse plane to the next.
        shape: (H, W) of a fine plane, its corners those of a coarse one.
    """
    # In the plane and across it one after the other: a quarter faster than all three at once.
    planes = F.interpolate(where.movedim(1, 0), size=shape, mode="bilinear", align_corners=True)
    share = (torch.arange(planes_a_step, device=where.device) / planes_a_step)[:, None, None, None]
    fine = torch.lerp(planes[:-1, None], planes[1:, None], share).flatten(0, 1).movedim(1, -1)
    values = F.grid_sample(volume[None, None], fine[None], align_corners=False, padding_mode="zeros")[0, 0]
    return sums_along_rays(values)
