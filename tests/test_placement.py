import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scripts.anatomy.average import average_signed_distance, cube_points
from scripts.anatomy.mean_shapes import REACH_MM, mean_shapes
from scripts.anatomy.placement import ShapeFitOptions, fit_shape, shape_distance, to_shape_frame
from scripts.anatomy.shapes import shape_subjects
from scripts.data.online import samples
from scripts.data.online.dataset import OnlineBatches
from scripts.data.online.numbers import with_numbers
from scripts.data.online.pool import CasePool
from scripts.data.online.replay import ReplayedBatches
from scripts.data.online.samples import SampleOptions, make_samples
from scripts.geometry.rotation import rotation_matrix, rotation_vector
from scripts.levels import LEVEL_ORDER
from scripts.reconstruction.losses.placement import PlacementLoss
from scripts.reconstruction.networks.level import LevelPrior
from scripts.reconstruction.training.warm_start import fill_prior
from scripts.simulation.build_mean_shapes import mean_shape
from tests.conftest import dice
from tests.test_online import PLAIN, case, patient, undrawn  # noqa: F401 - fixtures

ASKED = dataclasses.replace(PLAIN, numbers=True)

NUMBERS = torch.tensor([[1.5, -2.0, 0.5, 12.0, -4.0, 6.0, 0.15, -0.1, 0.05]])


def lattice(spacing_mm):
    return torch.from_numpy(cube_points(spacing_mm)).float().reshape(-1, 3)


def test_rotation_vectors_are_scipy_s():
    # Less than half a circle.
    vectors = 1.8 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = rotation_matrix(vectors)
    assert np.allclose(matrices.numpy(), Rotation.from_rotvec(vectors.numpy()).as_matrix(), atol=1e-9)
    assert torch.allclose(rotation_vector(matrices), vectors, atol=1e-6)
    assert torch.allclose(rotation_vector(torch.eye(3)[None]), torch.zeros(1, 3))


def test_numbers_mean_what_they_say():
    linear, shift = to_shape_frame(NUMBERS, torch.tensor([10.0]))
    move, turn, stretch = (NUMBERS[0, part].double().numpy() for part in (slice(0, 3), slice(3, 6), slice(6, 9)))
    # A vertebra that leans by 10 degrees: its down is the cube's down, and a bit of its back.
    down = np.array([np.cos(np.radians(10)), np.sin(np.radians(10)), 0])
    own = np.stack([down, [-down[1], down[0], 0], [0, 0, 1]])
    for point in (np.zeros(3), np.array([10.0, -20.0, 30.0])):
        wanted = np.exp(-stretch) * (Rotation.from_rotvec(turn, degrees=True).as_matrix() @ (own @ point - move))
        assert np.allclose(linear[0].numpy() @ point + shift[0].numpy(), wanted, atol=1e-4)


def test_the_fit_finds_what_was_put_there():
    shape, points, tilt = mean_shapes()[21], lattice(4), torch.tensor([5.0])
    seen = torch.sigmoid(-shape_distance(shape, points, NUMBERS, tilt) / 1.5)
    free = ShapeFitOptions(prior=0.001, steps=60)
    found, overlap = fit_shape(shape, points, seen, torch.zeros(1, 9), tilt, free)
    error = (found - NUMBERS[0]).abs()
    assert error[:3].max() < 0.4 and error[3:6].max() < 1.5 and error[6:].max() < 0.06
    # A process was not seen: the rest says where it is.
    hidden = torch.where(points[:, 1] > 40, 0.0, seen)
    guess, _ = fit_shape(shape, points, hidden, torch.zeros(1, 9), tilt, ShapeFitOptions())
    whole, there = (
        shape_distance(shape, points, guess[None], tilt) < 0,
        shape_distance(shape, points, NUMBERS, tilt) < 0,
    )
    behind = points[:, 1] > 40
    assert dice(whole[behind], there[behind]) > 0.4
    # Soft edges on both sides.
    assert overlap > 0.6


def test_mean_shapes_are_of_the_library():
    shapes = mean_shapes()
    assert shapes.shape == (29, 60, 60, 60) and (shapes[0] == REACH_MM).all()
    for number in LEVEL_ORDER:
        assert torch.allclose(shapes[number], shapes[number].flip(2))
        average = average_signed_distance(number, 2.0)
        assert (shapes[number] < 0).float().mean() == pytest.approx((average < 0).mean(), rel=0.3)
    again = mean_shape(4, tuple(s for s in shape_subjects() if s != "verse083"))
    assert np.abs(again - shapes[4].numpy()).max() < 0.06


def test_the_prior_is_the_placed_shape():
    prior = LevelPrior(size=60)
    fill_prior(prior)
    level, tilt = torch.tensor([21]), torch.tensor([8.0])
    volume = prior(level, tilt, NUMBERS)[0, 0] * REACH_MM
    points = lattice(2)
    wanted = shape_distance(mean_shapes()[21], points, NUMBERS, tilt).reshape(volume.shape)
    near = wanted.abs() < 8
    assert (volume - wanted)[near].abs().max() < 0.1


def test_an_unknown_level_has_the_mean_of_all():
    prior = LevelPrior(size=60)
    fill_prior(prior)
    # Nobody's vertebra, but it has a body too.
    assert prior(torch.tensor([0]), torch.zeros(1), torch.zeros(1, 9))[0, 0, 29, 20, 29] < 0


def test_samples_say_how_their_vertebrae_lie(case):  # noqa: F811
    known = with_numbers(case)
    picks = [(known, v) for v in known.vertebrae if v.whole][:2]
    assert all(v.numbers is not None for _, v in picks)
    options = SampleOptions(pixel_mm=4.0, ray_mm=8.0, voxel_mm=2.0, numbers=True)
    for seed in (1, 2, 3):
        batch = make_samples(picks, options, torch.Generator().manual_seed(seed))
        points = lattice(1)
        for i, (_, vertebra) in enumerate(picks):
            label, shape = batch["label"][i].flatten() > 0, mean_shapes()[vertebra.level]
            placed = [
                shape_distance(shape, points, numbers, batch["tilt"][i : i + 1]) < 0
                for numbers in (batch["numbers"][i : i + 1], torch.zeros(1, 9))
            ]
            assert dice(placed[0], label) > 0.68
            assert dice(placed[0], label) > dice(placed[1], label)
    # A patient who is turned by 20 degrees, and nothing else: axial turn is all that changes.
    still = make_samples(picks, ASKED, torch.Generator().manual_seed(0))["numbers"]
    machines = dataclasses.replace(PLAIN.machines, turn_deg=1e6, turn_limit_deg=20.0)
    turned = make_samples(picks, dataclasses.replace(ASKED, machines=machines), torch.Generator().manual_seed(0))
    away = (turned["numbers"] - still).abs()
    assert ((away[:, 3] - 20).abs() < 6).all() and away[:, 6:].max() < 0.05
    unknown = make_samples([(case, picks[0][1])], options, torch.Generator().manual_seed(1))
    assert unknown["numbers"].isfinite().all()
    bare = dataclasses.replace(picks[0][1], numbers=None)
    assert make_samples([(case, bare)], options, torch.Generator().manual_seed(1))["numbers"].isnan().all()


def test_mirrored_patients_have_mirrored_numbers(case, monkeypatch):  # noqa: F811
    known = with_numbers(case)
    picks = [(known, v) for v in known.vertebrae if v.whole][:2]
    found = []
    for side in (1.0, -1.0):
        draws = undrawn(2)
        turned = dataclasses.replace(draws, mirror=side * draws.mirror, twist=torch.tensor([12.0, -5.0]) * side)
        monkeypatch.setattr(samples, "draw_samples", lambda *_, turned=turned: turned)
        found.append(make_samples(picks, ASKED, torch.Generator().manual_seed(0))["numbers"])
    assert torch.allclose(found[0], found[1] * torch.tensor([1.0, 1, -1, -1, -1, 1, 1, 1, 1]), atol=0.02)
    assert found[0][:, 3].abs().max() > 5


def test_loss_counts_what_is_known():
    loss = PlacementLoss(axial_weight=2.0)
    nothing = torch.full((1, 9), torch.nan)
    read = torch.zeros(2, 9, requires_grad=True)
    value = loss(read, torch.cat([nothing, NUMBERS]))
    value.backward()
    assert (read.grad[0] == 0).all() and (read.grad[1] != 0).all()
    # By hand: 12 degrees are 1.5 units, of which smooth L1 takes off a half; twice the weight among nine numbers.
    axial = torch.zeros(1, 9)
    axial[0, 3] = 12.0
    assert loss(torch.zeros(1, 9), axial) == pytest.approx((1.5 - 0.5) * 2 / (10 / 9) / 9)


def test_older_samples_are_replayed(case):  # noqa: F811
    options = SampleOptions(pixel_mm=4.0, ray_mm=8.0, voxel_mm=6.0)
    fresh = OnlineBatches(CasePool([case]), options, batch_size=2)
    data = ReplayedBatches(fresh, replayed=3, room=4)
    first, second, third = data[0], data[1], data[2]
    assert [len(b["image"]) for b in (first, second, third)] == [2, 4, 5]
    assert "label" not in second
    same = [torch.allclose(second["image"][2 + i], first["image"][j], atol=1e-3) for i in (0, 1) for j in (0, 1)]
    assert sum(same) == 2
    assert len(data.memory) == 4
