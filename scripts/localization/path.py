"""Which level each detection is: the most likely walk down the table of levels.

A hidden Markov chain over detections from head to foot. Evidence is what the network says of each; moves are one level
down, with rare ones for T13, L6, an absent T12 or L5, a vertebra that was missed, and a false detection. The
distances of neighbours speak too, weakly and with a free size of the patient (both measured in
``docs/localization.md``). S1 is a level like the others: without it what follows L5 would have to be an L6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from scripts.localization.level_moves import last_evidence, link, start
from scripts.localization.levels import END_NAMES, LEVELS, NAMES
from scripts.localization.path_options import PathOptions

# Logarithm of what cannot be; finite, so that differences of such scores are numbers.
FORBIDDEN = -1e6
FIRST_OF_REGION = {NAMES.index(f"{letter}1"): END_NAMES.index(f"first {name}")
                   for letter, name in (("C", "cervical"), ("T", "thoracic"), ("L", "lumbar"))}  # fmt: skip


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
        self.first = [skipped[i] + start(options) for i in range(count)]
        self.last = np.array([skipped[count] - skipped[i + 1] for i in range(count)])
        self.links: dict[tuple[int, int], np.ndarray] = {}
        for i in range(count):
            for j in range(i + 1, min(i + 2 + options.most_false, count)):
                score = link(float(steps_mm[i, j]), size, options)
                if log_end is not None:
                    score = score + last_evidence(log_end[i], options)
                self.links[i, j] = score + skipped[j] - skipped[i + 1]
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
