"""How sure a mean over vertebrae is: 95 % intervals from patients drawn with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 1000


def interval_95(values: np.ndarray, patients: Sequence[str], draws: int = DRAWS, seed: int = 0) -> np.ndarray | None:
    """Between which numbers a mean lies in 95 of 100 cases.

    Whole patients are drawn, since what belongs to a patient is alike, and the mean is over all values of those drawn.

    Args:
        values: (N,) or (N, M).
        patients: N, whose each value is; the interval's last digits depend on the order in which they first come.
        draws: how often as many patients are drawn as there are.
        seed: of the drawing.

    Returns:
        (2,) or (2, M) lower and upper end of each column's mean; None for a single patient.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(patients))}
    if len(names) < 2:
        return None
    owner = np.array([names[name] for name in patients])
    columns = np.asarray(values, float).reshape(len(owner), -1)
    sums = np.array([columns[owner == number].sum(0) for number in names.values()])
    counts = np.bincount(owner)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)[:, None]
    return np.percentile(means, [2.5, 97.5], axis=0).reshape(2, *np.shape(values)[1:])
