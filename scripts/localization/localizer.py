"""Two films in, every vertebra out: levels, corners and centroids in both views, matched, with confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from torch import nn

from scripts.data.normalisation import normalise_film
from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.geometry.cropping import smooth_for_pitch
from scripts.learning.loading import choose_device, load_network
from scripts.localization.anchored import Views
from scripts.localization.anchors import Anchor
from scripts.localization.decoding import decode, read_matched
from scripts.localization.detection import DetectionOptions, Detections, find_detections
from scripts.localization.film_cases import PIXEL_MM
from scripts.localization.found import Localization
from scripts.localization.matching import PixelSizes
from scripts.localization.network import INPUTS
from scripts.localization.network_input import pad_to_network, view_input
from scripts.localization.pairing import PairingOptions
from scripts.localization.patch_levels import PatchReader
from scripts.localization.path_options import PathOptions
from scripts.localization.test_time_views import TestTimeView, average_views
from scripts.localization.unknown_size import find_at_any_size
from scripts.paths import BUNDLE_ROOT

CONFIGS = ("train_localization.json", "evaluate_localization.json")
LARGEST_PX = 1024
Size = tuple[float, float]


@dataclass(frozen=True)
class _Anchored:
    """What the user says of levels, and the films' (rows, columns) that it refers to."""

    anchors: tuple[Anchor, ...]
    shapes: tuple[tuple[int, int], tuple[int, int]]


class Localizer:
    """The trained network with its decoding, wired as the files of `CONFIGS` in ``configs/`` say.

    Args:
        weights: ``.pt`` or ``.ts``; the bundle's ``models/localization.pt`` if None.
        device: torch device; CUDA if there is one and None is given.
        bundle_root: the bundle's folder.
        detection: what counts as a detection; as the config says if None.
        pairing: how the views' detections are matched; as the config says if None.
        path: how levels are read; as the config says if None.
        test_time_views: of films whose pixels' size is known, as the config says if None; other films are seen once at
            each of many sizes.
        network: that the weights are for; the config's if None.

    Raises:
        UserError: the weights are missing, damaged or of another network; the device does not exist.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        device: str | None = None,
        bundle_root: Path = BUNDLE_ROOT,
        detection: DetectionOptions | None = None,
        pairing: PairingOptions | None = None,
        path: PathOptions | None = None,
        test_time_views: Sequence[TestTimeView] | None = None,
        network: nn.Module | None = None,
    ) -> None:
        self.weights = Path(weights) if weights else bundle_root / "models" / "localization.pt"
        self.device = choose_device(device)
        parser = ConfigParser()
        parser.read_config([str(bundle_root / "configs" / name) for name in CONFIGS])
        self.network = load_network(
            self.weights, lambda: network or parser.get_parsed_content("network_def"), self.device, CONFIGS[0]
        )
        self.detection: DetectionOptions = detection or parser.get_parsed_content("detection")
        self.pairing: PairingOptions = pairing or parser.get_parsed_content("pairing")
        self.path: PathOptions = path or parser.get_parsed_content("path")
        self.test_time_views: Sequence[TestTimeView] = test_time_views or parser.get_parsed_content("test_time_views")

    def __call__(
        self,
        ap: np.ndarray | None,
        lat: np.ndarray | None,
        geometry: BiplanarGeometry | None = None,
        pixel_mm: tuple[Size | None, Size | None] = (None, None),
        anchors: Sequence[Anchor] = (),
        read_patches: PatchReader | None = None,
    ) -> Localization:
        """Find all vertebrae.

        Args:
            ap: (rows, columns), any brightness scale; None if only the LAT was taken.
            lat: (rows, columns), any brightness scale; None if only the AP was taken.
            geometry: of both films; None if their files do not say how they lie to each other.
            pixel_mm: then still the size of each film's pixels, (row, column), None where it is not known either.
            anchors: what the user says of levels.
            read_patches: a second opinion on the levels of what was found.

        Raises:
            UserError: there is no film, or no vertebra in it, or the anchors do not fit what is found.
        """
        if ap is None and lat is None:
            raise UserError("no film to annotate")
        anchored = _Anchored(tuple(anchors), (_shape(ap), _shape(lat)))
        if geometry is not None:
            sizes = [np.array(view.pixel_mm) for view in (geometry.ap, geometry.lat)]
            found = self._decode(self._both((ap, lat), sizes), sizes, geometry, anchored)
            return self._with_patches(found, self.path, read_patches)
        films = ((ap, pixel_mm[0]), (lat, pixel_mm[1]))
        if all(film is None or size is not None for film, size in films):
            known = [np.ones(2) if size is None else np.asarray(size, float) for _, size in films]
            found = self._decode(self._both((ap, lat), known), known, None, anchored)
            return self._with_patches(found, self.path, read_patches)
        return self._any_size((ap, lat), anchored, read_patches)

    def _with_patches(self, found: Localization, path: PathOptions, read_patches: PatchReader | None) -> Localization:
        """What was found, its levels read again with what its patches say of them."""
        said = read_patches(found) if read_patches else None
        if said is None or found.matched is None:
            return found
        try:
            return read_matched(found.matched, path, self.detection.score_bias, said)
        except UserError:
            # Anchors fit what the films alone show.
            return found

    def _any_size(
        self,
        films: tuple[np.ndarray | None, np.ndarray | None],
        anchored: _Anchored,
        read_patches: PatchReader | None,
    ) -> Localization:
        """Films of unknown size."""
        searched = replace(self.detection, neighbours=True)
        pairing = replace(self.pairing, scale_spread=self.pairing.unknown_scale_spread)

        def detect(film: np.ndarray, size_mm: np.ndarray, frontal: bool) -> Detections:
            return self.detect(film, size_mm, frontal, searched)

        def decode_at(views: Views, sizes: PixelSizes, anchors: Sequence[Anchor], path: PathOptions) -> Localization:
            bias = self.detection.score_bias
            return decode(views, sizes, None, pairing, path, bias, anchors, anchored.shapes)

        def reread(found: Localization, path: PathOptions) -> Localization:
            return self._with_patches(found, path, read_patches)

        return find_at_any_size(films, anchored.anchors, self.path, LARGEST_PX * PIXEL_MM, detect, decode_at, reread)

    def detect(
        self, film: np.ndarray, size_mm: np.ndarray, frontal: bool, options: DetectionOptions | None = None
    ) -> Detections:
        """Detections of one view alone in one test-time view, top to bottom, in pixels of the film."""
        pair = (film, None) if frontal else (None, film)
        return self._both(pair, [size_mm, size_mm], options, (TestTimeView(),))[0 if frontal else 1]

    @torch.inference_mode()
    def _both(
        self,
        films: tuple[np.ndarray | None, np.ndarray | None],
        sizes: PixelSizes,
        options: DetectionOptions | None = None,
        test_time_views: Sequence[TestTimeView] | None = None,
    ) -> Views:
        inputs, valids = [], []
        for which, (film, size) in enumerate(zip(films, sizes, strict=True)):
            if film is None:
                inputs.append(torch.zeros(INPUTS, 32, 32))
                valids.append(np.zeros((32, 32)))
                continue
            small = to_network_pixels(film, size)
            valid = torch.ones_like(small)
            inputs.append(view_input(normalise_film(small), valid, which == 0))
            valids.append(valid[0].numpy())
        shape = [max(x.shape[axis] for x in inputs) for axis in (1, 2)]
        padded = [F.pad(x, (0, shape[1] - x.shape[2], 0, shape[0] - x.shape[1])) for x in inputs]
        image = pad_to_network(torch.stack(padded))[None].to(self.device)
        maps = average_views(self.network, image, test_time_views or self.test_time_views).cpu()[0]
        out = []
        for view, valid, size, film in zip(maps, valids, sizes, films, strict=True):
            found = find_detections(view, valid, PIXEL_MM, options or self.detection)
            out.append(found if film is None else _in_film(found, np.asarray(size)))
        return out[0], out[1]

    def _decode(
        self,
        views: Views,
        sizes: PixelSizes,
        geometry: BiplanarGeometry | None,
        anchored: _Anchored,
    ) -> Localization:
        bias = self.detection.score_bias
        return decode(views, sizes, geometry, self.pairing, self.path, bias, anchored.anchors, anchored.shapes)


def _shape(film: np.ndarray | None) -> tuple[int, int]:
    return (0, 0) if film is None else (film.shape[0], film.shape[1])


def to_network_pixels(film: np.ndarray, size_mm: np.ndarray) -> torch.Tensor:
    """A film (rows, columns) at the network's pixel size, (1, rows, columns).

    Raises:
        UserError: it is not a film of a patient at this size, or has values that are not numbers.
    """
    if film.ndim != 2 or min(film.shape) < 8:
        raise UserError(f"a film is 2D with at least 8 pixels a side, not {film.shape}")
    if not np.isfinite(film).all():
        raise UserError("the film has NaN or infinite pixels")
    smooth = smooth_for_pitch(film.astype(np.float32), (float(size_mm[0]), float(size_mm[1])), PIXEL_MM)
    shape = [max(round(n * s / PIXEL_MM), 1) for n, s in zip(film.shape, size_mm, strict=True)]
    if max(shape) > LARGEST_PX:
        raise UserError(
            f"the film measures {shape[0] * PIXEL_MM:.0f} x {shape[1] * PIXEL_MM:.0f} mm; is its pixel size right?"
        )
    where = [(np.arange(n) + 0.5) * PIXEL_MM / s - 0.5 for n, s in zip(shape, size_mm, strict=True)]
    grid = torch.from_numpy(
        np.stack(np.meshgrid(*((2 * w + 1) / n - 1 for w, n in zip(where, film.shape, strict=True)), indexing="ij"), -1)
    ).flip(-1)
    image = torch.from_numpy(np.ascontiguousarray(smooth))[None, None]
    return F.grid_sample(image, grid[None].float(), align_corners=False, padding_mode="border")[0]


def _in_film(found: Detections, size_mm: np.ndarray) -> Detections:
    """Detections in the network's pixels as pixels of the film."""

    def place(points: np.ndarray) -> np.ndarray:
        return (points + 0.5) * PIXEL_MM / size_mm - 0.5

    return replace(
        found,
        centroid=place(found.centroid),
        corners=place(found.corners),
        neighbours=place(found.neighbours),
        spread=found.spread * PIXEL_MM / float(np.mean(size_mm)),
    )
