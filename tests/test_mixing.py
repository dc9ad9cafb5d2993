"""Several datasets' training lists as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.data.datalist import spine_name
from scripts.data.mixing import main
from scripts.errors import UserError


def dataset(folder: Path, training: dict[str, int], validation: str = "held") -> Path:
    folder.mkdir()
    items = [
        {"image": f"cases/{s}/{i}_xray.nii.gz", "label": f"cases/{s}/{i}_mask.nii.gz", "subject": s}
        for s, count in training.items()
        for i in range(count)
    ]
    held = {"image": "cases/held/0.nii.gz", "label": "cases/held/1.nii.gz", "subject": validation}
    document = {"name": "x", "training": items, "validation": [held], "test": [], "excluded": [held]}
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def test_real_patients_are_taken_whole_and_simulated_ones_drawn(tmp_path: Path) -> None:
    one = dataset(tmp_path / "one", {"real": 3, "sim1": 10, "sim2": 10})
    two = dataset(tmp_path / "two", {"real": 2, "sim3": 10})
    for seed, name in ((4, "mix"), (4, "again"), (5, "other")):
        main((one, two), tmp_path / name, "sim*=6,4", seed)
    mixed, again, other = (json.loads((tmp_path / n / "dataset.json").read_text()) for n in ("mix", "again", "other"))
    assert mixed == again and mixed["training"] != other["training"]
    subjects = [item["subject"] for item in mixed["training"]]
    assert subjects.count("real") == 5 and subjects.count("sim3") == 4
    assert subjects.count("sim1") + subjects.count("sim2") == 6
    images = [item["image"] for item in mixed["training"]]
    assert len(set(images)) == 15 and all(Path(image).is_absolute() for image in images)
    assert images[0] == str(one / "cases/real/0_xray.nii.gz")
    assert mixed["validation"][0]["image"] == str(one / "cases/held/0.nii.gz")
    assert mixed["mixed_from"] == [str(one), str(two)]
    # All neighbours in a spine stay known: who was not drawn, and who is in no list of his dataset.
    spines: dict[str, int] = {}
    for name in ("training", "validation", "test", "excluded"):
        for item in mixed[name]:
            spines[spine_name(item)] = spines.get(spine_name(item), 0) + 1
    counts = {("one", "real"): 3, ("one", "sim1"): 10, ("one", "sim2"): 10, ("two", "real"): 2, ("two", "sim3"): 10}
    expected = {str(tmp_path / d / "cases" / s): count for (d, s), count in counts.items()}
    assert spines == {**expected, str(one / "cases/held"): 2}


def test_what_cannot_be_mixed(tmp_path: Path) -> None:
    one = dataset(tmp_path / "one", {"real": 3, "sim1": 10})
    leaking = dataset(tmp_path / "leaking", {"held": 2}, validation="else")
    for datasets, wanted, words in (
        ((one, leaking), "", "held out in .*one: held"),
        ((one,), "sim*=11", "11 vertebrae of 'sim\\*' are wanted, and there are 10"),
        ((one,), "sim*", "a number for each dataset"),
        ((one, tmp_path / "none"), "", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            main(datasets, tmp_path / "out", wanted)
        assert not (tmp_path / "out").exists()
