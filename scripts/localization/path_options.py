"""What the walk down the table of levels costs (`scripts.localization.path`)."""

from __future__ import annotations

from dataclasses import dataclass


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
