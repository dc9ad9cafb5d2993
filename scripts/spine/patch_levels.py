"""Levels of what the annotation network found, read off each vertebra's own patches by the reconstruction network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.film import Films
from scripts.geometry.cropping import network_input, smooth_for_pitch
from scripts.levels import LEVEL_ORDER
from scripts.localization.found import Localization, to_annotations
from scripts.localization.levels import LEVELS
from scripts.reconstruction.predictor import Predictor
from scripts.spine.assembly import patient_lattice, place_pairs


@dataclass(frozen=True)
class PatchLevels:
    """A second opinion on levels, for `scripts.localization.annotate.annotate_films`.

    Args:
        predictor: the reconstruction network.
    """

    predictor: Predictor

    def __call__(self, films: Films, found: Localization) -> np.ndarray | None:
        """What the patches of the vertebrae that were found in films say of their levels.

        Returns:
            (N, LEVELS) log probabilities of the N matched vertebrae, rows of NaN where one view lacks a vertebra; None
            if no patch can be cut or the network knows nothing of levels.
        """
        return _read(films, found, self.predictor)


def _read(films: Films, found: Localization, predictor: Predictor) -> np.ndarray | None:
    if not predictor.takes_level or found.matched is None or not len(found.matched.in_both):
        return None
    pairing, (ap, lat) = found.matched.pairing, found.matched.views
    both = found.matched.in_both
    pixels = ap.centroid[pairing.ap[both]], lat.centroid[pairing.lat[both]]
    try:
        films = calibrate(films, to_annotations(found, films.shapes))
        cubes, _, leans = place_pairs(*pixels, films.geometry, patient_lattice(films.geometry))
    except UserError:
        return None
    smooth = [torch.from_numpy(smooth_for_pitch(v.film.pixels, v.view.pixel_mm)) for v in films.views]
    inputs = [
        network_input((smooth[0], smooth[1]), (pixels[0][i], pixels[1][i]), films.geometry, cubes[i], leans[i])
        for i in range(len(both))
    ]
    said = np.full((len(pairing.ap), LEVELS), np.nan)
    said[both, : len(LEVEL_ORDER)] = predictor.read_levels(inputs)[:, LEVEL_ORDER]
    return said
