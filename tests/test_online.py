import dataclasses

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from scripts.data.film_effects import FilmEffectOptions
from scripts.data.normalisation import normalise_film
from scripts.data.online import samples
from scripts.data.online.case import OnlineCase, OnlineVertebra, case_from_simulation, read_case, write_case
from scripts.data.online.dataset import FreshBatches, OnlineBatches
from scripts.data.online.draws import MachineOptions, MarkOptions, PeopleDeformation, draw_samples
from scripts.data.online.memory import pick_with_copies
from scripts.data.online.pool import CasePool, Choice, load_cases
from scripts.data.online.render import Field
from scripts.data.online.samples import SampleOptions, make_samples
from scripts.data.online.sheet import draw_sheet, read_options
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.cropping import crop_cube, network_input, place_cube, turned_upright
from scripts.geometry.frames import IPL_AXES
from scripts.geometry.leaning import spine_leans
from scripts.geometry.projector import hu_to_attenuation, project_pair
from scripts.localization.online.pool import HELD_OUT
from scripts.simulation.draw import VariationOptions
from scripts.simulation.painting import Ingredients
from scripts.simulation.patient import SimulationOptions, simulate_patient
from tests.conftest import ROOT

PLAIN = SampleOptions(
    machines=MachineOptions(
        slot_share=0.0,
        cone_share=0.0,
        error_deg=0.0,
        turn_deg=0.0,
        twist_deg=0.0,
        drift_mm=(0.0, 0.0),
        narrow_share=0.0,
    ),
    marks=MarkOptions((0.0, 0.0), upright_share=0.0, direction_deg=0.0, unknown_level_share=0, wrong_level_share=0),
    deformation=PeopleDeformation(VariationOptions(0.0, 0.0, 0.0, 0.0)),
    effects=FilmEffectOptions(prob=0.0),
    pixel_mm=1.0,
    ray_mm=1.0,
    voxel_mm=1.0,
)


@pytest.fixture(scope="module")
def patient():
    options = SimulationOptions(spacing_mm=1.0, seed=5, whole_share=0.0, part_mm=(190.0, 191.0), narrow_share=1.0)
    return simulate_patient(3, options)


@pytest.fixture(scope="module")
def case(patient):
    return case_from_simulation("sim", patient)


def batch(picks, options, seed=0):
    return make_samples(picks, options, torch.Generator().manual_seed(seed))


def undrawn(count):
    generator = torch.Generator().manual_seed(0)
    return draw_samples(count, PLAIN.machines, PLAIN.marks, generator, mirror=False)


@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.SLOT, Beam.CONE])
def test_an_undeformed_sample_is_what_prepare_cuts(patient, case, beam, monkeypatch):
    whole = [v for v in case.vertebrae if v.whole]
    assert len(whole) >= 3
    picks = [(case, v) for v in whole[1:3]]
    grid = patient.grid
    geometry = geometry_of_grid(grid, beam, (900.0, 1000.0), (1100.0, 1250.0))
    films = project_pair(hu_to_attenuation(torch.from_numpy(patient.hu).float()), grid.affine, geometry)
    levels = list(patient.centroids)
    leans = dict(zip(levels, spine_leans(np.stack(list(patient.centroids.values()))), strict=True))

    draws = undrawn(2)
    divergence, central = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    expected = []
    for i, (_, vertebra) in enumerate(picks):
        centroid = patient.centroids[vertebra.level]
        cube = place_cube(centroid, grid)
        pixels = geometry.project(centroid)
        lean = leans[vertebra.level]
        image = network_input(films, (pixels[0][0], pixels[1][0]), geometry, cube, lean)
        label = turned_upright(crop_cube(patient.labels == vertebra.level, cube), lean)
        expected.append((image, label))
        for which, view in enumerate((geometry.ap, geometry.lat)):
            direction = np.asarray(view.beam_direction)
            along = (cube.centre_mm - np.asarray(view.isocentre_mm)) @ direction
            depth_axis = IPL_AXES[1 if which == 0 else 2]
            sign = np.sign(direction @ depth_axis)
            diverges = {Beam.PARALLEL: (0, 0), Beam.SLOT: (0, 1), Beam.CONE: (1, 1)}[beam]
            for axis, step in enumerate((IPL_AXES[0], IPL_AXES[2 if which == 0 else 1])):
                distance = view.source_to_isocentre_mm + along
                divergence[i, which, axis] = diverges[axis] * sign / distance if diverges[axis] else 0.0
                central[i, which, axis] = (centroid - np.asarray(view.isocentre_mm)) @ step
    draws = dataclasses.replace(draws, divergence=divergence, central=central)
    monkeypatch.setattr(samples, "draw_samples", lambda *_: draws)
    found = batch(picks, PLAIN)
    for i, (image, label) in enumerate(expected):
        for channel in (0, 2):
            wanted = normalise_film(image[channel])
            # Cubes of `prepare` lie on whole voxels, and narrow films end inside the patch.
            seen = (found["image"][i, channel] > 0) & (wanted > 0)
            assert seen.float().mean() > 0.5
            assert torch.corrcoef(torch.stack([wanted[seen], found["image"][i, channel][seen]]))[0, 1] > 0.92
            mark = found["image"][i, channel + 1]
            for axis in (0, 1):
                line = torch.arange(120.0)
                place = ((mark.sum(1 - axis) * line).sum() / mark.sum()).item()
                there = ((image[channel + 1].sum(1 - axis) * line).sum() / image[channel + 1].sum()).item()
                assert place == pytest.approx(there, abs=0.75)
        mine, theirs = found["label"][i, 0].numpy() > 0, label > 0
        assert 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()) > 0.87


def test_the_films_show_the_label(case):
    picks = [(case, v) for v in case.vertebrae if v.whole][:2]
    assert len(picks) == 2
    # Cut upright: the frontal film of a vertebra that leans forwards shows it foreshortened, its label does not.
    marks = dataclasses.replace(PLAIN.marks, upright_share=1.0)
    options = dataclasses.replace(PLAIN, marks=marks, deformation=PeopleDeformation(), pixel_mm=1.0, voxel_mm=2.0)
    filled = dataclasses.replace(case, hu=torch.full_like(case.hu, -1000))
    for _, vertebra in picks:
        box = tuple(slice(int(s), int(s) + n) for s, n in zip(vertebra.start, vertebra.share.shape, strict=True))
        filled.hu[box] = torch.where(vertebra.share > 127, 500, filled.hu[box]).to(torch.int16)
        alone = dataclasses.replace(filled, hu=filled.hu.clone())
        out = batch([(alone, vertebra)], options, seed=4)
        for channel, axis in ((0, 1), (2, 2)):
            film, shadow = out["image"][0, channel] > 0.02, out["label"][0, 0].amax(axis) > 0
            overlap = 2 * (film & shadow).sum() / (film.sum() + shadow.sum())
            assert overlap > 0.9
        filled.hu.fill_(-1000)


def test_fields_leave_the_centroid_and_are_inverted(case):
    picks = [(case, v) for v in case.vertebrae if v.whole][:3]
    generator = torch.Generator().manual_seed(1)
    draws = draw_samples(3, MachineOptions(), MarkOptions(), generator)
    places = samples._places(picks, torch.device("cpu"))
    field = Field(places, draws, PeopleDeformation(), generator)
    assert field.source(torch.zeros(3, 1, 3)).abs().max() < 0.5
    points = torch.randn(3, 3) * 30
    assert (field.source(field.target(points)[:, None])[:, 0] - points).abs().max() < 0.1
    # Half of the samples are mirror images of the same person.
    drift = draws.drift * torch.tensor([1.0, -1.0])
    other = dataclasses.replace(draws, mirror=-draws.mirror, turn=-draws.turn, twist=-draws.twist, drift=drift)
    mirrored = Field(places, other, PLAIN.deformation, generator)
    straight = Field(places, draws, PLAIN.deformation, generator)
    flip = torch.tensor([1.0, 1.0, -1.0])
    assert torch.allclose(mirrored.source(points[:, None] * flip), straight.source(points[:, None]), atol=1e-4)


def test_patients_are_turned_about_the_vertical_axis(case):
    picks = [(case, v) for v in case.vertebrae if v.whole][:2]
    places = samples._places(picks, torch.device("cpu"))
    draws = dataclasses.replace(undrawn(2), turn=torch.tensor([90.0, 0.0]))
    field = Field(places, draws, PLAIN.deformation, torch.Generator().manual_seed(1))
    # Along I, P, L: what was in front has come to the left, what was on the left to the back.
    points = torch.tensor([[0.0, 0.0, 30.0], [5.0, 30.0, 0.0]]).expand(2, 2, 3)
    came_from = torch.tensor([[0.0, -30.0, 0.0], [5.0, 0.0, 30.0]])
    assert torch.allclose(field.source(points)[0], came_from, atol=1e-3)
    assert torch.allclose(field.source(points)[1], points[1], atol=1e-3)
    # The spine alone: its processes go along, the body's wall does not.
    draws = dataclasses.replace(undrawn(2), twist=torch.tensor([20.0, 0.0]))
    field = Field(places, draws, PLAIN.deformation, torch.Generator().manual_seed(1))
    points = torch.tensor([[4.0, 50.0, 0.0], [4.0, 0.0, 150.0]]).expand(2, 2, 3)
    assert torch.allclose(
        field.source(points)[0],
        torch.tensor([[4.0, 46.985, 17.101], [4.0, 0.0, 150.0]]),
        atol=1e-3,
    )
    assert (field.source(field.target(points[:, 0])[:, None])[:, 0] - points[:, 0]).abs().max() < 0.1
    # The body lies further to the left, and the vertebra with its processes where it was.
    draws = dataclasses.replace(undrawn(2), drift=torch.tensor([[0.0, 9.0], [0.0, 0.0]]))
    field = Field(places, draws, PLAIN.deformation, torch.Generator().manual_seed(1))
    points = torch.tensor([[4.0, 60.0, 10.0], [4.0, 0.0, 150.0]]).expand(2, 2, 3)
    assert torch.allclose(field.source(points)[0], torch.tensor([[4.0, 60.0, 10.0], [4.0, 0.0, 141.0]]), atol=1e-3)
    # Nothing folds, however it is drawn.
    wild = draw_samples(200, MachineOptions(drift_mm=(50.0, 50.0)), MarkOptions(), torch.Generator().manual_seed(2))
    wild = dataclasses.replace(wild, twist=wild.twist / 2)
    many = samples._places(picks[:1] * 200, torch.device("cpu"))
    field = Field(many, wild, PLAIN.deformation, torch.Generator().manual_seed(1))
    across = torch.tensor([0.0, 0.0, 1.0]) * torch.linspace(-150, 150, 151)[:, None]
    came = field._in_its_body(across.expand(200, -1, -1))
    assert (came[:, 1:, 2] > came[:, :-1, 2]).all()
    drawn = draw_samples(2000, MachineOptions(), MarkOptions(), torch.Generator().manual_seed(0))
    assert abs(drawn.twist.std() - 8) < 0.5 and drawn.twist.abs().max() <= 25 and abs(drawn.turn.std() - 5) < 0.3


def test_batch_k_of_a_seed_is_always_the_same(case):
    options = SampleOptions(pixel_mm=4.0, ray_mm=4.0, voxel_mm=4.0)
    sets = [OnlineBatches(CasePool([case]), options, batch_size=2, seed=seed) for seed in (7, 7, 8)]
    first, again, other = (s[5] for s in sets)
    assert all(torch.allclose(first[key], again[key], rtol=0, atol=0, equal_nan=True) for key in first)
    assert not torch.equal(first["image"], other["image"])
    assert not torch.equal(first["image"], sets[0][6]["image"])
    assert first["image"].shape == (2, 4, 120, 120) and first["label"].shape == (2, 1, 120, 120, 120)
    assert first["image"].isfinite().all() and set(first["label"].unique().tolist()) == {0.0, 1.0}


def test_real_cases_are_copied_with_contrast_agent(tmp_path):
    # A painted body: a donor's may have lung or bowel where most people have vessels.
    painted = SimulationOptions(
        spacing_mm=2.0, seed=5, whole_share=1.0, narrow_share=0.0, ingredients=Ingredients(donor_share=0.0)
    )
    case = case_from_simulation("sim", simulate_patient(0, painted))
    real = dataclasses.replace(case, name="real", origin="truth")
    write_case(tmp_path / "real.npz", real)
    write_case(tmp_path / "sim.npz", case)
    plain, drawn, copy = load_cases(str(tmp_path), contrast_copies=1)
    assert (plain.name, drawn.name, copy.name, copy.origin) == ("real", "sim", "real~contrast0", "truth")
    assert torch.equal(copy.hu, load_cases(str(tmp_path), contrast_copies=1)[2].hu)
    changed = copy.hu != plain.hu
    assert 0.001 < changed.float().mean() < 0.2 and copy.hu[changed].min() > 100 and plain.hu[changed].max() <= 130
    for old, new in zip(plain.vertebrae, copy.vertebrae, strict=True):
        box = tuple(slice(int(a), int(a) + n) for a, n in zip(old.start, old.share.shape, strict=True))
        assert torch.equal(old.share, new.share) and not changed[box][old.share > 250].any()


def test_people_who_are_held_out_are_in_no_training(tmp_path):
    """Only their shapes were left out of what is simulated, not their CTs."""
    share = torch.full((2, 2, 2), 255, dtype=torch.uint8)
    vertebra = OnlineVertebra(20, np.full(3, 4.0), None, None, np.array([3, 3, 3]), share, True)
    for name in ("verse014", "verse0831", "verse083", "verse083_body1", "verse083~s02"):
        write_case(tmp_path / f"{name}.npz", OnlineCase(name, torch.zeros(8, 8, 8).short(), 2.0, (vertebra,), "truth"))
    for stack in (("online", "online_cases"), ("online", "minutes")):
        parser = ConfigParser()
        parser.read_config([ROOT / "configs" / f"{name}.json" for name in ("train", *stack)])
        parser["cases"] = str(tmp_path)
        assert [case.name for case in parser.get_parsed_content("loaded_cases")] == ["verse014", "verse0831"]
    assert set(parser["held_out"]) == set(HELD_OUT) == {"verse083", "LIDC-IDRI-0001"}
    with pytest.raises(UserError, match=f"{tmp_path}: nobody is left without verse014, verse0831, verse083$"):
        load_cases(str(tmp_path), ("verse014", "verse0831", "verse083"))


def test_a_sheet_of_fresh_samples_is_drawn_by_the_shipped_config(case, tmp_path):
    write_case(tmp_path / "a.npz", case)
    draw_sheet((str(tmp_path),), tmp_path / "sheet.jpg", count=2)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 20
    assert read_options().pixel_mm == 2.0


def test_cases_are_stored_and_chosen(case, tmp_path):
    write_case(tmp_path / "a.npz", case)
    stored = read_case(tmp_path / "a.npz")
    assert (stored.hu - case.hu).abs().max() <= 4
    assert all(torch.equal(a.share, b.share) for a, b in zip(stored.vertebrae, case.vertebrae, strict=True))
    real = dataclasses.replace(case, name="real", origin="truth")
    pool = CasePool([case, real], Choice(real_share=0.25))
    rng = np.random.default_rng(0)
    names = [pool.pick(rng)[0].name for _ in range(400)]
    assert 60 < names.count("real") < 140
    with pytest.raises(UserError, match="no patient"):
        CasePool([]).pick(rng)
    with np.load(tmp_path / "a.npz") as stored:
        arrays = dict(stored)
    arrays["about"] = np.array(str(arrays["about"]).replace('"numbers"', '"other"'))
    np.savez(tmp_path / "old.npz", **arrays)
    with pytest.raises(UserError, match=r"old\.npz: made by an older version"):
        read_case(tmp_path / "old.npz")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"b\.npz"):
        read_case(tmp_path / "b.npz")


@pytest.mark.parametrize(("processes", "unused"), [(1, 1), (2, 2)])
def test_only_this_process_s_next_batch_is_made_ahead(processes: int, unused: int) -> None:
    """The first guess is the next number, which with two processes is the other one's; and one is left at the end."""
    made = []

    class Counted(FreshBatches):
        def make(self, number: int) -> dict[str, torch.Tensor]:
            made.append(number)
            return {}

    batches = Counted(torch.device("cpu"), 12, ahead=True)
    asked = list(range(0, 12, processes))
    for number in asked:
        batches[number]
    batches._thread.shutdown()
    assert set(asked) <= set(made) and len(made) == len(asked) + unused


def test_copies_with_contrast_agent_do_not_crowd_out_other_patients() -> None:
    """Every patient is as likely as any other, and a copy in one of two times."""
    names = ["a", "b", *(f"b~contrast{n}" for n in range(5)), "c~contrast0"]
    rng = np.random.default_rng(3)
    drawn = [pick_with_copies(names, str, rng) for _ in range(3000)]
    share = {name: drawn.count(name) / len(drawn) for name in names}
    expected = {"a": 1 / 3, "b": 1 / 6, **{f"b~contrast{n}": 1 / 30 for n in range(5)}, "c~contrast0": 1 / 3}
    np.testing.assert_allclose([share[n] for n in names], [expected[n] for n in names], atol=0.03)
    # Nor do copies with other people's shapes, which have copies with contrast agent too.
    crowd = ["a", *(f"b~shapes{n}{end}" for n in range(5) for end in ("", "~contrast0"))]
    drawn = [pick_with_copies(crowd, str, rng) for _ in range(2000)]
    assert drawn.count("a") / 2000 == pytest.approx(1 / 2, abs=0.04)
    assert sum("~contrast" in name for name in drawn) / 2000 == pytest.approx(1 / 4, abs=0.04)
