"""Films at a wrong angle are those of the dataset's own cases, or there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.paper.disturbances import write_tilted_films
from scripts.benchmarks.paper.models import chosen
from scripts.benchmarks.paper.run import run_benchmark
from scripts.data.building import FORMAT, STAMP_FILE, inputs_of, options_to_json
from scripts.data.cases import find_cases
from scripts.data.datalist import read_datalist
from scripts.data.prepare import prepare_dataset
from scripts.data.split import SplitOptions
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam
from scripts.geometry.film import FilmOptions
from scripts.io.nifti import read_nifti
from tests.conftest import simulate_case


def release(folder: Path, subject: str, step: float) -> None:
    """A patient in VerSe's layout."""
    case = simulate_case(folder, "work", levels=(20, 21), step=step)
    for path, kind, suffix in ((case.ct, "rawdata", "ct"), (case.mask, "derivatives", "seg-vert_msk")):
        (folder / kind / subject).mkdir(parents=True)
        path.rename(folder / kind / subject / f"{subject}_{suffix}.nii.gz")


def stamped(dataset: Path, source: Path, options: PrepareOptions) -> Path:
    """A dataset of one case that was not prepared in truth."""
    (dataset / "cases" / "p").mkdir(parents=True)
    (case,) = find_cases(source)
    stamp = {"format": FORMAT, **inputs_of(case), "options": options_to_json(options)}
    (dataset / "cases" / "p" / STAMP_FILE).write_text(json.dumps(stamp))
    item = {"subject": "p", "case": "p", "level": "L1", "label": "cases/p/L1_mask.nii.gz"}
    (dataset / "dataset.json").write_text(json.dumps({"training": [item], "test": [item]}))
    return dataset


def test_two_people_of_one_name_get_their_own_films(tmp_path: Path) -> None:
    """Two releases have a scan of one name each; at no angle the films are the dataset's images, with its options."""
    release(tmp_path / "verse19", "sub-verse200", 0.0)
    release(tmp_path / "verse20", "sub-verse200", 12.0)
    source, data = f"{tmp_path / 'verse19'},{tmp_path / 'verse20'}", tmp_path / "d"
    prepare_dataset(source, data, PrepareOptions(bone_gain=1.3), SplitOptions(test=("verse200",)))
    items = read_datalist(data, "test")
    assert len({item["case"] for item in items}) == 2
    write_tilted_films(source, data, items, 0.0, tmp_path / "t")
    for item in items:
        prepared = np.nan_to_num(read_nifti(data / item["image"])[0])
        film = np.nan_to_num(read_nifti(tmp_path / "t" / item["case"] / f"{item['level']}_xray.nii.gz")[0])
        assert np.abs(film - prepared).max() < 1e-3 * prepared.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PrepareOptions(along_spine=True), "prepared with --along-spine"),
        (PrepareOptions(film=FilmOptions(photons=1e5)), "prepared with --film"),
        (PrepareOptions(beams=(Beam.PARALLEL, Beam.CONE)), "prepared with --beam"),
    ],
)
def test_what_was_prepared_otherwise_has_no_films_at_an_angle(
    tmp_path: Path, options: PrepareOptions, words: str
) -> None:
    """Said before anything is trained."""
    simulate_case(tmp_path / "source", "p", levels=(20,))
    data, out = stamped(tmp_path / "d", tmp_path / "source", options), tmp_path / "out"
    with pytest.raises(UserError, match=words):
        run_benchmark(out, str(data), chosen(["unet"]), [0], ["report"], source=str(tmp_path / "source"))
    assert not out.exists()


def test_another_source_than_the_dataset_s_is_refused(tmp_path: Path) -> None:
    simulate_case(tmp_path / "source", "p", levels=(20,))
    data = stamped(tmp_path / "d", tmp_path / "source", PrepareOptions())
    items = read_datalist(data, "test")
    simulate_case(tmp_path / "source", "p", levels=(21,))
    with pytest.raises(UserError, match=r"source: its case p is not what .*d was prepared from"):
        write_tilted_films(str(tmp_path / "source"), data, items, 2.0, tmp_path / "t")
    (data / "cases" / "p" / STAMP_FILE).write_text(json.dumps([6, [], {}, {}]))
    with pytest.raises(UserError, match="another version"):
        write_tilted_films(str(tmp_path / "source"), data, items, 2.0, tmp_path / "t")
    assert not (tmp_path / "t").exists()
