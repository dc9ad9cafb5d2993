"""What the annotation network is trained by."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.localization.network import split_heads

# A cell's neighbours are asked too: a peak may be one cell off.
AROUND = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]


class LocalizationLoss:
    """A weighted sum: centroids, offsets, corners with their own uncertainty, neighbours, levels, regions, ends.

    Centroids by the penalty-reduced focal loss of CenterNet (Zhou 2019, arXiv 1904.07850); everything else only at
    centroids and in the cells around them. A level's two neighbours get a share of its label: to be one off is
    less wrong than to be five off.

    Args:
        weights: of the terms, by the names of `network.HEADS`; ``spread`` is part of ``corners``.
        smoothing: share of each neighbouring level.
    """

    def __init__(self, weights: dict[str, float], smoothing: float = 0.1) -> None:
        self.weights, self.smoothing = weights, smoothing

    def __call__(self, maps: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of all terms, a scalar; float32."""
        return self.total(self.terms(maps, targets))

    def total(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of `terms`."""
        weighed = (weight * terms[name] for name, weight in self.weights.items() if weight > 0)
        return sum(weighed, start=terms["heat"].new_zeros(()))

    def terms(self, maps: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each term, unweighted.

        Args:
            maps: (B, 2, CHANNELS, H, W) as the network gives them.
            targets: maps and numbers to compare with, by name, as `online.targets.batch_targets` makes them.
        """
        maps = maps.float().flatten(0, 1)
        flat = {name: value.flatten(0, 1) for name, value in targets.items() if name != "image"}
        image, mark = torch.nonzero(flat["cell"][..., 0] >= 0, as_tuple=True)
        terms = {"heat": focal(split_heads(maps)["heat"], flat["heat"], flat["counts"], len(image))}
        # (marks x cells around, CHANNELS)
        cell, where, which = (flat[name][image, mark] for name in ("cell", "where", "which"))
        around = torch.tensor(AROUND, device=cell.device)
        limit = torch.tensor(maps.shape[-2:], device=cell.device) - 1
        cells = torch.minimum((cell[:, None] + around).clamp(min=0), limit).flatten(0, 1)
        picked = maps[image.repeat_interleave(len(AROUND)), :, cells[:, 0], cells[:, 1]]
        said = {name: value[..., 0, 0] for name, value in split_heads(picked[..., None, None]).items()}
        where, which = (v.repeat_interleave(len(AROUND), 0) for v in (where, which))
        terms["offset"] = _mean(F.smooth_l1_loss(said["offset"], where[:, :2] - cells, reduction="none", beta=0.5))
        terms["corners"] = laplace(said["corners"], said["spread"], where[:, 2:10])
        known = where[:, 10:].isfinite()
        off = F.smooth_l1_loss(said["neighbours"], where[:, 10:].nan_to_num(), reduction="none", beta=0.2)
        terms["neighbours"] = (off * known).sum() / known.sum().clamp(min=1)
        terms["level"] = self._levels(said["level"], which[:, 0])
        for name, column in (("region", 1), ("end", 2)):
            loss = F.cross_entropy(said[name], which[:, column], ignore_index=-1, reduction="sum")
            terms[name] = loss / (which[:, column] >= 0).sum().clamp(min=1)
        return terms

    def _levels(self, logits: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with a share of the label on the levels above and below."""
        count = logits.shape[1]
        smooth = F.one_hot(level, count).float() * (1 - 2 * self.smoothing)
        for step in (-1, 1):
            smooth = smooth + self.smoothing * F.one_hot((level + step).clamp(0, count - 1), count)
        return _mean(-(smooth * F.log_softmax(logits, 1)).sum(1))


def focal(logits: torch.Tensor, heat: torch.Tensor, counts: torch.Tensor, marks: int) -> torch.Tensor:
    """Penalty-reduced focal loss (exponents 2 and 4) over a map, per mark; a peak's own cell has heat 1."""
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_peak = heat >= 1
    loss = torch.where(
        at_peak,
        (1 - probability) ** 2 * probability.log(),
        (1 - heat) ** 4 * probability**2 * (1 - probability).log(),
    )
    return -(loss * counts).sum() / max(marks, 1)


def laplace(corners: torch.Tensor, spread: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of corners (N, 8) whose errors are Laplace distributed with scale exp(spread) (N, 4)."""
    known = truth.isfinite()
    off = (corners - truth.nan_to_num()).abs()
    scale = spread.clamp(-4, 2).repeat_interleave(2, 1)
    loss = off * torch.exp(-scale) + scale
    return (loss * known).sum() / known.sum().clamp(min=1)


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean() if values.numel() else values.sum()
