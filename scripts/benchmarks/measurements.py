"""How well angles are measured on true masks of simulated spines: the tables of ``docs/measurements.md``.

    python -m scripts.benchmarks.measurements --count 20 [--seed 0] [--first-level 2]

Each vertebra's true pose is known from the simulation. Its endplates are read a second time from the exact signed
distance of its shape, in its own frame, by casting rays through the body, and turned by the true pose: the truth. The
measurement sees nothing but 1 mm masks and centroids. ``turned only`` compares with the measurement of the same shape
as it stands upright in its own frame instead: what turning and voxels alone cost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from scripts.command import run_module
from scripts.geometry.frames import IPL_AXES, Grid
from scripts.io.tables import markdown_table
from scripts.levels import LEVEL_NUMBERS, region
from scripts.measure.angles import FRONTAL, SAGITTAL, axial_rotation, tilt
from scripts.measure.body import C2_WIDTH_PER_DEPTH, INNER, NECK_INNER_WIDTH, NoBodyError, robust_plane
from scripts.measure.curves import KYPHOSIS, LORDOSIS, cobb_curves, sagittal_angle
from scripts.measure.pose import VertebraPose, estimate_pose
from scripts.simulation.deformation import DeformedShape
from scripts.simulation.posture import PostureOptions
from scripts.simulation.spine import Spine, SpineOptions, draw_spine, voxelise

PLATES = ("upper", "lower")


def simulated(seed: int, first_level: int = 1, scoliosis: float = 1.0) -> tuple[Spine, np.ndarray, Grid]:
    """A spine to L5, its labelmap and the labelmap's grid."""
    rng = np.random.default_rng([77, seed])
    options = SpineOptions(posture=PostureOptions(scoliosis_share=scoliosis))
    spine = draw_spine(tuple(range(first_level, 25)), options, rng)
    centroids = spine.posture.centroids
    low, high = centroids.min(0) - [45, 40, 50], centroids.max(0) + [45, 80, 50]
    origin = low @ IPL_AXES
    shape = np.ceil(high - low).astype(int)
    grid = Grid((origin[0], origin[1], origin[2]), (int(shape[0]), int(shape[1]), int(shape[2])))
    return spine, voxelise(spine, grid).labels, grid


def measured_poses(
    labels: np.ndarray, grid: Grid, levels: tuple[int, ...], centroids_mm: np.ndarray
) -> dict[int, VertebraPose]:
    """Poses of all vertebrae of a labelmap that have a body."""
    down = np.gradient(centroids_mm, axis=0)
    boxes = ndimage.find_objects(labels)
    poses = {}
    for number, centroid, direction in zip(levels, centroids_mm, down, strict=True):
        box = boxes[number - 1]
        place = grid.crop(tuple(s.start for s in box), (1, 1, 1))  # type: ignore[arg-type]
        try:
            poses[number] = estimate_pose(
                number, (labels[box] == number).astype(np.float32), place.affine, centroid, direction
            )
        except NoBodyError:
            continue
    return poses


def own_normals(shape: DeformedShape, level: int) -> dict[str, np.ndarray]:
    """Upward normals (3,) of both endplates in the shape's own frame, by rays through its exact signed distance."""

    def reach(direction: list[float], start: np.ndarray) -> np.ndarray:
        along = np.arange(0, 45, 0.2)
        points = start[:, None] + along[None, :, None] * np.array(direction)
        outside = shape.signed_distance(torch.from_numpy(points).float()).numpy() > 0
        first = outside.argmax(axis=1)
        return np.where(outside.any(axis=1) & (first > 0), along[first], np.nan)

    start = np.zeros((1, 3))
    for _ in range(2):
        front, back, left, right, up, down = (
            float(reach([float(v) for v in d], start)[0])
            for d in ([0, -1, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [-1, 0, 0], [1, 0, 0])
        )
        if level == LEVEL_NUMBERS["C2"]:
            up = min(up, down)
        start = start + np.nan_to_num([(down - up) / 2, (back - front) / 2, (left - right) / 2])
    depth, width = front + back, left + right
    if level == LEVEL_NUMBERS["C2"]:
        width = min(width, C2_WIDTH_PER_DEPTH * depth)
    half = np.array([INNER * depth / 2, (NECK_INNER_WIDTH if region(level) == "cervical" else INNER) * width / 2])
    grid = np.stack(np.meshgrid(np.arange(-30, 31.0), np.arange(-30, 31.0), indexing="ij"), -1).reshape(-1, 2)
    taper = 1 - ((grid / half) ** 2).sum(1)
    grid, taper = grid[taper > 0], taper[taper > 0]
    foot = np.column_stack([np.zeros(len(grid)), grid]) + start
    normals = {}
    for name, sign in zip(PLATES, (-1.0, 1.0), strict=True):
        height = sign * reach([sign, 0, 0], foot)
        good = np.isfinite(height) & (np.abs(height - np.nanmedian(height)) < 12)
        plane, _ = robust_plane(foot[good, 1:], height[good], taper[good])
        normal = np.array([-1.0, plane[1], plane[2]])
        normals[name] = normal / np.linalg.norm(normal)
    return normals


def upright_pose(shape: DeformedShape, level: int) -> VertebraPose | None:
    """The measurement of a shape in its own frame."""
    low, high = shape.half_extent_mm()
    axes = [torch.arange(float(a), float(b), 1.0) for a, b in zip(low, high, strict=True)]
    distance = shape.signed_distance(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)).numpy()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = IPL_AXES.T, low @ IPL_AXES
    try:
        # The share of each voxel that is inside: without it an endplate along the voxels is a staircase.
        return estimate_pose(level, np.clip(0.5 - distance, 0, 1), affine, np.zeros(3))
    except NoBodyError:
        return None


def true_poses(spine: Spine, measured: dict[int, VertebraPose], turned_only: bool) -> dict[int, VertebraPose]:
    """The measured poses with every direction replaced by the true one."""
    out = {}
    for level, shape, frame in zip(spine.posture.levels, spine.shapes, spine.posture.frames(), strict=True):
        pose = measured.get(level)
        if pose is None:
            continue
        # World direction of a direction in the own frame.
        turn = IPL_AXES.T @ frame
        if turned_only:
            upright = upright_pose(shape, level)
            if upright is None:
                continue
            normals = {n: IPL_AXES @ p.normal for n in PLATES if (p := getattr(upright, n)) is not None}
            forwards = turn @ IPL_AXES @ upright.axes[0]
        else:
            normals = own_normals(shape, level)
            forwards = turn @ np.array([0.0, -1.0, 0.0])
        plates = {
            name: None if getattr(pose, name) is None else replace(getattr(pose, name), normal=turn @ normals[name])
            for name in PLATES
        }
        axes = np.stack([forwards, pose.axes[1], pose.axes[2]])
        out[level] = replace(pose, axes=axes, upper=plates["upper"], lower=plates["lower"])  # type: ignore[arg-type]
    return out


def errors(spine: Spine, measured: dict[int, VertebraPose], truth: dict[int, VertebraPose]) -> list[dict[str, Any]]:
    """One row an angle: its kind, its level or region, measured minus true, and the reported standard deviation."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, where: str, a: Any, b: Any) -> None:
        rows.append({"kind": kind, "where": where, "error": a.degrees - b.degrees, "sd": a.sd, "true": b.degrees})

    for level, true in truth.items():
        pose = measured[level]
        for name in PLATES:
            if getattr(pose, name) is not None:
                for kind, plane in (("frontal tilt", FRONTAL), ("sagittal tilt", SAGITTAL)):
                    add(kind, region(level), tilt(getattr(pose, name), plane), tilt(getattr(true, name), plane))
        add("axial rotation", region(level), axial_rotation(pose), axial_rotation(true))
    for kind, ends in (("kyphosis T4-T12", KYPHOSIS), ("lordosis L1-L5", LORDOSIS)):
        a, b = sagittal_angle(measured, *ends), sagittal_angle(truth, *ends)
        if a and b:
            add(kind, "", a, b)
    # The frontal angle at the end vertebrae that the truth has, and the Cobb angle with end vertebrae of its own.
    true_curves = cobb_curves(list(truth.values()))
    for curve in true_curves:
        upper, lower = measured[curve.upper].upper, measured[curve.lower].lower
        if upper is not None:
            found = tilt(lower, FRONTAL).minus(tilt(upper, FRONTAL))
            side = 1 if curve.convex_to == "left" else -1
            add("Cobb, same end vertebrae", "", replace(found, degrees=side * found.degrees), curve.cobb)
    own = cobb_curves(list(measured.values()))
    if own and true_curves:
        add("largest Cobb", "", own[0].cobb, true_curves[0].cobb)
    return rows


def measure(count: int = 20, seed: int = 0, first_level: int = 1) -> None:
    """Print how far measured angles are from the true ones of simulated spines."""
    torch.set_num_threads(1)
    tables: dict[str, list[dict[str, Any]]] = {"truth": [], "turned only": []}
    for number in range(seed, seed + count):
        spine, labels, grid = simulated(number, first_level)
        poses = measured_poses(labels, grid, spine.posture.levels, spine.posture.centroids @ IPL_AXES)
        for name, rows in tables.items():
            rows.extend(errors(spine, poses, true_poses(spine, poses, turned_only=name != "truth")))
    for name, rows in tables.items():
        print(f"\n{name}, {count} spines\n")
        cells = []
        for key in dict.fromkeys((row["kind"], row["where"]) for row in rows):
            chosen = [row for row in rows if (row["kind"], row["where"]) == key]
            error = np.array([row["error"] for row in chosen])
            within = np.mean([abs(row["error"]) <= 2 * row["sd"] for row in chosen])
            size = np.abs(error)
            numbers = (f"{v:.2f}" for v in (np.median(size), np.percentile(size, 95), size.max()))
            cells.append([" ".join(key).strip(), len(error), f"{error.mean():+.2f}", *numbers, f"{100 * within:.0f} %"])
        columns = ["angle", "n", "mean", "median size", "95 % below", "largest", "within 2 sd"]
        print("\n".join(markdown_table(columns, cells)))


if __name__ == "__main__":
    run_module(measure)
