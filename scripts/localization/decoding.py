"""From both views' detections to vertebrae: which belong together, in which order, and which levels they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.geometry.biplanar import BiplanarGeometry
from scripts.localization.anchored import inside_films, read_anchored
from scripts.localization.anchors import Anchor
from scripts.localization.completion import complete_pairs
from scripts.localization.detection import Detections
from scripts.localization.found import Localization, Vertebra, reading_warnings, why_uncertain
from scripts.localization.matching import Matched, PixelSizes, match_views
from scripts.localization.pairing import PairingOptions
from scripts.localization.patch_levels import with_patch_levels
from scripts.localization.path import Known, Reading, read_levels
from scripts.localization.path_options import PathOptions


def decode(
    views: tuple[Detections, Detections],
    sizes: PixelSizes,
    geometry: BiplanarGeometry | None,
    pairing_options: PairingOptions,
    path_options: PathOptions,
    score_bias: float,
    anchors: Sequence[Anchor] = (),
    shapes: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> Localization:
    """All vertebrae of two views.

    Args:
        views: detections in AP and LAT, in pixels of the films; one of them may be empty.
        sizes: of the films' pixels at the patient.
        geometry: of both films; without it they are matched by their order alone.
        pairing_options: how detections are matched.
        path_options: how levels are read.
        score_bias: added to the log odds of a vertebra's score, as calibration measured it.
        anchors: what the user says of levels.
        shapes: of the films, (rows, columns); only of use with anchors.

    Raises:
        UserError: nothing was detected, or the anchors do not fit it.
    """
    matched = match_views(views, sizes, geometry, pairing_options, anchors, shapes)
    return read_matched(matched, path_options, score_bias)


def read_matched(
    matched: Matched, options: PathOptions, score_bias: float, patch_levels: np.ndarray | None = None
) -> Localization:
    """Vertebrae with their levels.

    Args:
        matched: N vertebrae.
        options: how levels are read.
        score_bias: added to the log odds of a vertebra's score, as calibration measured it.
        patch_levels: (N, LEVELS) what their own patches say, if they were read
            (`scripts.localization.patch_levels`).

    Raises:
        UserError: the anchors do not fit what was found.
    """
    log_level = matched.log_level
    if patch_levels is not None:
        log_level = with_patch_levels(log_level, patch_levels, options.films, options.patches)

    def read(known: Known | None) -> Reading:
        return read_levels(log_level, matched.log_end, matched.score, matched.steps_mm, options, known)

    views, pairing, anchors = matched.views, matched.pairing, matched.anchors
    if anchors:
        inside_mm = inside_films(pairing, views, matched.shapes, matched.sizes)
        reading, said = read_anchored(read, anchors, matched.places, pairing, inside_mm)
    else:
        reading, said = read(None), []
    confidence = 1 / (1 + np.exp(-score_bias) * (1 - matched.score) / np.maximum(matched.score, 1e-6))
    vertebrae = [
        Vertebra(
            int(level), int(pairing.ap[i]), int(pairing.lat[i]), reading.posterior[i], float(confidence[i]),
            float(pairing.residual_mm[i]),
        )
        for i, level in enumerate(reading.levels)
        if level >= 0
    ]  # fmt: skip
    if matched.geometry is not None:
        views, vertebrae = complete_pairs(views, vertebrae, matched.geometry)
    doubt = "" if anchors else why_uncertain(vertebrae, reading, views)
    warnings = [*said, *reading_warnings(vertebrae, doubt, bool(anchors))]
    pixel_mm = tuple((float(s[0]), float(s[1])) for s in matched.sizes)
    sizes = (pixel_mm[0], pixel_mm[1])
    return Localization(views, vertebrae, reading, warnings, sizes, anchors, bool(doubt), matched)
