"""Distances to a boundary, both ways, against SciPy; the loss against MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import HausdorffDTLoss
from scipy import ndimage

from scripts.reconstruction.losses import distance
from scripts.reconstruction.losses.distance import HausdorffLoss, boundary_distance


def masks(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Noise of three sizes, one voxel, and masks that are empty and full."""
    rng = np.random.default_rng(seed)
    out = [ndimage.gaussian_filter(rng.standard_normal(shape), s) > 0 for s in (0.3, 1.5, 5)]
    single = np.zeros(shape, bool)
    single[2, 3, 1] = True
    return torch.from_numpy(np.stack([*out, single, np.zeros(shape, bool), np.ones(shape, bool)]))[:, None]


def by_scipy(mask: np.ndarray) -> np.ndarray:
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    return ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)


@pytest.mark.parametrize("way", ["_on_cpu", "_by_brute_force"])
@pytest.mark.parametrize("shape", [(24, 24, 24), (11, 20, 33)])
def test_equal_to_scipy(way: str, shape: tuple[int, int, int]) -> None:
    batch = masks(shape)
    found = getattr(distance, way)(batch)
    assert found.dtype == torch.float32 and found.shape == batch.shape
    for mask, field in zip(batch.numpy(), found.numpy(), strict=True):
        assert np.abs(field[0] - by_scipy(mask[0])).max() < 1e-4


def test_brute_force_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = masks((16, 16, 16))
    whole = distance._by_brute_force(batch)
    monkeypatch.setattr(distance, "LARGEST_TEMPORARY", 16 * 16 * 100)
    assert torch.equal(distance._by_brute_force(batch), whole)


def test_brute_force_asks_the_device_for_nothing() -> None:
    """The meta device has no values: asking for one would raise."""
    assert boundary_distance(torch.zeros(2, 1, 8, 8, 8, dtype=torch.bool, device="meta")).shape == (2, 1, 8, 8, 8)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_loss_and_gradient_are_monai_s(alpha: float) -> None:
    torch.manual_seed(0)
    target = masks((20, 20, 20))[1:3].float()
    logits = torch.randn(2, 1, 20, 20, 20)
    results = []
    for kind in (HausdorffDTLoss, HausdorffLoss):
        leaf = logits.clone().requires_grad_()
        loss = kind(alpha=alpha, sigmoid=True, include_background=True)(leaf, target)
        loss.backward()
        results.append((float(loss), leaf.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-7)
