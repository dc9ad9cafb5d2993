"""A second opinion on levels: what each vertebra's own patches say, beside what the whole films say.

The annotation network sees the films at 2 mm and judges a vertebra by its surroundings; the reader of the
reconstruction network sees the vertebra's two patches at 1 mm. On a chest that neither was trained on, the second names
vertebrae better where neither end of the spine is in sight (docs/localization.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from scripts.localization.found import Localization
from scripts.localization.levels import LEVELS, S1_INDEX

# What was found -> (N, LEVELS) as of `with_patch_levels`; None where patches cannot be read.
PatchReader = Callable[[Localization], np.ndarray | None]
# No opinion rules a level out.
LEAST_PROBABILITY = 1e-4


def with_patch_levels(log_level: np.ndarray, patch_levels: np.ndarray, films: float, patches: float) -> np.ndarray:
    """Both opinions in one.

    Patches say which vertebra it is if it is one of those that the reconstruction network knows; whether it is the
    sacrum is left to the films.

    Args:
        log_level: (N, LEVELS) log probabilities by the films.
        patch_levels: (N, LEVELS) log probabilities by the patches; S1's is ignored, and rows of NaN say nothing.
        films: weight of the first where there are both.
        patches: weight of the second.

    Returns:
        (N, LEVELS) log probabilities.

    >>> films = np.log(np.full((1, LEVELS), 1 / LEVELS))
    >>> patches = np.full((1, LEVELS), -9.0)
    >>> patches[0, 12] = 0.0
    >>> int(with_patch_levels(films, patches, 0.5, 1.0)[0].argmax())
    12
    """
    found = log_level.copy()
    vertebrae = np.arange(LEVELS) != S1_INDEX
    for row in np.flatnonzero(np.isfinite(patch_levels[:, vertebrae]).all(1)):
        bounded = np.maximum(patch_levels[row, vertebrae], np.log(LEAST_PROBABILITY))
        mixed = films * log_level[row, vertebrae] + patches * bounded
        sacrum = min(float(np.exp(log_level[row, S1_INDEX])), 1 - LEAST_PROBABILITY)
        found[row, vertebrae] = mixed - logsumexp(mixed) + np.log1p(-sacrum)
    return found
