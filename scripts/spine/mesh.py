"""Closed vertebra surfaces in patient millimetres, and the files they are handed on in (STL, OBJ, PLY, GLB)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fast_simplification
import numpy as np
import trimesh
from skimage.measure import marching_cubes
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.geometry.components import bounding_box
from scripts.levels import in_order, level_name

# 3D Slicer reads the SPACE tag and takes an STL file without one for LPS, which would turn the spine by 180 degrees.
# A binary STL must not begin with "solid", or readers take it for text.
STL_HEADER = b"Vertebra surface. UNIT=mm SPACE=RAS".ljust(80)

# glTF is in metres, Y up, front towards +Z: X = left, Y = superior, Z = anterior.
RAS_MM_TO_GLTF = np.array(
    [[-0.001, 0.0, 0.0, 0.0], [0.0, 0.0, 0.001, 0.0], [0.0, 0.001, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
GLB_ROOT = "spine_RAS_mm"

# Taubin's pair of weights (doi 10.1145/218380.218473): each shrinking step is undone by a slightly larger inflating
# one, so that stairs of one voxel go and the volume stays.
_TAUBIN_STEPS = 20
_TAUBIN_SHRINK = 0.5
_TAUBIN_INFLATE = 0.53
# Probabilities nearer to the iso level than this are moved away from it: a surface through a voxel centre has
# triangles of zero area, which collapse in the float32 of STL and leave the surface open there.
_ISO_CLEARANCE = 1e-3
_MAX_VOLUME_CHANGE = 0.01


def vertebra_mesh(probability: np.ndarray, affine: np.ndarray, iso_level: float = 0.5) -> trimesh.Trimesh:
    """Closed surface where a volume crosses the iso level, outward normals, vertices in world RAS mm.

    A soft volume keeps its sub-voxel surface as it is. A hard 0/1 mask has none, so its stairs are smoothed (volume
    within 2 %) and the iso level plays no role. Separate pieces all stay: what to drop is not decided here.

    Args:
        probability: (I, J, K) array of probabilities, or a mask of bool or 0/1; any axis order.
        affine: (4, 4) voxel index -> world RAS mm; its determinant may have either sign.
        iso_level: probability at the surface.

    Returns:
        Surface with vertices in mm; watertight also where the volume is cut off by its border.

    Raises:
        UserError: nothing is above the iso level, or the volume holds NaN or infinity.
        ValueError: the volume is not 3-D or the affine is not an invertible 4x4 matrix.
    """
    if probability.ndim != 3:
        raise ValueError(f"expected a 3-D volume, got shape {probability.shape}")
    if affine.shape != (4, 4) or np.linalg.det(affine[:3, :3]) == 0:
        raise ValueError(f"expected an invertible 4x4 affine, got {affine.tolist()}")
    if not np.isfinite(probability).all():
        raise UserError("no vertebra surface: the volume holds NaN or infinite values; check the model's output")
    inside = probability > iso_level
    inner = bounding_box(inside)
    if inner is None:
        highest = float(np.max(probability, initial=0))
        raise UserError(f"no vertebra surface: highest probability {highest:.2f} is not above {iso_level:g}")

    # One voxel around the box holds all of the surface, and one of zeros closes it where the volume ends.
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in inner)
    volume = np.pad(probability[box].astype(np.float32), 1)
    hard = bool(((volume == 0) | (volume == 1)).all())
    level = 0.5 if hard else iso_level
    distance = volume - level
    near = np.abs(distance) < _ISO_CLEARANCE
    volume[near] = level + np.where(distance[near] > 0, _ISO_CLEARANCE, -_ISO_CLEARANCE)
    vertices, faces, _, _ = marching_cubes(volume, level)

    offset = np.array([s.start - 1 for s in box])
    vertices = (vertices + offset) @ affine[:3, :3].T + affine[:3, 3]
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if hard:
        trimesh.smoothing.filter_taubin(mesh, _TAUBIN_SHRINK, _TAUBIN_INFLATE, _TAUBIN_STEPS)
    # trimesh's volume computes all moments of the body.
    corners = mesh.vertices.view(np.ndarray)[faces] - mesh.vertices[0]
    if np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) < 0:
        mesh.invert()
    return mesh


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each the mean of its triangles' weighted by area; trimesh, by angle, is slower.

    Args:
        vertices: (V, 3).
        faces: (F, 3), each triangle anticlockwise from outside.
    """
    first, second, third = (vertices[faces[:, k]] for k in range(3))
    area = np.cross(second - first, third - first)
    corner = faces.ravel()
    normals = np.stack([np.bincount(corner, area[:, k].repeat(3), len(vertices)) for k in range(3)], axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def write_stl(mesh: trimesh.Trimesh, path: str | Path) -> None:
    """Write a binary STL in the mesh's own RAS mm; the header names unit and frame and nothing of the patient.

    Args:
        mesh: surface in RAS mm.
        path: file to write; missing folders are made.
    """
    data = trimesh.exchange.stl.export_stl(mesh)
    _write(path, STL_HEADER + data[len(STL_HEADER) :])


def decimated(mesh: trimesh.Trimesh, keep: float) -> trimesh.Trimesh:
    """The surface with fewer triangles (quadric error; Garland and Heckbert 1997, doi 10.1145/258734.258849).

    What would open the surface or change its volume by more than 1 % is done less far.

    Args:
        mesh: closed.
        keep: share of the triangles, above 0 and at most 1.
    """
    volume = mesh.volume if keep < 1 else 0.0
    while keep < 1:
        vertices, faces = fast_simplification.simplify(
            mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_reduction=1 - keep
        )
        fewer = trimesh.Trimesh(vertices, faces, process=False)
        if fewer.is_watertight and fewer.is_winding_consistent and abs(fewer.volume / volume - 1) < _MAX_VOLUME_CHANGE:
            return fewer
        keep = min(1.0, 1.4 * keep)
    return mesh


def write_meshes(meshes: dict[int, trimesh.Trimesh], folder: Path, formats: tuple[str, ...], keep: float = 1.0) -> None:
    """Every vertebra as ``meshes/LEVEL.FORMAT``, and all of them as ``spine.glb``.

    Args:
        meshes: VerSe number -> surface in RAS mm; nothing is written without one.
        folder: to write into.
        formats: of stl, obj and ply.
        keep: share of the triangles to keep, above 0 and at most 1.

    Raises:
        UserError: an unknown format or share.
    """
    check_meshes(formats, keep)
    fewer = {number: decimated(mesh, keep) for number, mesh in meshes.items()}
    for number, mesh in fewer.items():
        if not np.isfinite(mesh.vertices).all():
            raise UserError(f"{level_name(number)}: its surface has points at no finite place")
        for name in formats:
            WRITERS[name](mesh, folder / "meshes" / f"{level_name(number)}.{name}")
    if fewer:
        write_glb(fewer, folder / "spine.glb")


def check_meshes(formats: tuple[str, ...], keep: float) -> None:
    """Raise a UserError for an unknown format or a share that is not above 0 and at most 1."""
    unknown = set(formats) - set(WRITERS)
    if unknown:
        raise UserError(f"--mesh-formats {','.join(sorted(unknown))}: choose from {', '.join(WRITERS)}")
    if not 0 < keep <= 1:
        raise UserError(f"--decimate {keep:g}: a share of the triangles to keep, above 0 and at most 1")


def write_obj(mesh: trimesh.Trimesh, path: str | Path) -> None:
    """Write an OBJ in the mesh's own RAS mm, which its first line says.

    Args:
        mesh: surface in RAS mm.
        path: file to write; missing folders are made.
    """
    text = trimesh.exchange.obj.export_obj(_bare(mesh), include_color=False, header="unit mm, frame RAS")
    _write(path, text.encode())


def write_ply(mesh: trimesh.Trimesh, path: str | Path) -> None:
    """Write a binary PLY in the mesh's own RAS mm.

    Args:
        mesh: surface in RAS mm.
        path: file to write; missing folders are made.
    """
    data = trimesh.exchange.ply.export_ply(_bare(mesh), include_attributes=False)
    _write(path, data.replace(b"comment https://github.com/mikedh/trimesh", b"comment unit mm, frame RAS", 1))


def write_glb(meshes: dict[int, trimesh.Trimesh], path: str | Path) -> None:
    """Write all vertebrae as one binary glTF: a coloured node per level, named, from head to foot.

    Vertices stay in RAS mm; the root node alone turns them into glTF's metres and Y-up axes.

    Args:
        meshes: VerSe number -> surface in RAS mm.
        path: file to write; missing folders are made.

    Raises:
        UserError: there is no mesh, or a number is not a vertebra.
    """
    if not meshes:
        raise UserError("no vertebra to write into the GLB file: reconstruct at least one level first")
    names = {number: level_name(number) for number in meshes}
    scene = trimesh.Scene()
    scene.graph.update(frame_from=scene.graph.base_frame, frame_to=GLB_ROOT, matrix=RAS_MM_TO_GLTF)
    for number in in_order(list(meshes)):
        mesh = _bare(meshes[number])
        mesh.vertex_normals = vertex_normals(mesh.vertices.view(np.ndarray), mesh.faces.view(np.ndarray))
        mesh.visual = TextureVisuals(material=_material(number))
        scene.add_geometry(mesh, node_name=names[number], geom_name=names[number], parent_node_name=GLB_ROOT)
    _write(path, trimesh.exchange.gltf.export_glb(scene, include_normals=True))


WRITERS: dict[str, Callable[[trimesh.Trimesh, Path], None]] = {"stl": write_stl, "obj": write_obj, "ply": write_ply}


def _bare(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Vertices and faces only: the metadata of a mesh that was read from a file holds its path."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def _write(path: str | Path, data: bytes) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _material(number: int) -> PBRMaterial:
    """Matt bone in the level's colour; glTF wants it linear, not sRGB."""
    colour = np.array(level_colour(number)) / 255
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    factor = [*(linear * 255).round().astype(int).tolist(), 255]
    return PBRMaterial(name=level_name(number), baseColorFactor=factor, metallicFactor=0.0, roughnessFactor=0.7)
