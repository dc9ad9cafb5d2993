"""How people's vertebrae differ: measured numbers of each library vertebra, and the statistics drawn from.

``variation.json`` was made by ``python -m scripts.simulation.build_variation`` from the shape library: for each
vertebra its departure from the mean of its level over all subjects, in log-stretches, turns and the places of its
processes' ends. Statistics are pooled here at load, so that they can be had without a subject who is judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from scripts.anatomy.shapes import SACRUM
from scripts.anatomy.sizes import subject_size
from scripts.errors import UserError
from scripts.levels import LEVEL_NUMBERS, REGIONS, TABLE_SIZE, level_name, region
from scripts.simulation.processes import PROCESSES

VARIATION_FILE = Path(__file__).with_name("variation.json")
AXES = ("down", "back", "left")
PAIRS = ("transverse", "superior", "inferior")
# Of a pair of processes: what both do alike, left and right mirrored, and what they do against each other.
NUMBERS: tuple[str, ...] = (
    *(f"stretch_{axis}" for axis in AXES),
    *(f"turn_{axis}" for axis in AXES),
    *(f"spinous_{axis}" for axis in AXES),
    *(f"{pair}_{part}_{axis}" for pair in PAIRS for part in ("both", "apart") for axis in ("down", "back", "out")),
)
STRETCH, TURN, MOVES = slice(0, 3), slice(3, 6), slice(6, 27)
GROUPS = {"stretch": STRETCH, "turn": TURN, "processes": MOVES}
# Few people were measured in a region: its variances lean on those of the whole spine as if by this many more.
LEANING_PEOPLE = 3.0
# As many departures from the mean of a level are needed for correlations of three stretches.
FEWEST_DEPARTURES = 4
# A number further out than this many robust deviations counts as if it were there: some ends are found wrongly.
FARTHEST = 3.0
# Lags of levels over which correlations within a person are pooled.
LAGS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 23))
MIRROR = np.array([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class Measured:
    """One library vertebra against the mean of its level.

    Args:
        subject: whose.
        number: VerSe number.
        log_size: of its subject against the average person, by the distances of the bodies; nan where unknown.
        numbers: (27,) departures in the order of ``NUMBERS``: log, degrees, mm; nan where not measured.
        tips_mm: (7, 3) ends of its processes in its own frame.
        residual_mm: standard deviation of the surface's displacement that remains, along its normal.
    """

    subject: str
    number: int
    log_size: float
    numbers: np.ndarray
    tips_mm: np.ndarray
    residual_mm: float


@dataclass(frozen=True)
class WithinPerson:
    """Correlation of two levels of one person: ``person + near * decay ** levels between`` (1 with itself)."""

    person: float
    near: float
    decay: float

    def matrix(self, ranks: np.ndarray) -> np.ndarray:
        """(N, N) for vertebrae at ranks (N,) along the spine."""
        away = np.abs(ranks[:, None] - ranks[None])
        return np.where(away == 0, 1.0, self.person + self.near * self.decay**away)


@dataclass(frozen=True)
class Variation:
    """Statistics of how people differ, by VerSe number (axis 0 of the tables; levels without any borrow).

    Args:
        spread: (V, 27) standard deviations of ``NUMBERS`` between people, wider where few were measured.
        spread_given_size: the same of what the distances of the bodies do not tell.
        size_slope: (3,) log-stretch that goes with one unit of a person's log-size.
        stretch_factor: (V, 3, 3) lower factor of the correlation of the three stretches.
        tips: (V, 7, 3) mm mean ends of the processes.
        smooth_mm: (V,) standard deviation along each axis of the smooth displacement that remains.
        smooth_length_mm: its correlation length.
        within_person: by group of numbers.
    """

    spread: np.ndarray
    spread_given_size: np.ndarray
    size_slope: np.ndarray
    stretch_factor: np.ndarray
    tips: np.ndarray
    smooth_mm: np.ndarray
    smooth_length_mm: float
    within_person: dict[str, WithinPerson]


@dataclass(frozen=True)
class Departure:
    """How one library vertebra departs from that of an average person: what is taken out of it as a source.

    Args:
        stretch: (3,) log along its axes.
        turn_deg: (3,) rotation vector that takes its frame to the mean's.
    """

    stretch: np.ndarray
    turn_deg: np.ndarray


UNMEASURED = Departure(np.full(3, np.nan), np.full(3, np.nan))


@cache
def measured_vertebrae() -> tuple[tuple[Measured, ...], float]:
    """All of ``variation.json``, and the correlation length in mm of what remains."""
    stored = json.loads(VARIATION_FILE.read_text())
    rows = []
    for row in stored["vertebrae"]:
        numbers = np.array([np.nan if v is None else v for v in row["numbers"]], float)
        tips = np.array([np.nan if v is None else v for v in row["tips_mm"]], float).reshape(len(PROCESSES), 3)
        size = np.nan if row["log_size"] is None else row["log_size"]
        rows.append(Measured(row["subject"], row["number"], size, numbers, tips, row["residual_mm"]))
    return tuple(rows), float(stored["smooth_length_mm"])


@cache
def variation(without: tuple[str, ...] = ()) -> Variation:
    """The statistics.

    Args:
        without: subjects that take no part.

    Raises:
        UserError: hardly any level is left that two of the others have, so how people differ is unknown.
    """
    rows, length = measured_vertebrae()
    return summarise([row for row in rows if row.subject not in without], length)


def departure(subject: str, number: int, without: tuple[str, ...] = ()) -> Departure:
    """Of one library vertebra; where it was not measured, by its subject's size alone.

    Args:
        subject: whose.
        number: VerSe number.
        without: subjects that take no part in the means.
    """
    found = _departures(without).get((subject, number), UNMEASURED)
    by_size = np.log(subject_size(subject)) * variation(without).size_slope
    return Departure(np.where(np.isfinite(found.stretch), found.stretch, by_size), np.nan_to_num(found.turn_deg))


@cache
def _departures(without: tuple[str, ...]) -> dict[tuple[str, int], Departure]:
    """Of all measured vertebrae, by subject and VerSe number; nan where one could not be measured.

    The mean of a level is that of its subjects, who may be smaller than the average person: what their mean size makes
    of them is added.
    """
    rows = [row for row in measured_vertebrae()[0] if row.subject not in without]
    levels = np.array([row.number for row in rows])
    numbers = centred(np.array([row.numbers for row in rows]), levels)
    sizes = np.array([[row.log_size] for row in rows])
    mean_sizes = {level: _mean(sizes[levels == level]) for level in np.unique(levels)}
    slope = variation(without).size_slope
    return {
        (row.subject, row.number): Departure(own[STRETCH] + mean_sizes[row.number] * slope, own[TURN])
        for row, own in zip(rows, numbers, strict=True)
    }


def summarise(rows: list[Measured], smooth_length_mm: float) -> Variation:
    """Statistics of some vertebrae: pooled by region, centred by level."""
    levels = np.array([row.number for row in rows])
    names = np.array([row.subject for row in rows])
    # Of a level that one subject has, no departure from a mean is known.
    if len(levels) - len(np.unique(levels)) < FEWEST_DEPARTURES:
        raise UserError("without these subjects too few levels are left that two have: name fewer")
    numbers = centred(np.array([row.numbers for row in rows]), levels)
    size = centred(np.array([[row.log_size] for row in rows]), levels)[:, 0]
    known = np.isfinite(size)
    slope = (size[known] @ numbers[known, STRETCH]) / (size[known] @ size[known])
    given_size = numbers.copy()
    given_size[:, STRETCH] -= np.where(known, size, 0)[:, None] * slope
    given_size[~known] = np.nan

    spread, given, factor, tips, smooth = ([np.zeros(0)] * TABLE_SIZE for _ in range(5))
    whole, whole_given = pooled_spread(numbers, levels), pooled_spread(given_size, levels)
    whole_correlation = _correlation(numbers[:, STRETCH])
    residual = np.array([row.residual_mm for row in rows])
    for letter, name in REGIONS.items():
        here = np.array([region(n) == name for n in levels])
        people = len(set(names[here]))
        departures = int(here.sum()) - len(np.unique(levels[here]))
        share = people / (people + LEANING_PEOPLE) if departures else 0.0
        # A spread from few people is itself uncertain: the variance of Student's t against the normal's.
        freedom = people - 1 + LEANING_PEOPLE
        wider = np.sqrt(freedom / (freedom - 2))
        own = np.sqrt(share * pooled_spread(numbers[here], levels[here]) ** 2 + (1 - share) * whole**2)
        own_given = np.sqrt(share * pooled_spread(given_size[here], levels[here]) ** 2 + (1 - share) * whole_given**2)
        correlation = whole_correlation
        if departures >= FEWEST_DEPARTURES:
            correlation = share * _correlation(numbers[here, STRETCH]) + (1 - share) * whole_correlation
        for number in (n for n, level in _TABLE_LEVELS.items() if level_name(level)[0] == letter):
            level = levels == _TABLE_LEVELS[number]
            spread[number], given[number] = wider * own, wider * own_given
            factor[number] = np.linalg.cholesky(correlation)
            tips[number] = np.nanmean([row.tips_mm for row, yes in zip(rows, level, strict=True) if yes], axis=0)
            smooth[number] = np.sqrt(np.mean(residual[here] ** 2))
    for table in (spread, given):
        table[SACRUM] = table[SACRUM].copy()
        table[SACRUM][MOVES] = 0  # it has none of these processes
    return Variation(
        np.stack(spread),
        np.stack(given),
        slope,
        np.stack(factor),
        np.stack(tips),
        np.stack(smooth),
        smooth_length_mm,
        {group: _within_person(numbers[:, part], levels, names) for group, part in GROUPS.items()},
    )


def centred(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Values (N, K) less the mean of their level."""
    out = values.copy()
    for level in np.unique(levels):
        out[levels == level] -= _mean(values[levels == level])
    return out


def pooled_spread(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Standard deviations (K,) within levels of centred values (N, K); those far out count less."""
    known = np.isfinite(values)
    robust = 1.4826 * np.nanmedian(np.abs(values), axis=0)
    limited = np.clip(np.where(known, values, 0), -FARTHEST * robust, FARTHEST * robust)
    freedom = sum(np.maximum(known[levels == level].sum(0) - 1, 0) for level in np.unique(levels))
    return np.sqrt((limited**2).sum(0) / np.maximum(freedom, 1))


def from_moves(moves: np.ndarray) -> np.ndarray:
    """Numbers (..., 21) of moves of the processes' ends (..., 7, 3) mm down, back, left."""
    return moves.reshape(*moves.shape[:-2], -1) @ np.linalg.inv(MOVES_BASIS)


def _moves_basis() -> np.ndarray:
    basis = np.zeros((21, len(PROCESSES), 3))
    basis[:3, 0] = np.eye(3)
    for pair in range(len(PAIRS)):
        both, apart = (slice(3 + 6 * pair + 3 * part, 6 + 6 * pair + 3 * part) for part in (0, 1))
        left, right = 1 + 2 * pair, 2 + 2 * pair
        basis[both, left] = basis[apart, left] = np.eye(3)
        basis[both, right], basis[apart, right] = np.diag(MIRROR), -np.diag(MIRROR)
    return basis.reshape(21, -1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean (K,) of the known ones of (N, K); 0 where none is."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def _correlation(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values).all(1)]
    second = known.T @ known
    size = np.sqrt(np.diag(second))
    return second / np.outer(size, size)


def _within_person(values: np.ndarray, levels: np.ndarray, names: np.ndarray) -> WithinPerson:
    """Fitted to the correlations of levels of one person, pooled over the numbers of a group."""
    scale = pooled_spread(values, levels)
    z = np.clip(values / scale, -FARTHEST, FARTHEST)
    away = levels[None] - levels[:, None]
    same = names[None] == names[:, None]
    points = []
    for low, high in LAGS:
        first, second = np.nonzero(same & (away >= low) & (away <= high))
        known = np.isfinite(z[first]) & np.isfinite(z[second])
        a, b = np.where(known, z[first], 0), np.where(known, z[second], 0)
        bottom = np.sqrt((a**2).sum() * (b**2).sum())
        if bottom > 0:
            points.append((float(away[first, second].mean()), float((a * b).sum() / bottom), np.sqrt(len(first))))
    lag, correlation, weight = np.array(points).T
    steps = np.arange(0, 0.96, 0.05)
    person, near, decay = (v.ravel()[:, None] for v in np.meshgrid(steps, steps, steps, indexing="ij"))
    miss = (weight * (person + near * decay**lag - correlation) ** 2).sum(1)
    best = np.where((person + near)[:, 0] < 0.96, miss, np.inf).argmin()
    return WithinPerson(*(round(float(v[best, 0]), 2) for v in (person, near, decay)))


def _table_levels() -> dict[int, int]:
    """Which measured level stands for each VerSe number; supernumerary, sacral and unknown ones borrow."""
    borrowed = {0: LEVEL_NUMBERS["T10"], 25: LEVEL_NUMBERS["L5"], SACRUM: LEVEL_NUMBERS["L5"], 27: LEVEL_NUMBERS["L5"]}
    borrowed[LEVEL_NUMBERS["T13"]] = LEVEL_NUMBERS["T12"]
    return {number: borrowed.get(number, number) for number in range(TABLE_SIZE)}


MOVES_BASIS = _moves_basis()
_TABLE_LEVELS = _table_levels()
