"""The shipped annotation network, through the commands a user types."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.films.pair import read_films
from scripts.io.annotations import read_annotations
from scripts.levels import LEVEL_ORDER, level_number
from scripts.localization.film_cases import FilmCase, write_film_cases
from scripts.localization.localizer import Localizer
from scripts.localization.network import INPUTS, SpineLocalizer
from tests.conftest import ROOT

SAMPLE = ROOT / "docs" / "sample"
MODELS = ROOT / "models"
FILMS = [f"--ap={SAMPLE / 'ap.nii.gz'}", f"--lat={SAMPLE / 'lat.nii.gz'}"]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    assert main(["annotate", *FILMS, f"--output={folder / 'annotations.json'}"]) == 0
    return folder


def test_both_weight_files_are_one_small_network() -> None:
    image = torch.rand(1, 2, INPUTS, 64, 64)
    with torch.inference_mode():
        maps = [Localizer(MODELS / name, "cpu").network(image) for name in ("localization.pt", "localization.ts")]
    assert torch.allclose(*maps, atol=1e-4)
    assert all((MODELS / name).stat().st_size < 25e6 for name in ("localization.pt", "localization.ts"))


def test_weights_of_another_network_are_read_with_that_network(tmp_path: Path) -> None:
    """As ``monai.bundle run evaluating --network_def#head_channels 32`` does."""
    smaller = SpineLocalizer(head_channels=32)
    torch.save({"model": smaller.state_dict()}, tmp_path / "smaller.pt")
    localizer = Localizer(tmp_path / "smaller.pt", "cpu", network=SpineLocalizer(head_channels=32))
    assert all(torch.equal(a, b) for a, b in zip(localizer.network.parameters(), smaller.parameters(), strict=True))
    with pytest.raises(UserError, match="another network"):
        Localizer(tmp_path / "smaller.pt", "cpu")


def test_most_of_a_held_out_patient_is_found_where_it_is(annotated: Path) -> None:
    """A real CT: first weights find most bodies in the frontal film, few of the chest in the lateral."""
    found, truth = (read_annotations(p / "annotations.json") for p in (annotated, SAMPLE))
    for name in ("ap", "lat"):
        marks = np.array([m.centroid for m in getattr(found, name).marks]).reshape(-1, 2)
        true = np.array([m.centroid for m in getattr(truth, name).marks])
        apart = np.linalg.norm(true[:, None] - marks[None], axis=-1)
        assert (apart.min(1) < 10).mean() > SHARE_FOUND[name]
        rows = marks[:, 0]
        assert (np.diff(rows) > 0).all()
    order = [LEVEL_ORDER.index(m.level) for m in found.ap.marks]
    assert order == sorted(order) and all(0 <= m.confidence <= 1 for m in found.ap.marks)
    assert (annotated / "annotations.png").stat().st_size > 10000


SHARE_FOUND = {"ap": 0.6, "lat": 0.35}


def test_one_film_alone_and_a_picture_without_pixel_size(tmp_path: Path) -> None:
    assert main(["annotate", FILMS[0], f"--output={tmp_path / 'ap.json'}"]) == 0
    alone = read_annotations(tmp_path / "ap.json")
    assert alone.ap.marks and not alone.lat.marks and all(m.seen_in == "ap" for m in alone.ap.marks)
    from PIL import Image

    film = read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz").lat.pixels
    Image.fromarray(np.uint8(255 * (film - film.min()) / np.ptp(film))).save(tmp_path / "lat.png")
    assert main(["annotate", f"--lat={tmp_path / 'lat.png'}", f"--output={tmp_path / 'marks.json'}"]) == 0
    picture = read_annotations(tmp_path / "marks.json")
    assert picture.lat.marks and any("pixels is not known" in w for w in picture.warnings)


def test_reconstruct_needs_no_annotations(annotated: Path, tmp_path: Path) -> None:
    found = read_annotations(annotated / "annotations.json")
    level = found.paired_levels()[len(found.paired_levels()) // 2]
    from scripts.levels import level_name

    words = ["reconstruct", *FILMS, f"--levels={level_name(level)}", f"--output={tmp_path / 'spine'}"]
    assert main(words) == 0
    report = json.loads((tmp_path / "spine" / "report.json").read_text())
    assert [row["level"] for row in report["vertebrae"]] == [level_name(level)]
    written = read_annotations(tmp_path / "spine" / "annotations.json")
    assert written.ap.marks[0].set_by == "model" and level_number(report["vertebrae"][0]["level"]) == level


def test_what_cannot_be_annotated_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "localization.pt"
    broken.write_bytes((MODELS / "localization.pt").read_bytes()[:9000])
    shutil.copy(MODELS / "model.pt", tmp_path / "other.pt")
    cases = {
        "truncated or damaged": [*FILMS, f"--weights={broken}"],
        "another network": [*FILMS, f"--weights={tmp_path / 'other.pt'}"],
        "no such weight file": [*FILMS, f"--weights={tmp_path / 'none.pt'}"],
        "is it flipped": [f"--ap={SAMPLE / 'lat.nii.gz'}", f"--lat={SAMPLE / 'ap.nii.gz'}"],
        "--ap or --lat": [],
    }
    for message, words in cases.items():
        assert main(["annotate", *words, f"--output={tmp_path / 'out' / 'a.json'}"]) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert len([line for line in error if line.startswith("error:")]) == 1 and message in error[-1]
    assert not (tmp_path / "out").exists()


def test_evaluation_verb_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Films of the sample, with its own annotations as the truth."""
    films = read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")
    truth = read_annotations(SAMPLE / "annotations.json")
    levels = truth.paired_levels()
    marks = [[view.by_level()[n].centroid for n in levels] for view in (truth.ap, truth.lat)]
    nothing = np.full((len(levels), 4, 2), np.nan)
    case = FilmCase(
        films.pixels,
        np.array([LEVEL_ORDER.index(n) for n in levels]),
        (np.array(marks[0]), np.array(marks[1])),
        (nothing, nothing),
        films.geometry,
        False,
    )
    (tmp_path / "films").mkdir()
    write_film_cases(tmp_path / "films" / "sample.npz", [case])
    assert main(["evaluate-localization", f"--films={tmp_path / 'films'}", f"--output={tmp_path / 'out'}"]) == 0
    assert "1 film pairs of 1 patients" in capsys.readouterr().out
    assert {"views.csv", "vertebrae.csv", "cases.csv", "summary.json", "summary.md"} == {
        p.name for p in (tmp_path / "out").iterdir()
    }
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["vertebrae"] == len(levels)
    assert main(["evaluate-localization", f"--films={tmp_path / 'none'}", f"--output={tmp_path / 'no'}"]) == 1
