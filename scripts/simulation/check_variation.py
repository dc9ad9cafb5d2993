"""Does a person who is left out lie inside what is drawn from the others? The table of docs/simulation.md.

python -m scripts.simulation.check_variation [--draws 200]
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ndtr
from tqdm import tqdm

from scripts.anatomy.shapes import (
    SHAPE_SPACING_MM,
    VertebraShape,
    load_shape,
    load_subject,
    shape_subjects,
    vertebrae_of,
)
from scripts.command import run_module
from scripts.io.tables import markdown_table
from scripts.levels import LEVEL_NAMES, region
from scripts.simulation.draw import VariationOptions, draw_deformation
from scripts.simulation.processes import tips_of
from scripts.simulation.variation import REGIONS, Measured, centred, measured_vertebrae, pooled_spread, variation

MEASURES = (
    "height", "depth", "width", "body front", "spinous length", "spinous angle", "transverse span",
    "transverse height", "transverse back", "superior height", "superior back", "superior span", "inferior height",
    "inferior back", "inferior span",
)  # fmt: skip
# Of the tables of spreads.
STRETCHES = (
    "region", "people, vertebrae", "stretch down, back, left", "the same, size given", "turn about them, °",
    "remains, mm",
)  # fmt: skip
ENDS = (
    "region", "spinous: length, angle", "end of it: down, back, left", "transverse: length, tilt down, tilt back",
    "both ends alike: down, back, out", "one against the other", "superior ends alike", "inferior ends alike",
)  # fmt: skip
CENTRAL = (0.5, 99.5)
FEWEST_OTHERS = 2
SURFACE_POINTS = 1000


def measures(number: int, points: np.ndarray) -> np.ndarray:
    """Plain geometry of a vertebra, (15,) in the order of ``MEASURES``: mm and degrees.

    Args:
        number: VerSe number.
        points: (N, 3) mm on its surface, in its own frame.
    """
    tips = tips_of(number, points)
    spinous, transverse, superior, inferior = tips[0], tips[1:3], tips[3:5], tips[5:7]
    middle = points[(np.abs(points[:, 0]) < 4) & (np.abs(points[:, 2]) < 4)]
    pairs = [transverse, superior, inferior]
    of_pairs = np.concatenate([[*p.mean(0)[:2], p[0, 2] - p[1, 2]] for p in pairs])
    return np.concatenate(
        [
            np.ptp(points, axis=0),
            [-middle[:, 1].min() if len(middle) else np.nan],
            [np.hypot(*spinous[:2]), np.degrees(np.arctan2(spinous[0], spinous[1]))],
            of_pairs[[2, 0, 1]],
            of_pairs[3:],
        ]
    )


def surface_points(shape: VertebraShape) -> np.ndarray:
    """Some voxels (N, 3) mm at a shape's surface, in its own frame."""
    inside = shape.signed_distance < 0
    shell = inside & ~ndimage.binary_erosion(inside)
    voxels = np.argwhere(shell)
    voxels = voxels[np.random.default_rng(0).permutation(len(voxels))[:SURFACE_POINTS]]
    return (voxels - np.array(shape.origin)) * SHAPE_SPACING_MM


def measures_of_draws(
    number: int, subjects: tuple[str, ...], options: VariationOptions, draws: int, seed: int
) -> np.ndarray:
    """Measures (about draws, 15) of random relatives of some subjects' vertebrae of a level."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for subject in subjects:
        source = torch.from_numpy(surface_points(load_shape(subject, number))).float()
        levels = torch.full((-(-draws // len(subjects)),), number)
        carried = draw_deformation(levels, options, generator).carry(source).numpy()
        found += [measures(number, points) for points in carried]
    return np.array(found)


def inside_share(subject: str, options: VariationOptions, draws: int) -> dict[int, np.ndarray]:
    """By level, which measures (15,) of a subject lie in the central 99 % of draws from the others; nan: none."""
    others = tuple(s for s in shape_subjects() if s != subject)
    options = replace(options, without=(subject,))
    found = {}
    for number, shape in load_subject(subject).items():
        have = tuple(s for s in others if number in vertebrae_of(s))
        if number not in LEVEL_NAMES or len(have) < FEWEST_OTHERS:
            continue
        own = measures(number, surface_points(shape))
        low, high = np.nanpercentile(measures_of_draws(number, have, options, draws, number), CENTRAL, axis=0)
        found[number] = np.where(np.isfinite(own), (own >= low) & (own <= high), np.nan)
    return found


def numbers_inside(subject: str, options: VariationOptions) -> dict[int, np.ndarray]:
    """By level, which of a subject's measured numbers (27,) lie in the central 99 % of draws from the others.

    Exact, from the distribution that is drawn from: each other person's number plus a limited normal departure.
    """
    gains = np.repeat([options.stretch, options.turn, options.processes], [3, 3, 21])
    spread = variation((subject,)).spread * gains
    rows, _ = measured_vertebrae()
    found = {}
    for own in (row for row in rows if row.subject == subject):
        others = np.array([row.numbers for row in rows if row.number == own.number and row.subject != subject])
        if len(others) < FEWEST_OTHERS:
            continue
        away = (own.numbers - others) / spread[own.number]
        below = np.where(away >= options.limit, 1.0, np.where(away < -options.limit, 0.0, ndtr(away)))
        below[np.isnan(away)] = np.nan
        rank = 100 * np.nanmean(below, axis=0) if np.isfinite(away).any() else np.full(27, np.nan)
        found[own.number] = np.where(np.isfinite(rank), (rank > CENTRAL[0]) & (rank < CENTRAL[1]), np.nan)
    return found


def region_table() -> str:
    """Markdown: the measured spreads of each region."""
    rows, _ = measured_vertebrae()
    found = variation()
    stretches, ends = [], []
    for name in REGIONS.values():
        here = [row for row in rows if region(row.number) == name]
        number = here[0].number
        spread, given = found.spread[number], found.spread_given_size[number]
        whole = process_spreads(here)
        cells = [name, f"{len({row.subject for row in here})}, {len(here)}"]
        cells += [_list(spread[:3], 3), _list(given[:3], 3), _list(spread[3:6], 1), f"{found.smooth_mm[number]:.1f}"]
        stretches.append(cells)
        cells = [name, _list(whole[:2], 1), _list(spread[6:9], 1), _list(whole[2:], 1)]
        cells += [_list(spread[a : a + 3], 1) for a in (9, 12, 15, 21)]
        ends.append(cells)
    return "\n".join([*markdown_table(STRETCHES, stretches), "", *markdown_table(ENDS, ends)])


def process_spreads(rows: list[Measured]) -> np.ndarray:
    """Spreads (5,) between people, within levels, of processes as seen from the body's centroid, nothing taken out.

    Length (mm) and angle (degrees) of the spinous process; length, tilt down and tilt back of the transverse ones.
    """
    tips = np.array([row.tips_mm for row in rows])
    spinous = [np.hypot(tips[:, 0, 0], tips[:, 0, 1]), np.degrees(np.arctan2(tips[:, 0, 0], tips[:, 0, 1]))]
    across = np.concatenate([tips[:, 1], tips[:, 2]])
    out = np.abs(across[:, 2])
    angles = [np.degrees(np.arctan2(across[:, axis], out)) for axis in (0, 1)]
    levels = np.array([row.number for row in rows])
    one = [pooled_spread(centred(v[:, None], levels), levels)[0] for v in spinous]
    sides = np.concatenate([levels, levels + 100])  # each side by itself
    both = [pooled_spread(centred(v[:, None], sides), sides)[0] for v in (np.linalg.norm(across, axis=1), *angles)]
    return np.array([*one, *both])


def _list(values: np.ndarray, digits: int) -> str:
    return ", ".join(f"{v:.{digits}f}" for v in values)


def main(draws: int = 200) -> None:
    """Print both tables.

    Args:
        draws: of each vertebra.
    """
    print(region_table(), variation().within_person, variation().size_slope, sep="\n\n")
    rows = []
    options, all_numbers, all_measures = VariationOptions(), [np.zeros((0, 27))], [np.zeros((0, len(MEASURES)))]
    for subject in tqdm(shape_subjects(), unit="subject"):
        found = inside_share(subject, options, draws)
        if not found:
            continue
        table = np.array(list(found.values()))
        numbers = np.array(list(numbers_inside(subject, options).values())).reshape(-1, 27)
        all_measures.append(table)
        all_numbers.append(numbers)
        missed = [f"{LEVEL_NAMES[n]} {MEASURES[i]}" for n, row in found.items() for i in np.flatnonzero(row == 0)]
        rows.append([subject, len(found), _share(numbers), _share(table), ", ".join(missed)])
    table = np.concatenate(all_measures)
    rows.append(["all", len(table), _share(np.concatenate(all_numbers)), _share(table), ""])
    columns = ["left out", "vertebrae", "numbers inside", "measures inside", "measures outside"]
    print("", *markdown_table(columns, rows), sep="\n")
    for name, share in zip(MEASURES, np.nanmean(table, axis=0), strict=True):
        print(f"{name}: {share:.3f}")


def _share(inside: np.ndarray) -> str:
    return f"{np.nanmean(inside):.3f}" if np.isfinite(inside).any() else "-"


if __name__ == "__main__":
    run_module(main)
