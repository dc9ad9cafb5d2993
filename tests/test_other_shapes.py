import numpy as np
import pytest
import torch

from scripts.anatomy.shapes import load_shape
from scripts.data.online import build
from scripts.data.online.case import case_from_simulation
from scripts.data.online.numbers import with_numbers
from scripts.data.online.other_shapes import library_numbers, placed_distance, with_other_shapes
from scripts.simulation.patient import SimulationOptions, simulate_patient
from scripts.simulation.spine import SpineOptions
from tests.conftest import simulate_case


@pytest.fixture(scope="module")
def case():
    """A back without anything of s0327, at 2 mm."""
    spine = SpineOptions(without=("s0327",))
    options = SimulationOptions(
        spacing_mm=2.0, seed=5, whole_share=0.0, part_mm=(190.0, 191.0), narrow_share=1.0, spine=spine
    )
    return with_numbers(case_from_simulation("sim", simulate_patient(0, options)))


@pytest.fixture(scope="module")
def copy(case):
    return with_other_shapes(case, 1, {"s0327": 1.0})


def overlap_with_library(case, vertebra, mirrored: bool, centroid: np.ndarray, axes: np.ndarray, numbers) -> float:
    """Dice of a vertebra's label with s0327, laid where the patient's own lay."""
    sides = vertebra.share.shape
    lattice = torch.stack(torch.meshgrid(*(torch.arange(n) for n in sides), indexing="ij"), -1).reshape(-1, 3)
    own = (lattice + torch.from_numpy(vertebra.start - centroid)).float() * case.spacing_mm
    points = own @ torch.from_numpy(axes).float().T
    theirs = library_numbers("s0327", vertebra.level)
    distance, _ = placed_distance(load_shape("s0327", vertebra.level), theirs, numbers, points, mirrored)
    wanted, label = distance.numpy() < 0, vertebra.share.flatten().numpy() > 127
    return float(2 * (wanted & label).sum() / (wanted.sum() + label.sum()))


def test_vertebrae_take_the_shape_of_another(case, copy):
    changed = 0
    for old, new in zip(case.vertebrae, copy.vertebrae, strict=True):
        if not old.whole or old.numbers is None:
            continue
        lies = (old.centroid, old.axes(), old.numbers)
        # Whether the copy is mirrored is drawn; one of the two fits.
        before = max(overlap_with_library(case, old, mirrored, *lies) for mirrored in (False, True))
        after = max(overlap_with_library(copy, new, mirrored, *lies) for mirrored in (False, True))
        assert after > before and after > 0.88
        changed += 1
    assert changed >= 3


def test_films_follow_the_labels(case, copy):
    for old, new in zip(case.vertebrae, copy.vertebrae, strict=True):
        mean = []
        for patient, vertebra in ((case, old), (copy, new)):
            box = tuple(slice(int(a), int(a) + n) for a, n in zip(vertebra.start, vertebra.share.shape, strict=True))
            mean.append(float(patient.hu[box][vertebra.share > 200].float().mean()))
        assert mean[1] == pytest.approx(mean[0], rel=0.15)
    # Nothing but the neighbourhood of the spine has moved.
    assert torch.equal(case.hu[:, :10], copy.hu[:, :10])
    assert (case.hu != copy.hu).float().mean() > 0.02


def test_what_a_copy_says_of_itself(case, copy):
    assert copy.name == "sim~shapes1" and copy.origin == case.origin
    for upper, lower in zip(copy.vertebrae[:-1], copy.vertebrae[1:], strict=True):
        away = (lower.centroid - upper.centroid) * copy.spacing_mm
        assert np.allclose(upper.below, away) and np.allclose(lower.above, -away)
    again = with_other_shapes(case, 1, {"s0327": 1.0})
    assert torch.equal(again.hu, copy.hu)
    # Levels that the other has not stay what they were.
    untouched = with_other_shapes(case, 1, {"spl": 1.0})
    assert torch.equal(untouched.hu, case.hu)
    assert all(np.allclose(o.centroid, n.centroid) for o, n in zip(case.vertebrae, untouched.vertebrae, strict=True))


def test_who_is_left_out_lends_no_shape(monkeypatch, tmp_path):
    jobs = []
    monkeypatch.setattr(build, "do_all", lambda job, items, *_: jobs.append((job.keywords, list(items))))
    build.build(tmp_path / "cases", simulate=2, without=("verse083", "remus"))
    (real, no_cts), (simulated, numbers) = jobs
    assert (no_cts, numbers) == ([], [0, 1])
    assert simulated["options"].spine.without == real["without"] == ("verse083", "remus")
    # Nor do their CTs take part, however a release spells them.
    for name in ("dataset1_verse083", "other"):
        simulate_case(tmp_path / "source", name, levels=(20,))
    build.build(tmp_path / "cases", str(tmp_path / "source"), without=("verse083",))
    assert [case.subject for case, _ in jobs[2][1]] == ["other"]
