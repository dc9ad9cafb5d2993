"""Levels and pairs from made-up detections: anomalies, gaps, false detections, unknown sizes, partial views."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.levels import LEVEL_ORDER
from scripts.localization.found import FROM_THE_SACRUM, Vertebra, reading_warnings
from scripts.localization.level_moves import S1_PITCH_MM
from scripts.localization.levels import END_NAMES, NAMES, S1_INDEX, ends_of
from scripts.localization.pairing import PairingOptions, pair_by_distance, pair_by_sequence
from scripts.localization.path import read_levels
from scripts.localization.path_options import PathOptions

ALL = [name for name in NAMES if name not in ("T13", "L6")]


def indices(names: list[str]) -> np.ndarray:
    return np.array([NAMES.index(name) for name in names])


def between(first: str, last: str, drop: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> list[str]:
    names = NAMES[NAMES.index(first) : NAMES.index(last) + 1]
    return [n for n in names if (n in ALL or n in extra) and n not in drop]


def evidence(names: list[str], right: float = 0.8, sharp: float = 0.8) -> np.ndarray:
    """Log probabilities: the level itself has ``right``, its neighbours the rest."""
    share = np.full((len(names), len(NAMES)), 1e-3)
    for row, level in zip(share, indices(names), strict=True):
        row[level] += right
        row[max(level - 1, 0)] += (1 - right) * sharp / 2
        row[min(level + 1, len(NAMES) - 1)] += (1 - right) * sharp / 2
    return np.log(share / share.sum(1, keepdims=True))


def heights(names: list[str], size: float = 1.0) -> np.ndarray:
    steps = [
        S1_PITCH_MM
        if "S1" in pair
        else pair_statistics()[measured_pair(*(LEVEL_ORDER[NAMES.index(n)] for n in pair))]["distance_mm"]
        for pair in itertools.pairwise(names)
    ]
    return np.concatenate([[0.0], np.cumsum(steps)]) * size


def steps_of(where: np.ndarray) -> np.ndarray:
    return np.abs(where[:, None] - where[None])


def read(names: list[str], logs: np.ndarray, where: np.ndarray | None = None, ends: bool = False, **options: float):
    """The path's names; ``-`` for what it calls no vertebra."""
    log_end = None
    if ends:
        share = np.full((len(names), len(END_NAMES)), 0.02)
        share[np.arange(len(names)), np.maximum(ends_of(indices(names), True), 0)] = 0.88
        log_end = np.log(share)
    where = heights(names) if where is None else where
    found = read_levels(logs, log_end, np.full(len(logs), 0.9), steps_of(where), PathOptions(**options))
    return ["-" if level < 0 else NAMES[level] for level in found.levels], found


@pytest.mark.parametrize(
    "names",
    [between("C1", "S1"), between("T3", "T9"), between("C2", "C7"), between("L1", "S1"), between("T9", "L3"), ["T5"]],
)
def test_plain_spines_and_parts(names: list[str]) -> None:
    found, reading = read(names, evidence(names))
    assert found == names and reading.margin > 1


def test_one_wrong_opinion_is_outvoted() -> None:
    names = between("T4", "L5")
    opinions = list(names)
    opinions[4] = "T10"
    opinions[9] = "T12"
    assert read(names, evidence(opinions))[0] == names


@pytest.mark.parametrize(
    "names",
    [
        between("T8", "S1", extra=("T13",)),
        between("T8", "S1", extra=("L6",)),
        between("T8", "S1", drop=("T12",)),
        between("T8", "S1", drop=("L5",)),
        between("T8", "S1", extra=("T13", "L6")),
    ],
)
def test_anomalies_are_found_with_evidence_of_their_own(names: list[str]) -> None:
    assert read(names, evidence(names, 0.9), ends=True)[0] == names


def test_without_evidence_of_its_own_the_usual_spine_wins() -> None:
    """Lumbar vertebrae that all look alike, and nothing said of a sacrum: not decidable, and not decided for L6."""
    names = between("T10", "L5")
    logs = evidence(names)
    lumbar = indices(between("L1", "L5"))
    for i in range(len(names)):
        if i >= 3:
            logs[i, lumbar] = np.log(0.19)
            logs[i, S1_INDEX] = np.log(0.02)
    found, _ = read(names, logs)
    assert "L6" not in found and "T13" not in found


def test_a_sacrum_is_no_sixth_lumbar_vertebra() -> None:
    names = between("L1", "S1")
    logs = evidence(names, 0.85)
    assert read(names, logs)[0] == names


def test_missed_vertebrae_leave_a_gap_by_their_distance() -> None:
    names = between("T2", "L5")
    gone = ("T6", "T12")
    kept = [n for n in names if n not in gone]
    where = heights(names)[[i for i, n in enumerate(names) if n not in gone]]
    assert read(kept, evidence(kept, 0.6), where)[0] == kept


def test_false_detections_are_passed_over() -> None:
    names = between("T2", "L3")
    logs = evidence(names)
    where = heights(names)
    at = 5
    logs = np.insert(logs, at, np.log(np.full(len(NAMES), 1 / len(NAMES))), axis=0)
    where = np.insert(where, at, where[at - 1] + 6)
    scores = np.full(len(logs), 0.9)
    scores[at] = 0.3
    found = read_levels(logs, None, scores, steps_of(where))
    assert [NAMES[i] if i >= 0 else "-" for i in found.levels] == [*names[:at], "-", *names[at:]]


def test_two_bodies_cannot_lie_in_one_place() -> None:
    """L1 is missed, and a mark 12 mm above L5 takes its part in the count; the network's opinions fit both ways."""
    above = between("T8", "L4", drop=("L1",))
    shifted = [*above[:-3], "L1", "L2", "L3"]
    whole = [*between("T8", "L5"), "S1"]
    where = heights(whole)[[i for i, n in enumerate(whole) if n != "L1"]]
    at = len(above)
    where = np.insert(where, at, where[at] - 12)
    logs = np.log((np.exp(evidence(above)) + np.exp(evidence(shifted))) / 2)
    logs = np.concatenate([logs, evidence(["L4", "L5", "S1"], 0.6)])
    scores = np.full(len(logs), 0.9)
    scores[at] = 0.75

    def names(overlapping: float) -> list[str]:
        found = read_levels(logs, None, scores, steps_of(where), PathOptions(overlapping=overlapping)).levels
        return [NAMES[i] if i >= 0 else "-" for i in found]

    assert names(0.0) == [*shifted, "L4", "L5", "S1"]
    assert names(PathOptions().overlapping) == [*above, "-", "L5", "S1"]


@pytest.mark.parametrize("size", [0.8, 1.25])
def test_size_of_the_patient_is_free_where_pixels_have_none(size: float) -> None:
    names = between("T1", "L5")
    logs = evidence(names, 0.5)
    found, reading = read(names, logs, heights(names, size), size=0.5)
    assert found == names and abs(np.log(reading.size / size)) < 0.15


def test_a_true_shift_of_all_opinions_is_not_undone_and_uncertainty_is_told() -> None:
    names = between("T5", "T9")
    sure = read(names, evidence(names, 0.9))[1]
    flat = np.log(np.full((len(names), len(NAMES)), 1 / len(NAMES)))
    unsure = read(names, flat)[1]
    assert unsure.margin < 1 < sure.margin
    assert unsure.posterior.max() < 0.6 < sure.posterior.max(1).min()
    assert np.allclose(unsure.posterior.sum(1), 1)


def test_posterior_is_that_of_all_walks() -> None:
    """Two detections, no distances: the posterior against a sum over all pairs of levels by hand."""
    rng = np.random.default_rng(0)
    logs = np.log(rng.dirichlet(np.ones(len(NAMES)), 2))
    options = PathOptions(missed=-30.0, false=-60.0, sizes=(1.0,))
    found = read_levels(logs, None, np.full(2, 0.5), np.full((2, 2), np.nan), options)
    total = np.zeros((len(NAMES), len(NAMES)))
    start = {"T13": options.t13, "L6": options.l6, "S1": options.missed}
    rare = {("T12", "T13"): options.t13, ("T12", "L1"): 0, ("T13", "L1"): 0, ("T11", "L1"): options.no_t12,
            ("L5", "L6"): options.l6, ("L5", "S1"): 0, ("L6", "S1"): 0, ("L4", "S1"): options.no_l5}  # fmt: skip
    for a, b in itertools.product(range(len(NAMES)), repeat=2):
        pair = (NAMES[a], NAMES[b])
        usual = b == a + 1 and not {"T13", "L6"} & set(pair)
        if usual or pair in rare:
            total[a, b] = np.exp(start.get(pair[0], 0) + rare.get(pair, 0) + logs[0, a] + logs[1, b])
    assert np.allclose(found.posterior[0], total.sum(1) / total.sum(), atol=1e-6)
    assert np.allclose(found.posterior[1], total.sum(0) / total.sum(), atol=1e-6)


def test_nothing_to_read() -> None:
    found = read_levels(np.empty((0, len(NAMES))), None, np.empty(0), np.empty((0, 0)))
    assert len(found.levels) == 0


def test_ends_of_regions() -> None:
    names = between("T10", "S1")
    assert [END_NAMES[i] for i in ends_of(indices(names), True)] == [
        "none", "none", "last thoracic", "first lumbar", "none", "none", "none", "last lumbar", "none",
    ]  # fmt: skip
    # Where the film may go on, the last one listed is not known to be the last.
    assert ends_of(indices(between("L1", "L5")), False)[-1] == -1
    assert ends_of(indices(["T12", "T13", "L1"]), True).tolist() == [0, END_NAMES.index("last thoracic"), 5]


def test_pairs_where_the_geometry_is_known() -> None:
    rng = np.random.default_rng(1)
    names = between("T1", "L5")
    where = heights(names)
    ap, lat = np.delete(np.arange(len(names)), [3]), np.delete(np.arange(len(names)), [7, 16])
    distance = np.abs(
        (where[ap] + rng.normal(0, 2, len(ap)))[:, None] - (where[lat] + rng.normal(0, 2, len(lat)))[None]
    )
    logs = evidence(names, 0.4)
    found = pair_by_distance(distance, logs[ap], logs[lat], PairingOptions())
    pairs = {(int(ap[a]), int(lat[b])) for a, b in zip(found.ap, found.lat, strict=True) if a >= 0 and b >= 0}
    assert pairs == {(i, i) for i in range(len(names)) if i not in (3, 7, 16)}
    assert sorted(found.ap[found.ap >= 0]) == list(range(len(ap)))
    assert np.isnan(found.residual_mm).sum() == 3


def test_pairs_where_films_have_other_heights_and_sizes() -> None:
    names = between("C3", "T6")
    where = heights(names)
    logs = evidence(names, 0.7)
    found = pair_by_sequence(where * 1.06 + 45, where, logs, logs, PairingOptions())
    assert found.ap.tolist() == found.lat.tolist() == list(range(len(names)))
    # The LAT film begins two vertebrae lower.
    found = pair_by_sequence(where, where[2:] - where[2] + 10, logs, logs[2:], PairingOptions())
    assert found.ap.tolist() == list(range(len(names))) and found.lat.tolist() == [-1, -1, *range(len(names) - 2)]


def test_a_view_without_detections_pairs_nothing() -> None:
    logs = evidence(["T1", "T2"])
    found = pair_by_distance(np.empty((2, 0)), logs, logs[:0], PairingOptions())
    assert found.ap.tolist() == [0, 1] and found.lat.tolist() == [-1, -1]
    found = pair_by_sequence(np.array([0.0, 20]), np.empty(0), logs, logs[:0], PairingOptions())
    assert found.ap.tolist() == [0, 1] and found.lat.tolist() == [-1, -1]


def test_films_whose_sizes_are_guesses_may_differ_in_scale() -> None:
    """A real neck (two photographs): heights of detections in mm by the sizes guessed, and what the views say."""
    ap_rows = np.array([13.0, 26, 42, 53, 69, 84, 99, 118, 133])  # said to be C3 to T4
    lat_rows = np.array([45.0, 62, 86, 107, 127, 147, 168, 186])  # said to be C1 to T1
    logs = [evidence(between(first, last), 0.6) for first, last in (("C3", "T4"), ("C1", "T1"))]
    options = PairingOptions(scale_spread=PairingOptions().unknown_scale_spread)
    found = pair_by_sequence(ap_rows, lat_rows, *logs, options)
    both = (found.ap >= 0) & (found.lat >= 0)
    # One after the other in both views: the two films show the same spine without a gap in one of them.
    assert (np.diff(found.ap[both]) == 1).all() and (np.diff(found.lat[both]) == 1).all() and both.sum() == 6


def vertebrae(*names: str) -> list[Vertebra]:
    return [Vertebra(NAMES.index(name), i, i, np.eye(len(NAMES))[0], 0.9, 0.0) for i, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("T12", "L1", "L2", "L3", "L4", "L5", "S1"), True),
        (("L2", "L3", "L4", "L5", "L6", "S1"), False),
        (("C2", "C3", "L5", "S1"), False),
        (("T12", "L1", "L2"), False),
    ],
)
def test_a_count_from_the_sacrum_says_so(names: tuple[str, ...], said: bool) -> None:
    """verse083 has six lumbar vertebrae, and all its films are named one level too high."""
    assert (FROM_THE_SACRUM in reading_warnings(vertebrae(*names))) is said
    assert FROM_THE_SACRUM not in reading_warnings(vertebrae(*names), settled=True)
    assert FROM_THE_SACRUM not in reading_warnings(vertebrae(*names), "margin 1.0")
