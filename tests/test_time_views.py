"""A network that finds what it is shown says the same in every test-time view."""

from __future__ import annotations

import pytest
import torch

from scripts.localization.network import HEADS, INPUTS, STRIDE, UNIT_PX, SpineLocalizer, split_heads
from scripts.localization.test_time_views import TestTimeView, average_views

SHAPE = (96, 64)
CENTROID, UPPER, LOWER = (40.0, 30.0), (18.0, 27.0), (62.0, 36.0)
# Superior left, superior right, inferior right, inferior left in the image.
CORNERS = ((33.0, 22.0), (31.0, 39.0), (49.0, 41.0), (48.0, 20.0))
POINTS = (CENTROID, *CORNERS, UPPER, LOWER)


def image_of(points: tuple[tuple[float, float], ...]) -> torch.Tensor:
    """(1, 2, 4, H, W): coordinates weighted so that three channels hold each point as a blob of its own brightness."""
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    blobs = [torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * 1.5**2)) for r, c in points]
    image = torch.zeros(1, 2, INPUTS, *SHAPE)
    image[:, :, 0], image[:, :, 1], image[:, :, 2] = blobs[0], sum(blobs[1:5]), sum(blobs[5:])
    return image


def middle(weight: torch.Tensor) -> torch.Tensor:
    """Row and column of a blob."""
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in weight.shape), indexing="ij")
    return torch.stack([(weight * rows).sum(), (weight * columns).sum()]) / weight.sum()


def seeing(image: torch.Tensor) -> torch.Tensor:
    """The network: measures the points and says at every cell where they are from there."""
    shape = [n // STRIDE for n in image.shape[-2:]]
    cells = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    maps = {name: torch.zeros(1, 2, count, *shape) for name, count in HEADS.items()}
    for view in range(2):
        own, corners, others = (image[0, view, i].clamp(min=0) for i in range(3))
        centroid = middle(own)
        row, column = (int(n) for n in centroid)
        upper, lower = corners.clone(), corners.clone()
        upper[row:], lower[:row] = 0, 0
        quarters = []
        for half, left in ((upper, True), (upper, False), (lower, False), (lower, True)):
            side = half.clone()
            side[:, column:] *= not left
            side[:, :column] *= left
            quarters.append(middle(side))
        above, below = others.clone(), others.clone()
        above[row:], below[:row] = 0, 0
        offset = ((centroid - 0.5) / STRIDE)[:, None, None] - cells
        maps["offset"][0, view] = offset
        maps["heat"][0, view, 0] = 4 - (offset**2).sum(0) / 8
        maps["level"][0, view, 3] = 2.0
        for name, points in (("corners", quarters), ("neighbours", [middle(above), middle(below)])):
            away = torch.cat([(p - centroid) / UNIT_PX for p in points])
            maps[name][0, view] = away[:, None, None].expand(-1, *shape)
        # Left corners are surer than right ones.
        spread = torch.tensor([0.0, 1.0, 1.0, 0.0]) if quarters[0][0] > quarters[1][0] else torch.tensor([1.0, 0, 0, 1])
        scale = (quarters[1] - quarters[0]).norm() / torch.dist(torch.tensor(CORNERS[0]), torch.tensor(CORNERS[1]))
        maps["spread"][0, view] = (spread + scale.log())[:, None, None].expand(-1, *shape)
    return torch.cat([maps[name] for name in HEADS], 2)


@pytest.mark.parametrize(
    "look",
    [
        TestTimeView(mirror=True),
        TestTimeView(scale=0.9),
        TestTimeView(scale=1.12),
        TestTimeView(mirror=True, scale=1.25),
    ],
    ids=str,
)
def test_a_look_says_where_things_are_in_the_film(look: TestTimeView) -> None:
    image = image_of(POINTS)
    maps = split_heads(average_views(seeing, image, [look]))
    assert maps["heat"].shape == (1, 2, 1, SHAPE[0] // 2, SHAPE[1] // 2)
    row, column = divmod(int(maps["heat"][0, 0, 0].argmax()), SHAPE[1] // 2)
    cell = torch.tensor([row, column])
    assert (cell * STRIDE + 0.5 - torch.tensor(CENTROID)).abs().max() <= 1.01
    centroid = (cell + maps["offset"][0, 0, :, row, column]) * STRIDE + 0.5
    assert torch.allclose(centroid, torch.tensor(CENTROID), atol=0.05)
    corners = centroid + maps["corners"][0, 0, :, row, column].view(4, 2) * UNIT_PX
    assert torch.allclose(corners, torch.tensor(CORNERS), atol=0.3)
    neighbours = centroid + maps["neighbours"][0, 0, :, row, column].view(2, 2) * UNIT_PX
    assert torch.allclose(neighbours, torch.tensor([UPPER, LOWER]), atol=0.3)
    spread = maps["spread"][0, 0, :, row, column]
    assert torch.allclose(spread, torch.tensor([0.0, 1.0, 1.0, 0.0]), atol=0.03)
    level = maps["level"][0, 0, :, row, column]
    assert level.exp().sum() == pytest.approx(1, abs=1e-4) and int(level.argmax()) == 3


def test_the_mean_of_views_is_the_mean_of_probabilities() -> None:
    image = image_of(POINTS)
    one, other = (
        split_heads(average_views(seeing, image, [look])) for look in (TestTimeView(True), TestTimeView(scale=0.9))
    )
    both = split_heads(average_views(seeing, image, [TestTimeView(True), TestTimeView(scale=0.9)]))
    mean = (one["heat"].sigmoid() + other["heat"].sigmoid()) / 2
    assert torch.allclose(both["heat"].sigmoid(), mean, atol=1e-5)
    assert torch.allclose(both["level"], (one["level"] + other["level"]) / 2, atol=1e-5)


def test_one_plain_look_is_the_network_itself() -> None:
    network = SpineLocalizer((4, 4, 4, 4, 4), 4).eval()
    image = torch.rand(1, 2, INPUTS, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(average_views(network, image, [TestTimeView()]), network(image))


def test_no_look_is_an_error() -> None:
    with pytest.raises(ValueError, match="no view"):
        average_views(seeing, image_of(POINTS), [])
