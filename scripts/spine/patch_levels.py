"""Levels of what the annotation network found, read off each vertebra's own patches by the reconstruction network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.film import Films
from scripts.geometry.cropping import network_input
from scripts.levels import LEVEL_ORDER
from scripts.localization.found import Localization, to_annotations
from scripts.localization.levels import LEVELS
from scripts.reconstruction.predictor import Predictor
from scripts.spine.assembly import patient_lattice, place_pairs
from scripts.spine.session import smoothed_views


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
        matched = found.matched
        if not self.predictor.takes_level or matched is None or not len(matched.in_both):
            return None
        pairing, (ap, lat), both = matched.pairing, matched.views, matched.in_both
        pixels = ap.centroid[pairing.ap[both]], lat.centroid[pairing.lat[both]]
        try:
            films = calibrate(films, to_annotations(found, films.shapes))
            cubes, _, leans = place_pairs(*pixels, films.geometry, patient_lattice(films.geometry))
        except UserError:
            return None
        smooth = smoothed_views(films)
        inputs = [
            network_input((smooth[0], smooth[1]), (frontal, lateral), films.geometry, cube, lean)
            for frontal, lateral, cube, lean in zip(*pixels, cubes, leans, strict=True)
        ]
        said = np.full((len(pairing.ap), LEVELS), np.nan)
        said[both, : len(LEVEL_ORDER)] = self.predictor.read_levels(inputs)[:, LEVEL_ORDER]
        return said
