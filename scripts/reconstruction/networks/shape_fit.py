"""The level's mean shape fitted to what the network saw: real processes where a film shows them badly.

A network that knows the level begins with the level's mean shape as its logits (`networks.level`). Once it has
looked at the films, its answer says better how the vertebra lies and how large it is. The mean shape fitted to that
answer as a whole then takes the first one's place under what the network added. Statistical shape models are fitted to
networks' answers like this for the same reason: bone that was not seen comes back with the rest of the shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.anatomy.mean_shapes import to_mm
from scripts.anatomy.placement import ShapeFitOptions, cube_points, fit_shapes
from scripts.reconstruction.networks.level import LevelPrior


def fit_mean_shapes(
    probabilities: torch.Tensor,
    levels: torch.Tensor,
    tilts: torch.Tensor,
    numbers: torch.Tensor,
    prior: LevelPrior,
    options: ShapeFitOptions,
) -> torch.Tensor:
    """How mean shapes lie that overlap best with a network's probabilities.

    Args:
        probabilities: (B, 120, 120, 120) along I, P, L of the vertebrae's cubes.
        levels: (B,) VerSe numbers; where it is 0 nothing is fitted.
        tilts: (B,) degrees by which each leans in the sagittal plane of its cube.
        numbers: (B, 9) place (mm), turn (degrees) and log stretches, where the fit begins.
        prior: whose mean shapes these are.
        options: how shapes are fitted: points compared, steps, strength of the prior.

    Returns:
        (B, 9) fitted numbers.
    """
    fitted = numbers.float().clone()
    known = torch.nonzero(levels > 0)[:, 0]
    if not len(known):
        return fitted
    # Also where the caller needs no gradients: tensors made there cannot have any.
    with torch.inference_mode(False), torch.enable_grad():
        seen = F.avg_pool3d(probabilities[known][:, None], options.lattice_mm).flatten(1)
        points = cube_points(options.lattice_mm, probabilities.device)
        shapes, read = to_mm(prior.table[levels[known]]), numbers[known].float()
        of_known, _ = fit_shapes(shapes, points, seen, read, tilts[known].clone(), options)
    fitted[known] = of_known
    return fitted
