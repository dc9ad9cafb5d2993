"""What a prepared dataset says about one vertebra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scripts.io.nifti import read_nifti


@dataclass(frozen=True)
class VertebraItem:
    """One row of a data list; paths are relative to the dataset's folder.

    Args:
        image: NIfTI (120, 120, 1, 4): AP patch, AP centroid mask, LAT patch, LAT centroid mask. Its affine is the
            cube's, so that a prediction that inherits it lies where it belongs.
        label: NIfTI (120, 120, 120) mask of the vertebra.
        subject: patient.
        series: of the patient; variants carry ``~v01`` and so on.
        level: its name.
        centroid_mm: body centroid in the world.
        centroid_source: ``annotated`` or ``estimated``.
        clipped_fraction: share of the mask outside the cube.
        border_contact_mm2: area of the mask on the border of the field of view.
        source: where the case comes from.
        licence: of the case.
        excluded: why it is in no list; empty if it is.
        case: key of the case that it is from, variants included.
        along_spine: whether patches and label were cut along the spine.
        label_origin: ``fitted`` where the label is a fitted library shape: no accuracy is measured on it.
        no_mark: whether its centroid is that of debris or of a part of a vertebra, which is no mark of the spine.
    """

    image: str
    label: str
    subject: str
    series: str
    level: str
    centroid_mm: tuple[float, float, float]
    centroid_source: str
    clipped_fraction: float
    border_contact_mm2: float
    source: str
    licence: str
    excluded: str = ""
    case: str = ""
    along_spine: bool = False
    label_origin: str = ""
    no_mark: bool = False


def read_patches(path: Path) -> torch.Tensor:
    """The channels (4, 120, 120) float32 of an item's image.

    Raises:
        UserError: missing, truncated or not NIfTI.
    """
    patches = read_nifti(path)[0]
    return torch.from_numpy(np.ascontiguousarray(patches[:, :, 0].transpose(2, 0, 1), dtype=np.float32))
