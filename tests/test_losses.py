"""Each term against a hand-computed or SciPy value, and equation (2) as their sum."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.ndimage import distance_transform_edt

from scripts.benchmarks.loss_terms import compare, gradients
from scripts.learning.loading import load_weights
from scripts.reconstruction.losses.integrated import DiscriminatorLoss, IntegratedLoss
from tests.conftest import ROOT


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target = torch.zeros(2, 1, 12, 12, 12)
    target[0, 0, 3:8, 3:8, 3:9] = 1
    target[1, 0, 5:9, 2:8, 4:7] = 1
    return torch.randn(target.shape) * 2 + target * 3 - 1, target


def test_dice_term(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    p = torch.sigmoid(logits).numpy()
    y = target.numpy()
    each = [1 - 2 * (p[i] * y[i]).sum() / (p[i].sum() + y[i].sum()) for i in range(2)]
    assert float(IntegratedLoss(adversarial_weight=0)(logits, target)["dice"]) == pytest.approx(np.mean(each), abs=1e-5)


def test_focal_term_is_equation_7_with_one_factor(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    p = torch.sigmoid(logits.double()).numpy()
    p_t = np.where(target.numpy() > 0, p, 1 - p)
    expected = np.mean(-0.2 * (1 - p_t) ** 5 * np.log(p_t))
    found = IntegratedLoss(adversarial_weight=0)(logits, target)["focal"]
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_focal_class_weight_is_monai_s_alpha(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    p = torch.sigmoid(logits.double()).numpy()
    y = target.numpy()
    p_t = np.where(y > 0, p, 1 - p)
    expected = np.mean(-0.2 * np.where(y > 0, 0.75, 0.25) * (1 - p_t) ** 5 * np.log(p_t))
    loss = IntegratedLoss(adversarial_weight=0, focal_class_weight=0.75)
    assert float(loss(logits, target)["focal"]) == pytest.approx(expected, rel=1e-5)


def test_hausdorff_term_is_equation_6(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    p, q = torch.sigmoid(logits).numpy(), target.numpy()

    def squared_distances(mask: np.ndarray) -> np.ndarray:
        return (distance_transform_edt(mask) + distance_transform_edt(~mask)) ** 2

    each = [
        np.mean((p[i, 0] - q[i, 0]) ** 2 * (squared_distances(p[i, 0] > 0.5) + squared_distances(q[i, 0] > 0.5)))
        for i in range(2)
    ]
    found = IntegratedLoss(adversarial_weight=0)(logits, target)["hausdorff"]
    assert float(found) == pytest.approx(np.mean(each), rel=1e-4)


def test_adversarial_terms_are_least_squares_without_activation() -> None:
    scores = torch.tensor([[-2.0, 0.5, 3.0]])
    target = torch.ones(1, 1, 4, 4, 4)
    terms = IntegratedLoss()(target * 9, target, scores)
    assert float(terms["adversarial"]) == pytest.approx(np.mean([9.0, 0.25, 4.0]))
    real = torch.tensor([1.0, 0.0])
    assert float(DiscriminatorLoss()(real, scores)) == pytest.approx(0.5 + np.mean([4.0, 0.25, 9.0]))


def test_total_is_the_weighted_sum_of_equation_2(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    terms = IntegratedLoss()(logits, target, torch.tensor([0.3]))
    weights = {"dice": 10, "hausdorff": 1e-4, "focal": 10, "adversarial": 0.1}
    assert set(terms) == {*weights, "total"}
    assert float(terms["total"]) == pytest.approx(sum(w * float(terms[n]) for n, w in weights.items()), rel=1e-6)


def test_terms_without_weight_are_left_out(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = IntegratedLoss(hausdorff_weight=0, focal_weight=0, adversarial_weight=0)
    assert set(loss(*pair)) == {"dice", "total"} and not loss.is_adversarial
    with pytest.raises(ValueError, match="discriminator"):
        IntegratedLoss()(*pair)


def test_half_precision_logits_are_lifted_to_float(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    terms = IntegratedLoss(adversarial_weight=0)(logits.bfloat16(), target)
    assert all(value.dtype == torch.float32 for value in terms.values())


def test_terms_that_are_compared_are_those_with_a_weight(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The adversarial term, of weight 0.1 and judged by the mean, has its gradient by hand."""
    logits, target = pair

    class Mean(torch.nn.Module):
        def forward(self, mask: torch.Tensor) -> torch.Tensor:
            return mask.mean((1, 2, 3, 4), keepdim=True)

    found = gradients(IntegratedLoss(), logits, target, Mean())
    assert found.keys() == {"dice", "hausdorff", "focal", "adversarial"}
    p = torch.sigmoid(logits)
    each = p.mean((1, 2, 3, 4), keepdim=True) - 1
    expected = 0.1 * (each**2).mean(), (0.1 * each * p * (1 - p) / p[0].numel()).norm()
    assert found["adversarial"] == pytest.approx([float(value) for value in expected], rel=1e-4)


def test_terms_are_compared_for_the_shipped_network_by_default() -> None:
    defaults = {name: option.default for name, option in inspect.signature(compare).parameters.items()}
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in defaults["config"]])
    load_weights(parser.get_parsed_content("network_def"), defaults["weights"], "the default config")
