"""Builds that are killed, strange files, and the tables and figure of a dataset."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, checksums, simulate_case
from PIL import Image

from scripts.data.building import build_case
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.datalist import write_datalist
from scripts.data.items import VertebraItem
from scripts.data.metal import MetalEvidence
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.statistics import level_matrix, write_statistics
from scripts.data.subset import SpineRecord, SubsetOptions
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam
from scripts.io.locks import only_writer
from scripts.jobs import run_jobs

NO_METAL = MetalEvidence(1500.0, 0.0, 0.0, False)


def copies(source: Path, count: int) -> Path:
    original = simulate_case(source.parent / "one", "x", levels=(20,))
    source.mkdir()
    for number in range(count):
        shutil.copy(original.ct, source / f"p{number:02d}_ct.nii.gz")
        shutil.copy(original.mask, source / f"p{number:02d}_vert_msk.nii.gz")
    return source


def living(group: int) -> list[int]:
    """Processes of a group that still run (zombies do not)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_a_killed_build_leaves_no_process_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    source = copies(tmp_path / "source", 5)
    prepare_dataset(source, tmp_path / "whole", PrepareOptions(), SplitOptions())
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "scripts", "prepare", "--source", str(source), "--output", str(out)]
    build = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(out.glob("cases/p*")):
        assert build.poll() is None
        time.sleep(0.01)
    os.kill(build.pid, signal.SIGKILL)  # the parent only: its workers get no signal
    build.wait()
    for _ in range(100):
        if not living(build.pid):
            break
        time.sleep(0.1)
    assert not living(build.pid)
    assert 0 < len(list(out.glob("cases/p*"))) < 5 and not (out / "dataset.json").exists()
    (out / "cases" / ".p03.left_behind").mkdir()
    prepare_dataset(source, out, PrepareOptions(), SplitOptions(), workers=2)
    assert checksums(out) == checksums(tmp_path / "whole")


def test_two_builds_of_one_dataset_do_not_mix(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path),
        pytest.raises(UserError, match="another process"),
        only_writer(tmp_path, patience_s=0.2),
    ):
        pass
    with only_writer(tmp_path, patience_s=0.2):
        assert not list(tmp_path.iterdir())


def test_damage_inside_a_compressed_file_costs_one_case(tmp_path: Path) -> None:
    """Wrong bits in the middle of gzip's data raise zlib.error, which is no OSError."""
    source = copies(tmp_path / "source", 3)
    broken = source / "p01_ct.nii.gz"
    packer = zlib.compressobj(wbits=31)
    whole = gzip.decompress(broken.read_bytes())
    broken.write_bytes(packer.compress(whole[:5000]) + packer.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 50)
    with pytest.raises(zlib.error):
        gzip.decompress(broken.read_bytes())
    counts = prepare_dataset(source, tmp_path / "d", PrepareOptions(), SplitOptions(0, 0))
    assert counts["training"] == 2 and counts["rejected"] == 1
    with (tmp_path / "d" / "rejected.csv").open() as stream:
        assert "damaged" in next(csv.DictReader(stream))["reason"]


def test_errors_that_nobody_foresaw_cost_one_case_and_a_full_disk_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cases").mkdir()
    case = CaseFiles("p", "", None, None)

    def fail(error: Exception) -> None:
        def broken(*_: object) -> None:
            raise error

        monkeypatch.setattr("scripts.data.building.prepare_case", broken)

    fail(ZeroDivisionError("by what?"))
    assert build_case((case, 0), tmp_path, PrepareOptions()) == "unexpected ZeroDivisionError: by what?"
    fail(OSError(28, "No space left on device"))
    with pytest.raises(UserError, match="No space left"):
        build_case((case, 0), tmp_path, PrepareOptions())
    assert not list((tmp_path / "cases").iterdir())
    # What a cluster's worker sees that does not share the files.
    with pytest.raises(UserError, match="see the same files"):
        build_case((case, 0), tmp_path / "elsewhere", PrepareOptions())


def test_a_corrupt_case_changes_nothing_for_the_others(tmp_path: Path) -> None:
    source = copies(tmp_path / "source", 4)
    prepare_dataset(source, tmp_path / "more", PrepareOptions(), SplitOptions(), workers=2)
    (source / "p03_ct.nii.gz").write_bytes(b"nothing")
    prepare_dataset(source, tmp_path / "with", PrepareOptions(), SplitOptions(), workers=2)
    for path in sorted(source.glob("p03*")):
        path.unlink()
    prepare_dataset(source, tmp_path / "without", PrepareOptions(), SplitOptions(), workers=2)
    found, expected = checksums(tmp_path / "with"), checksums(tmp_path / "without")
    assert found.pop("rejected.csv") != expected.pop("rejected.csv")
    assert found == expected


def test_a_named_patient_who_cannot_be_used_stops_nothing(tmp_path: Path) -> None:
    source = copies(tmp_path / "source", 3)
    (source / "p01_ct.nii.gz").write_bytes(b"nothing")
    split = SplitOptions(0, 0, test=("p01", "p02"))
    counts = prepare_dataset(source, tmp_path / "d", PrepareOptions(), split)
    assert (counts["training"], counts["test"], counts["rejected"]) == (1, 1, 1)
    with pytest.raises(UserError, match="'nobody'"):
        prepare_dataset(source, tmp_path / "e", PrepareOptions(), SplitOptions(test=("nobody",)))
    assert not list((tmp_path / "e").glob("cases/*"))  # said before any work


def count_ahead(job: int) -> int:
    return job


def test_jobs_are_drawn_as_they_are_needed() -> None:
    drawn = []

    def jobs():
        for number in range(40):
            drawn.append(number)
            yield number

    for done, _ in enumerate(run_jobs(count_ahead, jobs(), workers=2), start=1):
        assert len(drawn) <= done + 2 + 2 + 1
    assert done == len(drawn) == 40


def test_many_cases_are_found_in_linear_time(tmp_path: Path) -> None:
    rows = [{"subject": f"p{n}", "ct": None, "mask": None} for n in range(20000)]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    start = time.process_time()
    assert len(find_cases(tmp_path / "cases.json")) == 20000
    assert time.process_time() - start < 5  # comparing all with all takes minutes


def test_datalist_is_what_json_would_write(tmp_path: Path) -> None:
    item = VertebraItem("i", "l", "p", "", "L1", (1.0, 2.5, -3.0), "annotated", 0.0, 0.0, 'a "b"', "CC")
    rows = [("a", item), ("b", item), ("a", item)]
    counts = write_datalist(tmp_path / "d.json", {"name": "x", "options": {"k": [1]}}, ("a", "b", "none"), iter(rows))
    assert counts == {"a": 2, "b": 1, "none": 0}
    text = (tmp_path / "d.json").read_text()
    document = json.loads(text)
    assert list(document) == ["name", "options", "a", "b", "none"] and document["none"] == []
    assert text == json.dumps(document, indent=1) + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["d.json"]


def test_table_1_and_figure_6_count_what_is_there(tmp_path: Path) -> None:
    spines = [
        SpineRecord("a_s1", "a", "s1", tuple(range(8, 25)), NO_METAL),  # T1-L5
        SpineRecord("a_s2", "a", "s2", tuple(range(17, 26)), NO_METAL),  # T10-L6: not small
        SpineRecord("b", "b", "", (6, 7, 8), NO_METAL),  # C6-T1: not small
        SpineRecord("c", "c", "", (17, 18, 19, 28, 20), NO_METAL),  # T13 between T12 and L1: not small
        SpineRecord("d", "d", "", (17, 18, 19, 20), MetalEvidence(3071.0, 5.0, 5.0, True)),
    ]
    write_statistics(tmp_path, spines, SubsetOptions())
    values = json.loads((tmp_path / "table1.json").read_text())
    assert values["full"] == {
        "found": {"subjects": 4, "spines": 5, "vertebrae": 17 + 9 + 3 + 5 + 4},
        "paper": {"subjects": 355, "spines": 374, "vertebrae": 4522},
    }
    assert values["small"]["found"] == {"subjects": 1, "spines": 1, "vertebrae": 17}
    assert "| vertebrae | 38 | 4522 | 17 | 1407 |" in (tmp_path / "table1.md").read_text().splitlines()
    matrix = level_matrix(spines)
    assert matrix.shape == (5, 26) and matrix.sum() == 38
    assert matrix[0].nonzero()[0].tolist() == [5, 6, 7]  # b, the highest; columns begin at C1
    assert matrix[:, 19].sum() == 1 and matrix[:, 18].sum() == 4  # T13 has its column right of T12's
    picture = (tmp_path / "figure6.png").read_bytes()
    write_statistics(tmp_path, spines, SubsetOptions())
    assert (tmp_path / "figure6.png").read_bytes() == picture
    assert np.asarray(Image.open(tmp_path / "figure6.png").convert("L")).std() > 10
    write_statistics(tmp_path, [], SubsetOptions(no_metal=("d",)))  # nothing is no reason to fail


def test_patients_share_several_beams(tmp_path: Path) -> None:
    source = copies(tmp_path / "source", 8)
    prepare_dataset(source, tmp_path / "dataset", PrepareOptions(beams=(Beam.PARALLEL, Beam.CONE)), SplitOptions())
    cases = sorted((tmp_path / "dataset" / "cases").iterdir())
    beams = {(case / "geometry.json").is_file() for case in cases}
    assert len(cases) == 8 and beams == {True, False}
