"""Which level each detection is: the most likely walk down the table of levels.

A hidden Markov chain over detections from head to foot. Evidence is what the network says of each; moves are one level
down, with rare ones for T13, L6, an absent T12 or L5, a vertebra that was missed, and a false detection. The
distances of neighbours speak too, weakly and with a free size of the patient (both measured in
``docs/localization.md``). S1 is a level like the others: without it what follows L5 would have to be an L6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import logsumexp

from scripts.anatomy.distances import measured_pair, pair_statistics
from scripts.levels import LEVEL_ORDER
from scripts.localization.levels import END_NAMES, LEVELS, NAMES, S1_INDEX, region_index

# Logarithm of what cannot be; finite, so that differences of such scores are numbers.
FORBIDDEN = -1e6
# From the last lumbar body to that of S1: not among the measured pairs; a disc and half of both bodies.
S1_PITCH_MM, S1_PITCH_SD_MM = 36.0, 4.0
LAST_OF_REGION = tuple(END_NAMES.index(name) for name in ("last cervical", "last thoracic", "last lumbar"))
FIRST_OF_REGION = {NAMES.index(f"{letter}1"): END_NAMES.index(f"first {name}")
                   for letter, name in (("C", "cervical"), ("T", "thoracic"), ("L", "lumbar"))}  # fmt: skip


@dataclass(frozen=True)
class PathOptions:
    """Costs of a walk, all natural logarithms of shares.

    Args:
        t13: a thirteenth thoracic vertebra.
        l6: a sixth lumbar one.
        no_t12: eleven thoracic ones.
        no_l5: four lumbar ones.
        missed: each vertebra that no view found.
        most_missed: in a row.
        most_false: false detections in a row.
        false: such a detection, on top of its own score's log odds.
        spacing: weight of the distances.
        overlapping: two neighbours so near to each other that their bodies would overlap.
        overlap: share of their mean distance below which they are.
        spread: standard deviations of distances are widened by it.
        size: spread of the patient's size (standard deviation of its logarithm).
        sizes: of the patient, relative to the mean.
        end: weight of what the network says about first and last of a region.
        films: weight of what the whole films say of a level, where the vertebra's own patches were read too.
        patches: weight of what these say (`scripts.localization.patch_levels`).
        anchored: weight of everything that the network says of levels where the user settles one: its opinions of one
            film's vertebrae are wrong together.
    """

    t13: float = -4.0
    l6: float = -3.5
    no_t12: float = -5.3
    no_l5: float = -4.6
    missed: float = -4.6
    most_missed: int = 2
    most_false: int = 3
    false: float = -4.0
    spacing: float = 0.3
    overlapping: float = -4.0
    overlap: float = 0.45
    spread: float = 1.15
    size: float = 0.063
    sizes: tuple[float, ...] = (0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.18)
    end: float = 0.25
    films: float = 0.35
    patches: float = 1.0
    anchored: float = 0.2


@dataclass(frozen=True)
class Known:
    """What is known of detections beforehand.

    Args:
        log_prior: (N, LEVELS) what each level of each costs, 0 or less; `FORBIDDEN` what cannot be. Where nothing can
            be, it is not a vertebra.
        certain: (N,) whether each is a vertebra for certain.
    """

    log_prior: np.ndarray
    certain: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What a walk says.

    Args:
        levels: (N,) places in the level table; -1 for what is not a vertebra.
        posterior: (N, LEVELS) of each detection, given that it is a vertebra.
        margin: by how much, in nats, the best walk beats those that give its vertebrae another level; the median over
            the vertebrae. Infinite without any.
        size: of the patient, relative to the mean.
        score: the logarithm of the best walk.
    """

    levels: np.ndarray
    posterior: np.ndarray
    margin: float
    size: float
    score: float


def read_levels(
    log_level: np.ndarray,
    log_end: np.ndarray | None,
    scores: np.ndarray,
    steps_mm: np.ndarray,
    options: PathOptions | None = None,
    known: Known | None = None,
) -> Reading:
    """Levels of detections that are ordered from head to foot.

    Args:
        log_level: (N, LEVELS) log probabilities.
        log_end: (N, 7) log probabilities of being first or last of a region, or None.
        scores: (N,) probability that each is a vertebra at all.
        steps_mm: (N, N) distance from each detection to each later one; NaN where it is not known.
        options: costs of missed vertebrae, unusual counts and distances; the defaults if None.
        known: what the user says, if anything; no walk fits if the score is below half of `FORBIDDEN`.
    """
    options = options or PathOptions()
    count = len(scores)
    if count == 0:
        return Reading(np.empty(0, int), np.empty((0, LEVELS)), float("inf"), 1.0, 0.0)
    if known is not None:
        options = replace(options, end=options.anchored * options.end)
        log_level = options.anchored * log_level
    evidence = log_level + _first_evidence(log_end, options)
    odds = np.log(np.clip(scores, 1e-4, 1 - 1e-4)) - np.log1p(-np.clip(scores, 1e-4, 1 - 1e-4))
    skipping = options.false - np.maximum(odds, 0)
    if known is not None:
        evidence = np.maximum(evidence + known.log_prior, FORBIDDEN)
        skipping = np.where(known.certain, FORBIDDEN, skipping)
    chains = [
        (size, prior, _Chain(evidence, log_end, skipping, steps_mm, size, options)) for size, prior in _sizes(options)
    ]
    best_size, prior, chain = max(chains, key=lambda c: c[1] + c[2].best())
    levels = chain.walk()
    log_posterior = logsumexp([prior + chain.marginals() for _, prior, chain in chains], axis=0)
    log_posterior -= logsumexp(log_posterior, axis=1, keepdims=True)
    margins = chain.margins(levels)
    return Reading(levels, np.exp(log_posterior), margins, best_size, float(prior + chain.best()))


def _sizes(options: PathOptions) -> Iterator[tuple[float, float]]:
    yield from ((size, -0.5 * (np.log(size) / options.size) ** 2) for size in options.sizes)


def _first_evidence(log_end: np.ndarray | None, options: PathOptions) -> np.ndarray | float:
    """T1, L1, C1 are always the first of their region; others never."""
    if log_end is None:
        return 0.0
    evidence = np.zeros((len(log_end), LEVELS))
    firsts = list(FIRST_OF_REGION.values())
    not_first = np.log(np.maximum(1 - np.exp(log_end[:, firsts]).sum(1), 1e-4))
    evidence += options.end * not_first[:, None]
    for level, end in FIRST_OF_REGION.items():
        evidence[:, level] = options.end * np.maximum(log_end[:, end], np.log(1e-4))
    return evidence


@cache
def _moves(options: PathOptions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For 1, 2, ... levels down: log share, mean distance and variance of each move, (hops, LEVELS, LEVELS) each."""
    single = np.full((LEVELS, LEVELS), -np.inf)
    names = {name: i for i, name in enumerate(NAMES)}
    for a, b in itertools.pairwise(names):
        if "T13" not in (a, b) and "L6" not in (a, b):
            single[names[a], names[b]] = 0.0
    rare = {
        ("T12", "T13"): options.t13, ("T12", "L1"): 0.0, ("T13", "L1"): 0.0, ("T11", "L1"): options.no_t12,
        ("L5", "L6"): options.l6, ("L5", "S1"): 0.0, ("L6", "S1"): 0.0, ("L4", "S1"): options.no_l5,
    }  # fmt: skip
    for (a, b), share in rare.items():
        single[names[a], names[b]] = share
    mean, variance = np.zeros((2, LEVELS, LEVELS))
    for i, j in zip(*np.nonzero(np.isfinite(single)), strict=True):
        if j == S1_INDEX:
            mean[i, j], variance[i, j] = S1_PITCH_MM, S1_PITCH_SD_MM**2
        else:
            row = pair_statistics()[measured_pair(LEVEL_ORDER[i], LEVEL_ORDER[j])]
            mean[i, j], variance[i, j] = row["distance_mm"], row["distance_sd_mm"] ** 2
    shares, means, variances = [single], [mean], [variance]
    for _ in range(options.most_missed):
        before = shares[-1]
        through = before[:, :, None] + single[None] + options.missed
        middle = through.argmax(1)
        rows, columns = np.indices((LEVELS, LEVELS))
        shares.append(through.max(1))
        means.append(means[-1][rows, middle] + mean[middle, columns])
        variances.append(variances[-1][rows, middle] + variance[middle, columns])
    return np.stack(shares), np.stack(means), np.stack(variances)


def _start(options: PathOptions) -> np.ndarray:
    start = np.zeros(LEVELS)
    start[NAMES.index("T13")], start[NAMES.index("L6")], start[S1_INDEX] = options.t13, options.l6, options.missed
    return start


class _Chain:
    """Scores of all walks for one size of the patient, in logarithms."""

    def __init__(
        self,
        evidence: np.ndarray,
        log_end: np.ndarray | None,
        skipping: np.ndarray,
        steps_mm: np.ndarray,
        size: float,
        options: PathOptions,
    ) -> None:
        self.evidence, self.options = evidence, options
        self.count = count = len(evidence)
        # What is passed over before, between and after.
        skipped = np.concatenate([[0.0], np.cumsum(skipping)])
        self.first = [skipped[i] + _start(options) for i in range(count)]
        self.last = np.array([skipped[count] - skipped[i + 1] for i in range(count)])
        self.links: dict[tuple[int, int], np.ndarray] = {}
        for i in range(count):
            for j in range(i + 1, min(i + 2 + options.most_false, count)):
                link = _link(float(steps_mm[i, j]), size, options)
                if log_end is not None:
                    link = link + _last_evidence(log_end[i], options)
                self.links[i, j] = link + skipped[j] - skipped[i + 1]
        self.forward_best, self.back = self._sweep(np.max)
        self.forward, _ = self._sweep(logsumexp)
        self.backward_best, self.backward = self._reverse(np.max), self._reverse(logsumexp)

    def _before(self, j: int) -> range:
        return range(max(j - 1 - self.options.most_false, 0), j)

    def _sweep(self, gather: Callable[..., np.ndarray]) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
        forward = np.zeros((self.count, LEVELS))
        back: list[list[tuple[int, int]]] = []
        for j in range(self.count):
            ways = [self.first[j] if j <= self.options.most_false else np.full(LEVELS, -np.inf)]
            sources: list[tuple[int, np.ndarray]] = [(-1, np.zeros(LEVELS, int))]
            for i in self._before(j):
                through = forward[i][:, None] + self.links[i, j]
                ways.append(gather(through, axis=0))
                sources.append((i, through.argmax(0)))
            stacked = np.stack(ways)
            forward[j] = gather(stacked, axis=0) + self.evidence[j]
            chosen = stacked.argmax(0)
            back.append([(sources[c][0], int(sources[c][1][level])) for level, c in enumerate(chosen)])
        return forward, back

    def _reverse(self, gather: Callable[..., np.ndarray]) -> np.ndarray:
        """What comes after each detection at each level, without its own evidence."""
        backward = np.zeros((self.count, LEVELS))
        for i in range(self.count - 1, -1, -1):
            end = self.last[i] if self.count - 1 - i <= self.options.most_false else -np.inf
            ways = [np.full(LEVELS, end)]
            for j in range(i + 1, min(i + 2 + self.options.most_false, self.count)):
                through = self.links[i, j] + self.evidence[j] + backward[j]
                ways.append(gather(through, axis=1))
            backward[i] = gather(np.stack(ways), axis=0)
        return backward

    def best(self) -> float:
        return float(max(self.forward_best[i].max() + self._end(i) for i in range(self.count)))

    def _end(self, i: int) -> float:
        return float(self.last[i]) if self.count - 1 - i <= self.options.most_false else -np.inf

    def walk(self) -> np.ndarray:
        levels = np.full(self.count, -1)
        at = int(np.argmax([self.forward_best[i].max() + self._end(i) for i in range(self.count)]))
        level = int(self.forward_best[at].argmax())
        while at >= 0:
            levels[at] = level
            at, level = self.back[at][level]
        return levels

    def marginals(self) -> np.ndarray:
        return self.forward + self.backward

    def margins(self, levels: np.ndarray) -> float:
        best = self.forward_best + self.backward_best
        found = np.flatnonzero(levels >= 0)
        if not len(found):
            return float("inf")
        others = best[found].copy()
        mine = others[np.arange(len(found)), levels[found]].copy()
        others[np.arange(len(found)), levels[found]] = -np.inf
        return float(np.median(mine - others.max(1)))


def _link(step_mm: float, size: float, options: PathOptions) -> np.ndarray:
    """Log score of going from each level (row) to each level (column) over a distance."""
    shares, means, variances = _moves(options)
    if not np.isfinite(step_mm):
        return shares.max(0)
    squared = (step_mm - size * means) ** 2 / (options.spread**2 * np.maximum(variances, 1e-6))
    overlapping = step_mm < options.overlap * size * means
    return (shares - options.spacing * np.minimum(squared / 2, 9.0) + options.overlapping * overlapping).max(0)


@cache
def _crossings() -> np.ndarray:
    """(LEVELS, LEVELS) place in `END_NAMES` of the upper level of a move, 0 if it stays in its region."""
    regions = np.array([region_index(level) for level in range(LEVELS)])
    crossing: np.ndarray = np.zeros((LEVELS, LEVELS), int)
    for region, end in enumerate(LAST_OF_REGION):
        crossing[(regions[:, None] == region) & (regions[None] == region + 1)] = end
    return crossing


def _last_evidence(log_end: np.ndarray, options: PathOptions) -> np.ndarray:
    """What the network says of the upper detection of a move being the last of its region, for every move."""
    not_last = np.log(max(1 - np.exp(log_end[list(LAST_OF_REGION)]).sum(), 1e-4))
    said = np.maximum(log_end, np.log(1e-4)).copy()
    said[0] = not_last
    return options.end * said[_crossings()]
