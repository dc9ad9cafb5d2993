"""How ``variation.json`` was made from the shape library; not needed to simulate.

    python -m scripts.simulation.build_variation [--workers 1] [--without verse083]

For each vertebra and every other subject's of the same level: the move, turn and three log-stretches that lay the
other onto it (``shape_fit``), where that leaves the ends of its processes (``processes``), and how far its surface is
from the other's after all that. Means over the others are the vertebra's departure from its level.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape, load_shape, shape_subjects, vertebrae_of
from scripts.anatomy.sizes import subject_size
from scripts.command import run_module
from scripts.levels import LEVEL_NAMES, USUAL_LEVELS
from scripts.simulation.displacement import bump_coefficients
from scripts.simulation.draw import bump_radius
from scripts.simulation.processes import process_tips
from scripts.simulation.shape_fit import AffineFit, distance_at, fit_affine
from scripts.simulation.variation import VARIATION_FILE, from_moves

# A mean of 87 patients is not a person.
NO_PERSON = ("clouthier",)
SURFACE_POINTS = 250
FARTHEST_RESIDUAL_MM = 8.0
# Distances of two places on a surface, mm, over which the likeness of what remains is pooled.
LIKENESS_EDGES_MM = np.array([0.0, 4, 8, 12, 16, 20, 25, 30, 40, 60])


@dataclass(frozen=True)
class Pair:
    """What turns a source's vertebra into a target's of the same level.

    Args:
        fit: nine numbers.
        moves: (7, 3) mm that the processes' ends are still off in the target's frame.
        residual_mm2: mean square of the remaining distance of the surfaces.
        likeness: (K, 2) sums of products of residuals, and of pairs, by distance between places that face alike.
    """

    fit: AffineFit
    moves: np.ndarray
    residual_mm2: float
    likeness: np.ndarray


@dataclass(frozen=True)
class Described:
    """A shape with the ends of its processes (7, 3) and points (N, 3) on its surface with their normals, mm."""

    shape: VertebraShape
    tips: np.ndarray
    points: np.ndarray
    normals: np.ndarray


def describe(shape: VertebraShape) -> Described:
    """The shape with its processes' ends (7, 3) and points (N, 3) on its surface with normals, in mm."""
    return Described(shape, process_tips(shape), *_surface(shape))


def measure_pair(source: Described, target: Described) -> Pair:
    """What turns the source's vertebra into the target's: an affine fit, moves of the processes, and what remains."""
    fit = fit_affine(source.shape, target.shape)
    tips = fit.to_target(source.tips)
    moves = target.tips - tips
    known = np.isfinite(moves).all(1)
    points, normals = target.points, target.normals
    before = points - _bumps(points, tips[known] + moves[known], moves[known])
    size = float(np.exp(fit.stretch.mean()))
    residual = np.clip(
        distance_at(source.shape, fit.to_source(before)) * size, -FARTHEST_RESIDUAL_MM, FARTHEST_RESIDUAL_MM
    )
    away = np.linalg.norm(points[:, None] - points[None], axis=-1)
    alike = (normals @ normals.T > 0.8) & (away > 0)
    place = np.digitize(away[alike], LIKENESS_EDGES_MM) - 1
    products = np.outer(residual, residual)[alike]
    bins = len(LIKENESS_EDGES_MM)
    likeness = np.stack([np.bincount(place, products, bins), np.bincount(place, minlength=bins)], 1)
    return Pair(fit, moves, float((residual**2).mean()), likeness)


def _bumps(points: np.ndarray, tips: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The displacement (N, 3) that the bumps of the processes make there."""
    if not len(tips):
        return np.zeros_like(points)
    where, move = torch.from_numpy(tips)[None], torch.from_numpy(moves)[None]
    radius = bump_radius(where)
    push = bump_coefficients(where, radius, move)
    away = torch.cdist(torch.from_numpy(points)[None], where)
    return (torch.exp(-(away**2) / (2 * radius[:, None] ** 2)) @ push)[0].numpy()


def _surface(shape: VertebraShape) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) mm on a shape's surface and its outward normals there."""
    voxels = np.argwhere(np.abs(shape.signed_distance) < 0.4)
    voxels = voxels[np.random.default_rng(0).permutation(len(voxels))[:SURFACE_POINTS]]
    gradient = np.stack(np.gradient(shape.signed_distance), -1)[tuple(voxels.T)]
    normals = gradient / np.linalg.norm(gradient, axis=1, keepdims=True).clip(1e-6)
    return (voxels - np.array(shape.origin)) * SHAPE_SPACING_MM, normals


def measure_level(number: int, subjects: tuple[str, ...]) -> tuple[list[dict], np.ndarray]:
    """Rows of ``variation.json`` of one level, and the likeness of residuals summed over its pairs."""
    shapes = {s: describe(load_shape(s, number)) for s in subjects if number in vertebrae_of(s)}
    singles = {s for s in shapes if len(vertebrae_of(s)) == 1}
    pairs = {
        (s, t): measure_pair(shapes[s], shapes[t]) for s in shapes for t in shapes if s != t and not {s, t} <= singles
    }
    rows = []
    for target in shapes:
        single = target in singles
        others = [s for s in shapes if (s, target) in pairs]
        parts = [np.zeros(30)]  # against itself
        for source in others:
            there, back = pairs[source, target], pairs[target, source]
            turn = (there.fit.turn_deg - back.fit.turn_deg) / 2
            if single or source in singles:
                turn = np.full(3, np.nan)  # a single vertebra was turned onto the average
            stretch = (there.fit.stretch - back.fit.stretch) / 2
            place = (there.fit.place - back.fit.place) / 2
            parts.append(np.concatenate([stretch, turn, from_moves((there.moves - back.moves) / 2), place]))
        known = np.isfinite(parts)
        mean = np.where(known, parts, 0).sum(0) / known.sum(0)
        mean = np.where(known[1:].any(0), mean, np.nan)
        # Two people differ by the root of two more than one from the mean.
        residual = np.sqrt(np.mean([pairs[s, target].residual_mm2 for s in others]) / 2)
        rows.append(
            {
                "subject": target,
                "number": number,
                "log_size": None if single else round(float(np.log(subject_size(target))), 4),
                "numbers": _plain(mean[:27], [4] * 3 + [2] * 24),
                "place_mm": _plain(mean[27:], [2] * 3),
                "tips_mm": _plain(shapes[target].tips.ravel(), [1] * 21),
                "residual_mm": round(float(residual), 3),
                "dice": round(float(np.mean([pairs[s, target].fit.dice for s in others])), 3),
                "best_dice": round(float(max(pairs[s, target].fit.dice for s in others)), 3),
            }
        )
    return rows, np.sum([pair.likeness for pair in pairs.values()], axis=0)


def _plain(values: np.ndarray, digits: list[int]) -> list[float | None]:
    return [round(float(v), d) if np.isfinite(v) else None for v, d in zip(values, digits, strict=True)]


def fit_correlation_length(likeness: np.ndarray) -> float:
    """Length in mm of the Gaussian correlation that fits the likeness of residuals best; a part is noise."""
    middle = (LIKENESS_EDGES_MM[1:] + LIKENESS_EDGES_MM[:-1]) / 2
    sums, counts = likeness[: len(middle)].T
    covariance = sums / counts
    best = (np.inf, 0.0)
    for length in np.arange(4.0, 40.0, 0.5):
        shape = np.exp(-(middle**2) / (2 * length**2))
        amplitude = (shape * covariance * counts).sum() / (shape**2 * counts).sum()
        best = min(best, (float((counts * (covariance - amplitude * shape) ** 2).sum()), float(length)))
    print("likeness", dict(zip(middle.tolist(), np.round(covariance, 2).tolist(), strict=True)), "length", best[1])
    return best[1]


def main(workers: int = 1, without: tuple[str, ...] = ()) -> None:
    """Measure the library.

    Args:
        workers: processes.
        without: subjects that take no part, comma-separated.
    """
    subjects = tuple(s for s in shape_subjects() if s not in (*NO_PERSON, *without))
    rows: list[dict] = []
    likeness = np.zeros((len(LIKENESS_EDGES_MM), 2))
    with ProcessPoolExecutor(workers) as pool:
        for number, (found, sums) in zip(
            USUAL_LEVELS, pool.map(measure_level, USUAL_LEVELS, [subjects] * len(USUAL_LEVELS)), strict=True
        ):
            print(f"{LEVEL_NAMES[number]}: {len(found)} subjects", flush=True)
            rows += found
            likeness += sums
    stored = {"smooth_length_mm": fit_correlation_length(likeness), "vertebrae": rows}
    VARIATION_FILE.write_text(json.dumps(stored).replace('}, {"subject', '},\n{"subject') + "\n")


if __name__ == "__main__":
    run_module(main)
