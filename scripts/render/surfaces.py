"""The spine in 3D as a picture, drawn by a z-buffer in numpy: it needs no display, GPU or OpenGL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import trimesh
from scipy.ndimage import gaussian_filter

from scripts.drawing import BACKGROUND, level_colour
from scripts.geometry.frames import Grid
from scripts.spine.mesh import vertex_normals

View = Literal["front", "left", "back", "right", "oblique", "side", "top"]
# Degrees the viewer has walked around the patient (from in front towards the patient's left), and has risen.
Angles = tuple[float, float]
# VerSe number -> vertices (V, 3) and their normals (V, 3), both in (I, P, L) mm, and triangles (F, 3) of vertices.
Surfaces = dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]

ANGLES: dict[View, Angles] = {
    "front": (0.0, 0.0),
    "left": (90.0, 0.0),
    "back": (180.0, 0.0),
    "right": (270.0, 0.0),
    "oblique": (135.0, 0.0),
    "side": (60.0, 0.0),
    "top": (0.0, 90.0),
}

_FINE = 2  # supersampling in each direction
# Towards the light in the viewer's frame (right, down, away): a key light from the upper left, a weak one against it.
_LIGHTS = (((-0.50, -0.62, -0.61), 0.80), ((0.80, 0.10, -0.59), 0.25))
_AMBIENT, _HIGHLIGHT, _DEPTH_CUE = 0.24, 0.16, 0.22
# Hollows are darkened where the surroundings stand nearer to the viewer: radius in mm, strength per mm.
_HOLLOWS = ((1.5, 0.10), (5.0, 0.045))


def mesh_surfaces(meshes: Mapping[int, trimesh.Trimesh], grid: Grid) -> Surfaces:
    """Surfaces that exist already, in mm from the outer corner of a labelmap's grid.

    Args:
        meshes: VerSe number -> closed surface in world RAS mm.
        grid: of the labelmap.
    """
    found = {}
    for number, mesh in meshes.items():
        # The turn from world to grid axes is no mirror image, so triangles keep their outer side.
        vertices = (grid.to_index(mesh.vertices.view(np.ndarray)) + 0.5) * grid.spacing_mm
        faces = mesh.faces.view(np.ndarray)
        found[number] = vertices, vertex_normals(vertices, faces), faces
    return found


def render_surfaces(
    surfaces: Surfaces, size_mm: np.ndarray, angles: Angles, scale: float, width_mm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8 from one side and (H, W) VerSe numbers of what it shows (0 = background).

    Args:
        surfaces: what to draw.
        size_mm: (3,) of the box they lie in; its middle is the picture's.
        angles: degrees by which the viewer has walked around the patient, from in front towards the left, and has
            risen.
        scale: pixels a mm.
        width_mm: of the picture; what the box needs from that side if None.
    """
    azimuth, elevation = np.deg2rad(angles)
    sine, cosine = np.sin(azimuth), np.cos(azimuth)
    level_away, down = np.array([0.0, cosine, -sine]), np.array([1.0, 0.0, 0.0])
    # Rows: image right, image down, away from the viewer; columns: I, P, L.
    axes = np.array(
        [
            [0.0, sine, cosine],
            np.cos(elevation) * down - np.sin(elevation) * level_away,
            np.cos(elevation) * level_away + np.sin(elevation) * down,
        ]
    )
    needs = np.abs(axes[:2]).round(12) @ size_mm
    height, width = (
        _FINE * max(1, round(float(mm) * scale)) for mm in (needs[1], needs[0] if width_mm is None else width_mm)
    )
    depth = np.full(height * width, np.inf)
    normal = np.zeros((height * width, 3))
    number: np.ndarray = np.zeros(height * width, np.uint8)
    for level, (vertices, normals, faces) in surfaces.items():
        seen_from = (vertices - size_mm / 2) @ axes.T
        image_points = seen_from[:, :2] * scale * _FINE + [width / 2 - 0.5, height / 2 - 0.5]
        corners, pixel, weights = _cover(image_points, faces, height, width)
        away = np.einsum("nk,nk->n", weights, seen_from[:, 2][corners])
        np.minimum.at(depth, pixel, away)
        nearest = away == depth[pixel]
        corners, pixel, weights = corners[nearest], pixel[nearest], weights[nearest]
        normal[pixel] = np.einsum("nk,nkc->nc", weights, normals[corners]) @ axes.T
        number[pixel] = level
    seen = number > 0
    normal[seen] /= np.maximum(np.linalg.norm(normal[seen], axis=1, keepdims=True), 1e-9)
    shape = (height, width)
    fine = _shade(depth.reshape(shape), normal.reshape(*shape, 3), number.reshape(shape), scale)
    image = np.mean([fine[i::_FINE, j::_FINE] for i in range(_FINE) for j in range(_FINE)], axis=0)
    return (image * 255).round().astype(np.uint8), number.reshape(shape)[::_FINE, ::_FINE]


def _cover(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel centres inside the triangles that face the viewer.

    Args:
        points: (V, 2) column and row in pixels.
        faces: (F, 3) triangles.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        For each of N hits the triangle's corners (N, 3), the flat pixel index (N,) and the corners' weights (N, 3).
    """
    first, second, third = (points[faces[:, k]] for k in range(3))
    to_second, to_third = second - first, third - first
    area = to_second[:, 0] * to_third[:, 1] - to_second[:, 1] * to_third[:, 0]
    low = np.maximum(np.ceil(np.minimum(np.minimum(first, second), third)), 0).astype(int)
    high = np.minimum(np.floor(np.maximum(np.maximum(first, second), third)), [width - 1, height - 1]).astype(int)
    # Rows grow downwards, so that a surface turned to the viewer has negative area. Most triangles hold no centre.
    some = np.flatnonzero((area < 0) & (high >= low).all(axis=1))
    first, to_second, to_third, area, low = first[some], to_second[some], to_third[some], area[some], low[some]
    extent = high[some] - low + 1
    count = extent[:, 0] * extent[:, 1]
    triangle = np.repeat(np.arange(len(some)), count)
    rank = np.arange(triangle.size) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(rank, extent[triangle, 0])
    row, column = row + low[triangle, 1], column + low[triangle, 0]
    right, down = column - first[triangle, 0], row - first[triangle, 1]
    of_second = (right * to_third[triangle, 1] - down * to_third[triangle, 0]) / area[triangle]
    of_third = (down * to_second[triangle, 0] - right * to_second[triangle, 1]) / area[triangle]
    hit = (of_second >= -1e-9) & (of_third >= -1e-9) & (of_second + of_third <= 1 + 1e-9)
    of_second, of_third = of_second[hit], of_third[hit]
    weights = np.stack([1 - of_second - of_third, of_second, of_third], axis=1)
    return faces[some[triangle[hit]]], (row * width + column)[hit], weights


def _shade(depth: np.ndarray, normal: np.ndarray, number: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) picture in 0-1: two lights, a highlight, darker hollows and farther parts, on the background."""
    seen = number > 0
    picture = np.broadcast_to(np.array(BACKGROUND) / 255, normal.shape).copy()
    if not seen.any():
        return picture
    coarse = seen[::_FINE, ::_FINE].astype(np.float32)
    coarse_depth = np.where(coarse > 0, depth[::_FINE, ::_FINE], 0).astype(np.float32)
    hollow = np.zeros(int(seen.sum()))
    for radius, strength in _HOLLOWS:
        share = gaussian_filter(coarse, radius * scale, truncate=3)
        around = gaussian_filter(coarse_depth, radius * scale, truncate=3) / np.maximum(share, 1e-6)
        # Beside a fine pixel that the coarse picture missed nothing may be near, and there is nothing to be hollow in.
        around[share < 0.02] = np.inf
        gap = depth[seen] - around.repeat(_FINE, axis=0).repeat(_FINE, axis=1)[seen]
        hollow += strength * np.clip(gap, 0, None)
    turned = normal[seen]
    light = np.full(len(turned), _AMBIENT)
    for direction, strength in _LIGHTS:
        light += strength * np.clip(turned @ np.array(direction), 0, None)
    half_way = np.array(_LIGHTS[0][0]) + np.array((0, 0, -1))
    shine = _HIGHLIGHT * np.clip(turned @ (half_way / np.linalg.norm(half_way)), 0, None) ** 24
    away = depth[seen] - depth[seen].min()
    light *= np.exp(-hollow) * (1 - _DEPTH_CUE * away / max(float(away.max()), 1e-6))
    palette = np.zeros((256, 3))
    for level in np.unique(number[seen]):
        palette[level] = np.array(level_colour(int(level))) / 255
    picture[seen] = np.clip(palette[number[seen]] * light[:, None] + shine[:, None], 0, 1)
    return picture
