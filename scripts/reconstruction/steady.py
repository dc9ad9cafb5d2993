"""Readings along one spine against each other and against how people are: a Gaussian process.

A vertebra's nine numbers (`scripts.anatomy.placement`) are read off its own patches with an error. Neighbours of one
person are alike, and errors partly differ from one to the next, so each number is estimated from the whole spine: the
posterior mean of a Gaussian process along the levels (Rasmussen and Williams 2006, ISBN 026218253X, equation 2.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.anatomy.placement import NUMBERS, by_kind
from scripts.levels import places_along_spine

# Of place (mm), turn (degrees) and stretch: with finer steps, a mark that is moved by 4 mm changed the
# reconstructions of most of the spine, without being more accurate.
STEP = np.array(by_kind(0.25, 1.0, 0.01))


@dataclass(frozen=True)
class Spread:
    """How a number varies along a spine; standard deviations in its unit.

    Args:
        person: of what all vertebrae of a person share.
        smooth: of what fades from one vertebra to the next.
        own: of what each has by itself.
        reach: levels after which the smooth part has faded to 1 / e.
    """

    person: float
    smooth: float
    own: float
    reach: float = 2.0

    def covariance(self, places: np.ndarray) -> np.ndarray:
        """(N, N) of vertebrae at ``places`` (N,) along the spine, in levels."""
        away = np.abs(places[:, None] - places)
        return self.person**2 + self.smooth**2 * np.exp(-away / self.reach) + self.own**2 * np.eye(len(places))


# Of the numbers themselves, about `USUAL`: masks of seven people with real CTs (docs/training-log.md).
PEOPLE = (
    Spread(0.1, 0.15, 0.25),
    Spread(0.45, 0.35, 0.35, 3.0),
    Spread(0.25, 0.25, 0.35),
    Spread(3.5, 3.5, 0.8, 5.0),
    Spread(0.5, 1.7, 1.1),
    Spread(1.2, 1.7, 1.5),
    Spread(0.05, 0.04, 0.035),
    Spread(0.055, 0.02, 0.018, 4.0),
    Spread(0.05, 0.02, 0.018, 4.0),
)
USUAL = np.array([0, -0.3, 0, 0, 0, 0, 0, 0, 0])
# Of the reader's errors, on people that it never saw.
ERRORS = (
    Spread(0.2, 0.4, 0.5),
    Spread(0.4, 0.6, 0.5),
    Spread(0.3, 1.0, 0.6),
    Spread(0.5, 0.5, 1.6),
    Spread(0.4, 1.2, 1.4),
    Spread(0.6, 1.2, 1.6),
    Spread(0.03, 0.03, 0.045),
    Spread(0.035, 0.03, 0.03, 3.0),
    Spread(0.015, 0.025, 0.035),
)
# Of marks, mm down, back and left, from which places are read: what a person sets, and what the network does.
PLACES = 3
MARKS = (Spread(0.0, 0.0, 0.7),) * PLACES
# Automatic marks are off by 3 mm to the side too. But where the annotation network is misled there, so is the reader:
# on real films its readings to the side have nothing to do with the error (docs/localization-experiments.md).
AUTOMATIC_MARKS = (Spread(1.0, 2.0, 1.5, 4.0), Spread(1.0, 2.0, 1.5, 4.0), MARKS[2])
# And down and back the reader sees no more than this share of how far they are off.
SEEN_OF_AUTOMATIC = 0.7


def steady_numbers(
    read: np.ndarray, levels: Sequence[int], automatic: Sequence[bool] | bool = False, step: np.ndarray = STEP
) -> np.ndarray:
    """How the mean shapes of one spine most likely lie.

    Args:
        read: (N, 9) of one spine: place (mm), turn (degrees) and log stretches of each mean shape.
        levels: N VerSe numbers.
        automatic: whether the annotation network set the marks, of each or of all.
        step: (9,) to round to, so that a small change of one mark leaves the others' reconstructions as they are.

    Returns:
        (N, 9), in steps of ``step``.

    >>> read = np.zeros((3, 9))
    >>> read[1, 8] = 0.1  # broader than its neighbours, which real people's vertebrae are not
    >>> steady_numbers(read, [18, 19, 20])[:, 8].round(3).tolist()
    [0.02, 0.04, 0.02]
    """
    places = np.array(places_along_spine(levels), float)
    model = np.broadcast_to(np.asarray(automatic, bool), places.shape)
    share = np.where(model, SEEN_OF_AUTOMATIC, 1.0)
    found = np.empty_like(read, dtype=float)
    for i in range(NUMBERS):
        # Covariances of what is wanted with what is read, and of what is read.
        shared = PEOPLE[i].covariance(places)
        of_readings = shared + ERRORS[i].covariance(places)
        if i < PLACES:
            marks = _marks_covariance(i, model, places)
            shared = shared + marks * share
            of_readings = of_readings + share[:, None] * marks * share
        found[:, i] = USUAL[i] + shared @ np.linalg.solve(of_readings, read[:, i] - USUAL[i])
    return np.rint(found / step) * step


def _marks_covariance(axis: int, automatic: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, N) of how far marks are off along an axis; those by hand and automatic ones have nothing in common."""
    by_network, by_hand = (kind[axis].covariance(places) for kind in (AUTOMATIC_MARKS, MARKS))
    both_by_hand = np.where(np.outer(~automatic, ~automatic), by_hand, 0.0)
    return np.where(np.outer(automatic, automatic), by_network, both_by_hand)
