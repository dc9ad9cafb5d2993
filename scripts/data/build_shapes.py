"""How ``shapes/`` was made from public masks and surfaces; not needed to simulate.

    python -m scripts.data.build_shapes SOURCES.json

``SOURCES.json``, such as ``docs/training/shape_sources.json``, is a list of subjects: ``subject``, ``path`` (a
labelmap, a folder of one mask a level, a folder of surfaces, or a folder with Clouthier's tables), ``axcodes`` of
surfaces, ``unit_mm`` of their numbers, ``levels`` to take, ``licence`` and ``source``; its paths are relative to it.
A single vertebra has no neighbours that say where the spine runs: it is turned onto the average vertebra of its level,
which then gives its size too, so single ones come last. ``turned_by_average`` names levels that are turned likewise,
since the one neighbour they have lies askew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import trimesh
from scipy import ndimage

from scripts.anatomy.alignment import frame_from_average
from scripts.anatomy.centroids import body_centroid
from scripts.anatomy.distances import pair_statistics
from scripts.anatomy.shapes import SACRUM, SHAPE_SPACING_MM, SHAPES_FOLDER, level_key
from scripts.command import run_module
from scripts.geometry.components import largest_part
from scripts.geometry.frames import IPL_AXES, Grid, bounding_grid, resample
from scripts.geometry.symmetry import symmetry_plane
from scripts.io.nifti import open_nifti
from scripts.levels import LEVEL_NAMES, LEVEL_NUMBERS, level_in_name, level_name, level_number

# Occupancy (X, Y, Z) of one vertebra and its affine, index -> RAS mm.
Solid = tuple[np.ndarray, np.ndarray]


def build_subject(row: dict[str, Any], root: Path) -> None:
    """One subject's shape file."""
    path = root / row["path"]
    wanted = {SACRUM if name == "S1" else level_number(name) for name in row["levels"]}
    if path.is_file():
        solids = _from_labelmap(path, row)
    elif any(path.glob("*.nii.gz")):
        solids = {level_number(p.name.split("_")[0]): _read(p, row) for p in sorted(path.glob("*.nii.gz"))}
    elif (path / "meanMesh_faces.csv").is_file():
        solids = _from_tables(path, row)
    else:
        solids = _from_surfaces(path, row)
    solids = {number: solids[number] for number in sorted(solids) if number in wanted}
    fine = {number: _canonical(solid) for number, solid in solids.items()}
    centroids = {number: centre(number, mask, grid) for number, (mask, grid) in fine.items()}
    about, arrays = [], {}
    for number, solid in solids.items():
        frame, pitch = own_frame(number, fine[number], centroids)
        if len(solids) == 1 or level_key(number) in row.get("turned_by_average", ()):
            frame, from_size = frame_from_average(number, *solid, centroids[number])
            pitch = pitch or from_size
        if number != SACRUM:
            frame = _facing_back(solid, centroids[number], frame)
        mask, origin = _into_frame(solid, centroids[number], frame)
        about.append({"number": number, "size": mask.shape, "origin": origin, "pitch_mm": round(pitch, 2)})
        arrays[level_key(number)] = np.packbits(mask)
        volume = mask.sum() * SHAPE_SPACING_MM**3 / 1000
        print(f"{row['subject']:14} {level_key(number):3} {volume:6.1f} cm3  pitch {pitch:4.1f} mm  {mask.shape}")
    meta = {"source": row["source"], "licence": row["licence"], "vertebrae": about}
    SHAPES_FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(SHAPES_FOLDER / f"{row['subject']}.npz", about=json.dumps(meta), **arrays)


def centre(number: int, mask: np.ndarray, grid: Grid) -> np.ndarray:
    """The origin of a shape's frame, world mm: a vertebra's mark, and the middle of a sacrum's plate."""
    if number == SACRUM:
        top = mask[: max(round(25 / grid.spacing_mm), 1)]
        rows = np.argwhere(top)
        front = rows[rows[:, 1] < np.percentile(rows[:, 1], 35)]
        return grid.to_world(np.array([15 / grid.spacing_mm, front[:, 1].mean(), np.median(rows[:, 2])]))
    return body_centroid(number, mask, grid)


def own_frame(
    number: int, solid: tuple[np.ndarray, Grid], centroids: dict[int, np.ndarray]
) -> tuple[np.ndarray, float]:
    """A vertebra's own axes as world vectors (rows: down, back, left), and its mean distance to its neighbours."""
    numbers = sorted(centroids)
    place = numbers.index(number)
    neighbours = [n for n in numbers[max(place - 1, 0) : place + 2] if abs(n - number) <= 1]
    if number == SACRUM:
        down = np.array([0.0, 0.0, -1.0])
    elif number == 1 and 3 in centroids:
        down = centroids[3] - centroids[1]  # see Posture.frames
    elif len(neighbours) > 1:
        down = centroids[neighbours[-1]] - centroids[neighbours[0]]
    else:
        down = np.array([0.0, 0.0, -1.0])
    down = down / np.linalg.norm(down)
    if len(neighbours) == 2 and number != 1:
        down = _turn_backwards(down, _missing_turn_deg(number, neighbours))
    steps = [np.linalg.norm(centroids[n] - centroids[number]) for n in neighbours if n != number]
    mask, grid = solid
    # Arch and processes lie straight behind the body in a vertebra that is not turned.
    behind = grid.to_world(np.array(ndimage.center_of_mass(mask))) - centroids[number]
    if number in (1, SACRUM):
        behind = np.array([0.0, -1.0, 0.0])
    behind = behind - (behind @ down) * down
    behind /= np.linalg.norm(behind)
    left = np.cross(down, behind)
    return np.stack([down, behind, left]), float(np.mean(steps)) if steps else 0.0


def _missing_turn_deg(number: int, neighbours: list[int]) -> float:
    """How far the mean spine's direction between both neighbours is turned backwards from that to the only one known.

    0 at the two ends of the spine, where neighbours are missing.
    """
    if min(neighbours) == number:
        known, missing = (number, number + 1), (number - 1, number)
    else:
        known, missing = (number - 1, number), (number, number + 1)
    names = [
        f"{level_name(a)}-{level_name(b)}" if a in LEVEL_NAMES and b in LEVEL_NAMES else "" for a, b in (known, missing)
    ]
    rows = [pair_statistics().get(name) for name in names]
    if rows[0] is None or rows[1] is None or missing[1] == LEVEL_NUMBERS["L6"]:
        return 0.0
    return float(rows[1]["sagittal_deg"] - rows[0]["sagittal_deg"]) / 2


def _turn_backwards(down: np.ndarray, degrees: float) -> np.ndarray:
    """A world direction turned in the sagittal plane from Inferior towards Posterior."""
    inferior, posterior, left = IPL_AXES @ down
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([cos * inferior - sin * posterior, sin * inferior + cos * posterior, left]) @ IPL_AXES


def _facing_back(solid: Solid, centroid: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A frame turned about its first axis until its second lies in the plane in which the vertebra mirrors itself.

    A bent spinous or a broken transverse process turns the direction to the centre of mass by up to 17 degrees.
    """
    for _ in range(2):
        mask, origin = _into_frame(solid, centroid, frame)
        room = 20
        turn = symmetry_plane(np.pad(mask, room).astype(np.float32), np.array(origin) + room)
        down, behind, left = frame
        behind = np.cos(turn) * behind + np.sin(turn) * left
        frame = np.stack([down, behind, np.cross(down, behind)])
    return frame


def _into_frame(solid: Solid, centroid: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, list[float]]:
    occupancy, affine = solid
    # Sampled in the frame's own grid: a canonical grid whose world has been turned into the frame.
    turn = np.eye(4)
    turn[:3, :3] = IPL_AXES.T @ frame
    turn[:3, 3] = -turn[:3, :3] @ centroid
    grid = bounding_grid(turn @ affine, occupancy.shape, SHAPE_SPACING_MM)
    share = resample(torch.from_numpy(occupancy), turn @ affine, grid).numpy()
    mask = largest_part(share > 0.5)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    # Room for the distance around it.
    margin = 4
    mask = np.pad(mask[box], margin)
    start = np.array([s.start for s in box]) - margin
    origin = grid.to_index(np.zeros(3)) - start
    return mask, [round(float(v), 3) for v in origin]


def _canonical(solid: Solid) -> tuple[np.ndarray, Grid]:
    grid = bounding_grid(solid[1], solid[0].shape)
    mask = resample(torch.from_numpy(solid[0]), solid[1], grid).numpy() > 0.5
    return mask, grid


def _smooth(mask: np.ndarray, affine: np.ndarray) -> Solid:
    """A mask's box, its stairs blurred by half a voxel along each axis."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    margin = 3
    part = np.pad(mask[box].astype(np.float32), margin)
    shifted = affine.copy()
    shifted[:3, 3] = affine[:3, :3] @ (np.array([s.start for s in box]) - margin) + affine[:3, 3]
    return ndimage.gaussian_filter(part, 0.6), shifted


def _read(path: Path, row: dict[str, Any]) -> Solid:
    file = open_nifti(path)
    return _smooth(file.array > 0, _affine(file.affine, row))


def _from_labelmap(path: Path, row: dict[str, Any]) -> dict[int, Solid]:
    file = open_nifti(path)
    labels = np.rint(file.array).astype(int)
    affine = _affine(file.affine, row)
    return {int(n): _smooth(labels == n, affine) for n in np.unique(labels) if n}


def _affine(affine: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    """A header's affine, or the true one where the subject's row corrects it (isotropic files only)."""
    if "spacing_mm" not in row:
        return affine
    corrected = np.eye(4)
    corrected[:3, :3] = 0
    for axis, (world, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(row["axcodes"]))):
        corrected[int(world), axis] = sign * row["spacing_mm"]
    return corrected


def _from_surfaces(path: Path, row: dict[str, Any]) -> dict[int, Solid]:
    solids = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() not in (".stl", ".obj"):
            continue
        number = SACRUM if file.stem.startswith("S1") else level_in_name(file.stem)
        if number is not None:
            solids[number] = _voxels(trimesh.load_mesh(file), row)
    return solids


def _from_tables(path: Path, row: dict[str, Any]) -> dict[int, Solid]:
    """Clouthier's mean lumbar spine: L2-L5 as one vertex and one face table, head first."""
    vertices = np.loadtxt(path / "meanMesh_vertices.csv", delimiter=",")
    faces = np.loadtxt(path / "meanMesh_faces.csv", delimiter=",").astype(int) - 1
    parts = trimesh.Trimesh(vertices, faces, process=False).split(only_watertight=False)
    parts = sorted(parts, key=lambda part: -part.bounds[:, 2].mean())
    return {LEVEL_NUMBERS[f"L{2 + i}"]: _voxels(part, row) for i, part in enumerate(parts)}


def _voxels(surface: trimesh.Trimesh, row: dict[str, Any]) -> Solid:
    """A surface as smooth occupancy of 0.6 mm; small holes in it are closed first."""
    pitch = 0.6
    surface = trimesh.Trimesh(surface.vertices * row.get("unit_mm", 1.0), surface.faces)
    surface.merge_vertices()
    trimesh.repair.fill_holes(surface)
    shell = surface.voxelized(pitch)
    crossed = np.pad(shell.matrix, 3)
    closed = ndimage.binary_closing(crossed, iterations=2) | crossed
    solid = ndimage.binary_fill_holes(closed)
    # The voxels that the surface crosses are half inside.
    occupancy = ndimage.gaussian_filter(np.where(crossed, 0.5, solid).astype(np.float32), 0.8)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    start = shell.transform[:3, 3] - 3 * pitch
    for axis, (world, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(row["axcodes"]))):
        affine[int(world), axis] = sign * pitch
        affine[int(world), 3] = sign * start[axis]
    return occupancy, affine


def build_subjects(manifest: Path) -> None:
    """All subjects of a list, a JSON file; their files lie beside it."""
    for subject in json.loads(manifest.read_text()):
        build_subject(subject, manifest.parent)


if __name__ == "__main__":
    run_module(build_subjects)
