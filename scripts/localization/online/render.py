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

from scripts.data.online.render import AIR_HU, line_integrals
from scripts.geometry.biplanar import View
from scripts.geometry.frames import IPL_AXES
from scripts.localization.films import MachineRange, draw_geometry
from scripts.localization.online.deformation import BodyDeformation, DrawnDeformation, draw_deformation, source
from scripts.localization.online.patient import CORONAL, SAGITTAL, FilmPatient
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
        points: (N, 5, 2) centroid and corners, pixels of the window; NaN where there are none.
        half_rows: rows of the window above and below its middle in which there is film; negative for a film that is
            missing.
        half_depth_mm: how far the patient reaches in front of and behind its middle.
    """

    rays: np.ndarray
    points: np.ndarray
    half_rows: float
    half_depth_mm: float


@dataclass(frozen=True)
class FilmsDraw:
    """All that was drawn for one item.

    Args:
        patient: who is filmed.
        deformation: of it.
        views: AP and LAT.
    """

    patient: FilmPatient
    deformation: DrawnDeformation
    views: tuple[ViewDraw, ViewDraw]


def draw_films(
    patient: FilmPatient,
    machines: MachineRange,
    deformation: BodyDeformation,
    windows: WindowOptions,
    random: np.random.RandomState,
) -> FilmsDraw:
    """A deformed patient in a random machine, and a window of each of its films.

    Args:
        patient: who is filmed.
        machines: that take the films.
        deformation: how far the patient may be deformed.
        windows: how windows are drawn.
        random: source of everything.
    """
    drawn = draw_deformation(deformation, random)
    points = drawn.target(patient.points)
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
    return FilmsDraw(patient, drawn, (views[0], views[1]))


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
    if place.mirrored:
        flip = np.diag([1.0, 1.0, -1.0])
        flip[0, 2] = shape[1] - 1
        to_film = flip @ to_film
    rays = np.stack([to_film @ basis @ IPL_AXES.T for basis in view.ray_basis()])
    return ViewDraw(rays, moved, -1.0 if place.dropped else place.half_rows, half_depth_mm)


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
    rays = np.stack([[view.rays for view in draw.views] for draw in draws]).astype(np.float32)
    # All that the device needs to know in three copies, none of which it has to be waited for.
    rays_there = torch.from_numpy(rays).to(device, non_blocking=True)
    matrices = torch.stack([draw.deformation.matrix for draw in draws]).to(device, non_blocking=True)
    fields = torch.stack([draw.deformation.displacement for draw in draws]).to(device, non_blocking=True)
    counts = [math.ceil(n * pixel_mm / LATTICE_STEP_MM) + 1 for n in shape]
    axes = [torch.linspace(0, n - 1, count, device=device) for n, count in zip(shape, counts, strict=True)]
    plane = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    pixels = torch.cat([torch.ones_like(plane[..., :1]), plane], -1)
    totals, bones, films = [], [], []
    for i, draw in enumerate(draws):
        volume = (draw.patient.hu.float() - AIR_HU).clamp_(min=0.0)
        for which, view in enumerate(draw.views):
            points, length, planes = _lattice(
                rays_there[i, which], pixels, view.half_depth_mm, DEPTH_AXIS[which], ray_mm
            )
            index = source(points, matrices[i], fields[i]) / draw.patient.spacing_mm
            index += torch.tensor([(n - 1) / 2 for n in volume.shape]).to(device, non_blocking=True)
            total, bone, film = line_integrals(volume, index, (planes, *shape), ray_mm)
            stretch = F.interpolate(length[None, None], shape, mode="bilinear", align_corners=True)[0, 0]
            totals.append(total * stretch)
            bones.append(bone * stretch)
            films.append(film)
    total, bone, film = (torch.stack(parts).unflatten(0, (-1, 2)) for parts in (totals, bones, films))
    reach = torch.tensor([[view.half_rows for view in draw.views] for draw in draws]).to(device, non_blocking=True)
    away = (torch.arange(shape[0], device=device) - (shape[0] - 1) / 2).abs()
    return total, bone, (film > 0.5) & (away <= reach[..., None])[..., None]


def _lattice(
    rays: torch.Tensor, pixels: torch.Tensor, half_depth_mm: float, axis: int, ray_mm: float
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Where rays cross planes of the patient.

    Args:
        rays: see `ViewDraw`.
        pixels: (r, c, 3) rows ``[1, r, c]``.
        half_depth_mm: see `ViewDraw`.
        axis: across which the planes lie.
        ray_mm: distance of the planes.

    Returns:
        points (depth, r, c, 3) on a coarse lattice, how much of each ray (r, c) lies between two planes 1 mm apart, and
        the number of planes.
    """
    planes = math.ceil(2 * half_depth_mm / ray_mm) + 1
    end = (planes - 1) / 2 * ray_mm
    depths = torch.linspace(-end, end, math.ceil(2 * end / LATTICE_STEP_MM) + 1, device=rays.device)
    origin, direction = pixels @ rays[0], pixels @ rays[1]
    along = direction / direction[..., axis, None]
    foot = origin - origin[..., axis, None] * along
    return foot + depths[:, None, None, None] * along, along.norm(dim=-1), planes
