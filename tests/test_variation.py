"""How vertebrae are varied: exact tip moves, an invertible map that leaves the centroid, measured spreads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape, load_subject, shape_subjects
from scripts.geometry.rotation import rotation_matrix
from scripts.levels import LEVEL_NUMBERS
from scripts.simulation.check_variation import measures, measures_of_draws, numbers_inside, surface_points
from scripts.simulation.displacement import displacement, smooth_waves
from scripts.simulation.draw import VariationOptions, _shared, bump_radius, draw_deformation, draw_displacement
from scripts.simulation.processes import PROCESSES, process_tips
from scripts.simulation.shape_fit import distance_at, fit_affine
from scripts.simulation.variation import MOVES_BASIS, NUMBERS, STRETCH, from_moves, variation

LEVELS = torch.tensor([2, 5, 8, 14, 19, 21, 24, 25, 28])


def box(steps: tuple[int, int, int] = (13, 21, 21)) -> torch.Tensor:
    """The box in which training samples are cut: 120 x 200 x 240 mm."""
    axes = [torch.linspace(-h, h, n) for h, n in zip((60, 100, 120), steps, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def test_same_seed_same_displacement_and_the_centroid_stays() -> None:
    first, again, other = (
        draw_displacement(LEVELS, VariationOptions(), torch.Generator().manual_seed(s), "cpu", box()) for s in (1, 1, 2)
    )
    assert first.shape == (len(LEVELS), 13, 21, 21, 3)
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert first[:, 6, 10, 10].abs().max() == 0  # the middle of the box is the centroid


def test_no_gain_no_change() -> None:
    calm = draw_displacement(LEVELS, VariationOptions(0, 0, 0, 0), torch.Generator().manual_seed(0), "cpu", box())
    assert calm.abs().max() < 1e-4


def test_space_never_folds() -> None:
    """Jacobian determinants by finite differences at random places around 720 drawn vertebrae."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.arange(720) % 24 + 1
    drawn = draw_deformation(levels, VariationOptions(), generator)
    points = (torch.rand(300, 3, generator=generator) * 2 - 1) * torch.tensor([50.0, 75.0, 60.0])
    step = 0.5 * torch.eye(3)
    columns = [drawn.at(points + s) - drawn.at(points - s) + 2 * s for s in step]
    determinant = torch.linalg.det(torch.stack(columns, -1))
    assert determinant.min() > 0.15
    assert determinant.max() < 4


def test_processes_end_where_they_were_told_to() -> None:
    """The map is backward: from where a process now ends to where the source's does."""
    tips = torch.as_tensor(variation().tips[21]).float()[None]
    moves = torch.zeros(1, 7, 3)
    moves[0, 0], moves[0, 2] = torch.tensor([4.0, 3.0, -2.0]), torch.tensor([-2.0, 1.0, -4.0])
    zero = torch.zeros(1, 3)
    drawn = displacement(zero, zero, tips, bump_radius(tips), moves)
    back = drawn.at(drawn.tips[0])[0]
    assert (back + moves[0]).norm(dim=-1).max() < 0.8
    far = torch.tensor([[60.0, 100, 120], [-60, -100, -120], [60, -100, 120]])
    assert drawn.at(far).abs().max() < 0.1
    # And the inverse takes the source's ends to the new ones.
    assert (drawn.carry(tips[0], 20)[0] - drawn.tips[0]).norm(dim=-1).max() < 0.8


def test_the_inverse_undoes_the_map() -> None:
    drawn = draw_deformation(LEVELS, VariationOptions(), torch.Generator().manual_seed(0))
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * 25
    carried = drawn.carry(points, 15)
    back = torch.stack([c + d.at(c)[0] for c, d in zip(carried, [drawn[i] for i in range(len(LEVELS))], strict=True)])
    assert (back - points).norm(dim=-1).quantile(0.99) < 0.2


def test_rotation_matrix_is_scipys() -> None:
    vector = torch.tensor([[0.1, -0.4, 0.3], [0.0, 0.0, 0.0], [2.0, 0.1, -1.0]], dtype=torch.float64)
    assert np.allclose(rotation_matrix(vector).numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-7)


def test_the_smooth_field_has_its_spread_and_length() -> None:
    batch, spread, length = 4000, 2.0, 15.0
    waves = smooth_waves(
        torch.full((batch,), spread), torch.full((batch,), length), 32, torch.Generator().manual_seed(0)
    )
    zero, seven = torch.zeros(batch, 3), torch.ones(batch, 7, 3)
    field = displacement(zero, zero, seven * 1e4, seven[..., 0], seven * 0, waves)
    places = torch.tensor([[50.0, 0, 0], [50.0, 15.0, 0], [50.0, 0, 45.0]])
    values = field.at(places)[..., 1]
    assert values.std(0).numpy() == pytest.approx(spread, rel=0.08)
    correlation = np.corrcoef(values.T.numpy())
    assert correlation[0, 1] == pytest.approx(np.exp(-0.5), abs=0.06)
    assert abs(correlation[0, 2]) < 0.06


def test_moves_and_numbers_are_the_same_thing() -> None:
    moves = np.random.default_rng(0).normal(size=(5, len(PROCESSES), 3))
    assert np.allclose(from_moves(moves) @ MOVES_BASIS, moves.reshape(5, -1))
    mirrored = np.zeros((len(PROCESSES), 3))
    mirrored[1], mirrored[2] = [0, 0, 3], [0, 0, -3]
    expected = np.zeros(21)
    expected[NUMBERS.index("transverse_both_out") - 6] = 3.0
    assert from_moves(mirrored) == pytest.approx(expected)


def test_the_fit_finds_known_stretch_turn_and_place() -> None:
    shape = load_subject("verse010")[LEVEL_NUMBERS["L2"]]
    stretch, place = np.array([0.1, -0.08, 0.06]), np.array([1.0, -2.0, 1.5])
    turn = Rotation.from_rotvec(np.radians([4.0, -3.0, 6.0])).as_matrix()
    index = np.stack(np.meshgrid(*(np.arange(n + 20) for n in shape.signed_distance.shape), indexing="ij"), -1)
    origin = np.array(shape.origin) + 10
    target_points = (index - origin) * SHAPE_SPACING_MM
    source_points = ((target_points - place) @ turn.T) * np.exp(-stretch)
    target = VertebraShape("made", shape.number, distance_at(shape, source_points), tuple(origin), 35.0, "none")
    fit = fit_affine(shape, target)
    assert fit.stretch == pytest.approx(stretch, abs=0.012)
    assert fit.turn_deg == pytest.approx([4.0, -3.0, 6.0], abs=0.5)
    assert fit.place == pytest.approx(place, abs=0.4)
    tips = process_tips(shape)
    assert np.abs(fit.to_source(fit.to_target(tips)) - tips).max() < 1e-6


def test_drawn_stretches_spread_as_measured() -> None:
    levels = torch.full((4000,), 21)
    drawn = draw_deformation(levels, VariationOptions(turn=0, processes=0, smooth=0), torch.Generator().manual_seed(3))
    logs = -torch.log(torch.diagonal(drawn.linear, dim1=1, dim2=2)).numpy()
    assert logs.std(0) == pytest.approx(variation().spread[21, STRETCH], rel=0.06)


def test_one_persons_vertebrae_are_alike() -> None:
    levels = torch.tensor([20, 21, 24])
    logs = []
    for seed in range(250):
        drawn = draw_deformation(levels, VariationOptions(turn=0), torch.Generator().manual_seed(seed), one_person=True)
        logs.append(-torch.log(torch.diagonal(drawn.linear, dim1=1, dim2=2)).numpy())
    across = np.corrcoef(np.array(logs)[:, :, 1].T)
    wanted = variation().within_person["stretch"]
    assert across[0, 1] == pytest.approx(wanted.person + wanted.near * wanted.decay, abs=0.15)
    assert across[0, 2] == pytest.approx(wanted.person + wanted.near * wanted.decay**4, abs=0.15)


def test_what_follows_each_other_in_a_person_is_alike_as_neighbours_are() -> None:
    def mixed(*levels: int) -> torch.Tensor:
        z = torch.eye(len(levels)).repeat(1, 27)[:, :27].contiguous()
        return _shared(z, torch.tensor(levels), variation())

    neighbours, (t12, t13, l1, l5, s1) = mixed(20, 21), (19, 28, 20, 24, 26)
    assert torch.equal(mixed(t12, l1), neighbours)
    assert torch.equal(mixed(l5, s1), neighbours)
    assert torch.equal(mixed(t12, t13, l1), mixed(20, 21, 22))
    assert not torch.equal(mixed(t12, 21), neighbours)


def test_people_left_out_lie_inside_what_is_drawn_from_the_others() -> None:
    """Of all measured numbers 95 % lie in the central 99 %; statistics and sources are the others'."""
    inside = [np.array(list(numbers_inside(s, VariationOptions()).values())).reshape(-1, 27) for s in shape_subjects()]
    assert np.nanmean(np.concatenate(inside)) > 0.95
    # Far narrower draws would leave many outside.
    narrow = VariationOptions(stretch=0.1, turn=0.1, processes=0.1)
    outside = [np.array(list(numbers_inside(s, narrow).values())).reshape(-1, 27) for s in shape_subjects()]
    assert np.nanmean(np.concatenate(outside)) < 0.93


def test_a_neck_left_out_measures_what_drawn_ones_do() -> None:
    """Plain geometry of real surfaces against that of drawn ones: heights, spans, ends of processes."""
    inside = []
    for number in (3, 5):
        own = measures(number, surface_points(load_subject("spl")[number]))
        options = VariationOptions(without=("spl",))
        drawn = measures_of_draws(number, ("artisynth", "bodyparts3d"), options, 300, seed=number)
        low, high = np.nanpercentile(drawn, (0.5, 99.5), axis=0)
        inside.append((own >= low) & (own <= high))
    assert np.mean(inside) > 0.9


def test_a_neck_without_a_second_one_varies_as_the_whole_spine_does() -> None:
    """Of three subjects one has a neck, so how necks differ is not known of these."""
    found = variation(tuple(sorted(s for s in shape_subjects() if s not in ("s0327", "verse009", "spl"))))
    for table in (found.spread, found.spread_given_size, found.stretch_factor, found.tips, found.smooth_mm):
        assert np.isfinite(table).all()
    assert (found.spread[3][:3] > 0.01).all()
