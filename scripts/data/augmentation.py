"""Random transforms that MONAI lacks: wrong marks, leaning vertebrae, the physics of films, and things burnt into them.

They work on a vertebra as ``configs/train.json`` loads it: patches of line integrals ``image_ap`` and ``image_lat``,
their centroid masks ``image_ap_mask`` and ``image_lat_mask``, each (1, 120, 120), and the ``label`` (1, 120, 120, 120),
or the same 120 mm in larger voxels (``configs/half_resolution.json``).
Where a patch has its ``<key>_valid`` (`scripts.data.normalisation`), that moves along.
``configs/augment_films.json`` combines them with MONAI's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from PIL import Image, ImageDraw, ImageFont

from scripts.data.normalisation import VALID
from scripts.geometry.cropping import (
    CENTROID_SIGMA_MM,
    CUBE_POSTERIOR_OFFSET_MM,
    CUBE_SIZE,
    NOMINAL_CENTROID,
    gaussian_mark,
)
from scripts.geometry.film import FilmOptions, field_mask, make_film
from scripts.geometry.leaning import Lean, turn, turned

Range = Sequence[float]
MIDDLE = (CUBE_SIZE - 1) / 2


class RandCentroidErrord(RandomizableTransform, MapTransform):
    """What the network gets when the detector puts a vertebra's mark beside its centroid.

    The detector errs in each view by itself. The vertebra's place in space is the two marks' back-projection (parallel
    beams: the column of each view, the mean of their rows), and cube and patches are cut about that. So patches and
    label move by the error in space, to whole voxels, and each mask keeps what is left of its own view's error; the
    result is the new crop itself, but for what the patches did not hold: there they are mirrored at their edge.

    Args:
        keys: AP patch, AP mask, LAT patch, LAT mask, label, in this order.
        prob: of any error at all.
        sigma_mm: range from which an error's standard deviation is drawn, along each axis of each view.
        outlier_prob: share of errors that are large.
        outlier_mm: standard deviation of those.
        limit_mm: no error is larger, along any axis.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image_ap", "image_ap_mask", "image_lat", "image_lat_mask", "label"),
        *,
        prob: float,
        sigma_mm: Range = (2.0, 5.0),
        outlier_prob: float = 0.02,
        outlier_mm: float = 12.0,
        limit_mm: float = 30.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 5:
            raise ValueError("keys are those of AP patch, AP mask, LAT patch, LAT mask and label")
        self.sigma_mm, self.outlier_prob, self.outlier_mm = sigma_mm, outlier_prob, outlier_mm
        self.limit_mm = limit_mm
        # Where the mark lies in patches of 1 mm, (row, column) of AP and LAT, when nothing was rounded.
        self.expected = np.array([[MIDDLE, MIDDLE], [MIDDLE, MIDDLE - CUBE_POSTERIOR_OFFSET_MM]])
        self.errors_mm = np.zeros((2, 2))

    def randomize(self, data: Any = None) -> None:
        """Draw the errors (view, axis)."""
        super().randomize(None)
        sigma = self.R.uniform(*self.sigma_mm)
        if self.R.rand() < self.outlier_prob:
            sigma = self.outlier_mm
        errors = self.R.normal(0, sigma, (2, 2))
        self.errors_mm = np.clip(errors, -self.limit_mm, self.limit_mm)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Move patches, marks and label."""
        moved = dict(data)
        self.randomize()
        if not self._do_transform:
            return moved
        ap, ap_mask, lat, lat_mask, label = self.keys
        size = data[label].shape[-1]
        errors = self.errors_mm * (size / CUBE_SIZE)
        marks = np.stack([_mark_position(data[ap_mask]), _mark_position(data[lat_mask])]) + errors
        offset = marks - _on_grid(self.expected, size)
        rows, lefts, posteriors = np.rint([offset[:, 0].mean(), offset[0, 1], offset[1, 1]]).astype(int)
        moved[ap] = _shifted(data[ap], (rows, lefts))
        moved[lat] = _shifted(data[lat], (rows, posteriors))
        for patch, column in ((ap, lefts), (lat, posteriors)):
            if (valid := f"{patch}{VALID}") in data:
                moved[valid] = _shifted(data[valid], (rows, column))
        moved[label] = _shifted(data[label], (rows, posteriors, lefts), fill=0.0)
        for key, mark, column in ((ap_mask, marks[0], lefts), (lat_mask, marks[1], posteriors)):
            mask = gaussian_mark(mark - (rows, column), CENTROID_SIGMA_MM * size / CUBE_SIZE, size)
            moved[key] = torch.zeros_like(data[key]) + torch.from_numpy(mask).to(data[key].device)
        return moved


class RandTiltd(RandomizableTransform, MapTransform):
    """A vertebra that leans: each patch turned in its plane about the mark, and the label with both.

    Spines in training data are mostly straight, and a network that saw few tilted vertebrae reconstructs them upright.
    The patch in whose plane the vertebra leans is exact for parallel rays; the other view's, which would show the
    endplates foreshortened, is left as it is.

    Args:
        keys: AP patch, AP mask, LAT patch, LAT mask, label, in this order.
        prob: of any tilt.
        frontal_deg: the AP patch turns by up to this, either way.
        lateral_deg: the LAT patch turns by up to this, either way.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image_ap", "image_ap_mask", "image_lat", "image_lat_mask", "label"),
        *,
        prob: float,
        frontal_deg: float = 25.0,
        lateral_deg: float = 25.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 5:
            raise ValueError("keys are those of AP patch, AP mask, LAT patch, LAT mask and label")
        self.limits_deg = (frontal_deg, lateral_deg)
        self.angles_deg = np.zeros(2)

    def randomize(self, data: Any = None) -> None:
        """Draw the angles, frontal and lateral; positive ones turn the foot end to the Left and to Posterior."""
        super().randomize(None)
        self.angles_deg = self.R.uniform(-1, 1, 2) * self.limits_deg

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Turn patches, marks and label."""
        leaning = dict(data)
        self.randomize()
        if not self._do_transform:
            return leaning
        ap, ap_mask, lat, lat_mask, label = self.keys
        lean, centre = Lean(*self.angles_deg), _on_grid(NOMINAL_CENTROID, data[label].shape[-1])
        frontal, lateral = turn(lean.frontal_deg), turn(lean.sagittal_deg)
        for patch, mask, matrix, axes in ((ap, ap_mask, frontal, [0, 2]), (lat, lat_mask, lateral, [0, 1])):
            leaning[patch] = turned(data[patch], matrix, centre[axes], padding="reflection")
            leaning[mask] = turned(data[mask], matrix, centre[axes])
            if (valid := f"{patch}{VALID}") in data:
                leaning[valid] = turned(data[valid], matrix, centre[axes], padding="reflection")
        leaning[label] = turned(data[label], lean.rotation(), centre, mode="nearest")
        return leaning


class RandFilmd(RandomizableTransform, MapTransform):
    """Films as different machines make them: `scripts.geometry.film` with random options.

    The options are drawn once, as one machine makes both films; noise and collimation are each film's own. The
    result is no longer a line integral, so that only relative intensities mean anything.

    Args:
        keys: patches of line integrals.
        prob: of any effect at all.
        hardening: range of the spread of the beam's spectrum; 0 for one energy.
        scatter_ratio: range of scattered over primary intensity per unit of line integral.
        scatter_mm: range of the standard deviation of the scatter's spread.
        photons: range of the photons detected per pixel in the open field, drawn on a logarithmic scale.
        linear_prob: of a film whose intensities were never turned into line integrals.
        inverted_prob: of MONOCHROME1 taken for MONOCHROME2.
        field_prob: of collimation, each film.
        field_margin: largest share of the patch that each edge of the field cuts off.
        found_prob: of a field whose edges are known, so that what is beyond is marked as off the film
            (``<key>_valid``, where there is one) and takes no part in normalising.
        pixel_mm: pixel size of the patches.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image_ap", "image_lat"),
        prob: float = 0.8,
        hardening: Range = (0.0, 0.06),
        scatter_ratio: Range = (0.0, 0.4),
        scatter_mm: Range = (15.0, 45.0),
        photons: Range = (2e5, 1e7),
        linear_prob: float = 0.03,
        inverted_prob: float = 0.1,
        field_prob: float = 0.2,
        field_margin: float = 0.25,
        found_prob: float = 0.5,
        pixel_mm: float = 1.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.hardening, self.photons = hardening, photons
        self.scatter_ratio, self.scatter_mm = scatter_ratio, scatter_mm
        self.linear_prob, self.inverted_prob = linear_prob, inverted_prob
        self.field_prob, self.field_margin, self.found_prob = field_prob, field_margin, found_prob
        self.pixel_mm = pixel_mm
        self.films: list[tuple[FilmOptions, int, bool]] = []

    def randomize(self, data: Any = None) -> None:
        """Draw each film's options and the seed of its noise."""
        super().randomize(None)
        machine: dict[str, Any] = {
            "hardening": self.R.uniform(*self.hardening),
            "scatter_ratio": self.R.uniform(*self.scatter_ratio),
            "scatter_mm": self.R.uniform(*self.scatter_mm),
            "photons": float(np.exp(self.R.uniform(*np.log(self.photons)))),
            "log_display": self.R.rand() >= self.linear_prob,
            "bone_bright": self.R.rand() >= self.inverted_prob,
        }
        self.films = []
        for _ in self.keys:
            cut = self.R.uniform(0, self.field_margin, 4)
            field = (cut[0], cut[1], 1 - cut[2], 1 - cut[3]) if self.R.rand() < self.field_prob else None
            options = FilmOptions(**machine, field=field, shutter_bright=bool(self.R.rand() < 0.5))
            self.films.append((options, int(self.R.randint(2**31 - 1)), bool(self.R.rand() < self.found_prob)))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Make the films."""
        made = dict(data)
        self.randomize()
        if not self._do_transform:
            return made
        for key, (options, seed, found) in zip(self.keys, self.films, strict=True):
            generator = torch.Generator(data[key].device).manual_seed(seed)
            made[key] = make_film(data[key], options, self.pixel_mm, generator)
            if options.field is not None and found and (valid := f"{key}{VALID}") in data:
                made[valid] = data[valid] * field_mask(data[key], options.field)
        return made


class RandMarkersd(RandomizableTransform, MapTransform):
    """Letters and ball markers, burnt into each patch by itself, as bright or as dark as it gets.

    Args:
        keys: patches.
        prob: of each patch to get any.
        max_markers: most of them in a patch.
        texts: letters to choose from; an empty one is a ball.
        size_px: range of their height.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image_ap", "image_lat"),
        prob: float = 0.2,
        max_markers: int = 2,
        texts: Sequence[str] = ("L", "R", "AP", "LAT", "12:07", ""),
        size_px: Range = (8, 24),
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.max_markers, self.texts, self.size_px = max_markers, tuple(texts), size_px
        self.markers: list[tuple[str, int, float, float, bool]] = []

    def randomize(self, data: Any = None) -> None:
        """Draw one patch's markers: text, size, row and column as shares of the patch, bright or dark."""
        super().randomize(None)
        self.markers = [
            (
                self.texts[self.R.randint(len(self.texts))],
                int(self.R.uniform(*self.size_px)),
                self.R.rand(),
                self.R.rand(),
                bool(self.R.rand() < 0.7),
            )
            for _ in range(self.R.randint(1, self.max_markers + 1))
        ]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Burn them in."""
        marked = dict(data)
        for key in self.keys:
            self.randomize()
            if self._do_transform:
                patch = data[key]
                for text, size, row, column, bright in self.markers:
                    ink = torch.from_numpy(_ink(text, size, row, column, tuple(patch.shape[-2:]))).to(patch.device)
                    value = patch.amax() if bright else patch.amin()
                    patch = patch + ink * (value - patch)
                marked[key] = patch
        return marked


def _on_grid(index: np.ndarray, size: int) -> np.ndarray:
    """An index of the cube's or its patches' 1 mm voxels, in so many larger ones a side."""
    return (index + 0.5) * size / CUBE_SIZE - 0.5


def _mark_position(mask: torch.Tensor) -> np.ndarray:
    """(row, column) of a mark: the mask's centre of mass."""
    values = np.asarray(mask.detach().cpu(), float)[0]
    rows, columns = values.sum(1), values.sum(0)
    index = [np.arange(len(rows)), np.arange(len(columns))]
    return np.array([rows @ index[0], columns @ index[1]]) / max(values.sum(), 1e-9)


def _shifted(image: torch.Tensor, start: Sequence[int], fill: float | None = None) -> torch.Tensor:
    """The image (1, ...) cut anew from index ``start``; beyond its edge ``fill``, or its mirror image if None."""
    for axis, first in enumerate(start, start=1):
        size = image.shape[axis]
        index = torch.arange(size, device=image.device) + int(first)
        mirrored = index.remainder(2 * size)
        image = image.index_select(axis, torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored))
        if fill is not None:
            outside = ((index < 0) | (index >= size)).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
            image = image.masked_fill(outside, fill)
    return image


def _ink(text: str, size: int, row: float, column: float, shape: tuple[int, int]) -> np.ndarray:
    """How much of a marker covers each pixel (rows, columns), 0 to 1; its middle lies at (row, column), in shares."""
    canvas = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    x, y = column * shape[1], row * shape[0]
    if text:
        draw.text((x, y), text, fill=255, anchor="mm", font=ImageFont.load_default(size))
    else:
        draw.ellipse((x - size / 3, y - size / 3, x + size / 3, y + size / 3), fill=255)
    return np.asarray(canvas, np.float32) / 255
