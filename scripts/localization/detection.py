"""From the network's maps to detections: peaks, and what is said about each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_softmax

from scripts.localization.levels import region_index
from scripts.localization.network import STRIDE, UNIT_PX, split_heads


@dataclass(frozen=True)
class Detections:
    """What one view shows, from top to bottom; lengths in pixels of the network's film.

    Args:
        score: (N,) probability of being a vertebra, 0 to 1.
        centroid: (N, 2) row and column.
        corners: (N, 4, 2) superior left, superior right, inferior right, inferior left in the image.
        spread: (N, 4) expected error of each corner along each axis.
        neighbours: (N, 2, 2) centroids of the upper and the lower neighbour.
        log_level: (N, LEVELS) log probabilities.
        log_end: (N, 7) log probabilities of being first or last of a region, in the order of `levels.END_NAMES`.
    """

    score: np.ndarray
    centroid: np.ndarray
    corners: np.ndarray
    spread: np.ndarray
    neighbours: np.ndarray
    log_level: np.ndarray
    log_end: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def pick(self, chosen: np.ndarray) -> Detections:
        """Some of them, by index or mask."""
        return Detections(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def moved(self, step: np.ndarray) -> Detections:
        """All of each elsewhere in the film, by (N, 2) or (2,) pixels: centroid, corners and expected neighbours."""
        apart = np.broadcast_to(step, self.centroid.shape)
        return replace(
            self,
            centroid=self.centroid + apart,
            corners=self.corners + apart[:, None],
            neighbours=self.neighbours + apart[:, None],
        )

    def added(self, like: int, centroid: np.ndarray, place: int, **other: np.ndarray) -> Detections:
        """With one more, like one of them but elsewhere.

        Args:
            like: index of the one that it is like.
            centroid: (row, column) of the new one.
            place: its index.
            **other: fields in which it differs, (1, ...) each.
        """
        new = replace(self.pick(np.array([like])).moved(centroid - self.centroid[like]), **other)
        fields = self.__dataclass_fields__
        return Detections(*(np.insert(getattr(self, name), place, getattr(new, name)[0], axis=0) for name in fields))


@dataclass(frozen=True)
class DetectionOptions:
    """What counts as a detection.

    Args:
        least_score: of a peak.
        apart_mm: two peaks nearer than this are one.
        off_line_mm: how far a detection may lie from where those that name it a neighbour expect it; farther ones
            that no other names are dropped. Unused without the neighbour part.
        neighbours: whether detections vouch for each other.
        level_temperature: divides the logits of levels; fitted on validation films.
        region_weight: share of the region head in the levels' evidence.
        score_bias: added to a vertebra's log odds for its reported confidence; peaks of a focal loss are too low.
            Fitted on validation films.
    """

    least_score: float = 0.25
    apart_mm: float = 7.0
    off_line_mm: float = 14.0
    neighbours: bool = False
    level_temperature: float = 1.0
    region_weight: float = 0.0
    score_bias: float = 2.0


def find_detections(maps: torch.Tensor, valid: np.ndarray, pixel_mm: float, options: DetectionOptions) -> Detections:
    """Peaks of one view's maps.

    Args:
        maps: (CHANNELS, H, W).
        valid: (rows, columns) where there is film; detections elsewhere are dropped.
        pixel_mm: of the network's film.
        options: how peaks are found: least score, least distance, calibration of levels and scores.
    """
    heads = {name: value.float() for name, value in split_heads(maps).items()}
    heat = heads["heat"].sigmoid()[0]
    is_peak = (heat == F.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]) & (heat >= options.least_score)
    cells = torch.nonzero(is_peak)
    order = torch.argsort(heat[cells[:, 0], cells[:, 1]], descending=True)
    cells = cells[order]

    def at(name: str) -> np.ndarray:
        return heads[name][:, cells[:, 0], cells[:, 1]].T.numpy()

    cell = cells.numpy().astype(float)
    centroid = (cell + at("offset")) * STRIDE + (STRIDE - 1) / 2
    log_level = torch.from_numpy(at("level") / options.level_temperature).log_softmax(1).numpy()
    log_region = torch.from_numpy(at("region")).log_softmax(1).numpy()
    found = Detections(
        score=heat[cells[:, 0], cells[:, 1]].numpy(),
        centroid=centroid,
        corners=centroid[:, None] + at("corners").reshape(-1, 4, 2) * UNIT_PX,
        spread=np.exp(np.clip(at("spread"), -4, 2)) * UNIT_PX,
        neighbours=centroid[:, None] + at("neighbours").reshape(-1, 2, 2) * UNIT_PX,
        log_level=_with_region(log_level, log_region, options.region_weight),
        log_end=torch.from_numpy(at("end")).log_softmax(1).numpy(),
    )
    place = np.clip(np.rint(centroid).astype(int), 0, np.array(valid.shape) - 1)
    found = found.pick(valid[place[:, 0], place[:, 1]] > 0)
    found = found.pick(_apart(found.centroid, options.apart_mm / pixel_mm))
    if options.neighbours:
        found = found.pick(_vouched(found, options.off_line_mm / pixel_mm))
    return found.pick(np.argsort(found.centroid[:, 0], kind="stable"))


def _with_region(log_level: np.ndarray, log_region: np.ndarray, weight: float) -> np.ndarray:
    regions = [region_index(level) for level in range(log_level.shape[1])]
    mixed = log_level + weight * log_region[:, regions]
    return log_softmax(mixed, axis=1)


def _apart(centroid: np.ndarray, least_px: float) -> np.ndarray:
    """Which to keep of detections in the order of their scores, so that none lie nearer than a distance."""
    kept: list[int] = []
    for i, point in enumerate(centroid):
        if all(np.linalg.norm(point - centroid[j]) >= least_px for j in kept):
            kept.append(i)
    return np.array(kept, int)


def _vouched(found: Detections, reach_px: float) -> np.ndarray:
    """Which detections lie where another expects its neighbour, or are sure of themselves, or are alone."""
    if len(found) < 3:
        return np.ones(len(found), bool)
    named = np.linalg.norm(found.neighbours[:, :, None] - found.centroid[None, None], axis=-1).min(1)
    np.fill_diagonal(named, np.inf)
    return (named.min(0) <= reach_px) | (found.score >= 0.8)
