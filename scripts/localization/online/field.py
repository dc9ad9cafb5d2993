"""CTs of which little beside the spine was scanned, as many CTs of spines are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scripts.localization.online.patient import FilmPatient


@dataclass(frozen=True)
class FieldOptions:
    """How narrow a CT may be; right and left and front and back are drawn apart.

    Args:
        narrow_share: of patients whose CT is cut, on two opposite sides.
        beside_mm: least and most that is left to the right and to the left of the outermost centroids.
        front_mm: least and most that is left in front of them.
        back_mm: least and most that is left behind them, where arches and spinous processes are.
    """

    narrow_share: float = 0.3
    beside_mm: tuple[float, float] = (25.0, 70.0)
    front_mm: tuple[float, float] = (25.0, 70.0)
    back_mm: tuple[float, float] = (45.0, 100.0)


def narrow_field(patient: FilmPatient, options: FieldOptions, random: np.random.RandomState) -> FilmPatient:
    """The patient, perhaps in a narrower CT.

    Args:
        patient: as scanned.
        options: how narrow.
        random: source.

    Returns:
        a patient whose volume is a view of the given one; its points are about the new middle.
    """
    start: np.ndarray = np.zeros(3, int)
    stop: np.ndarray = np.array(patient.hu.shape)
    middle = (stop - 1) / 2
    index = patient.points[:, 0] / patient.spacing_mm + middle
    for axis, before, behind in ((1, options.front_mm, options.back_mm), (2, options.beside_mm, options.beside_mm)):
        room = random.uniform(*before), random.uniform(*behind)
        if random.rand() < options.narrow_share:
            first = int(index[:, axis].min() - room[0] / patient.spacing_mm)
            last = int(index[:, axis].max() + room[1] / patient.spacing_mm)
            start[axis], stop[axis] = max(first, 0), min(last + 1, stop[axis])
    hu = patient.hu[:, start[1] : stop[1], start[2] : stop[2]]
    shift_mm = ((start + stop - 1) / 2 - middle) * patient.spacing_mm
    return replace(patient, hu=hu, points=patient.points - shift_mm)
