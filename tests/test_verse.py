"""VerSe's releases: scans released twice, the two subsets, metal, lost workers."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import checksums, simulate_case

from scripts.data.cases import find_cases
from scripts.data.duplicates import merge_releases
from scripts.data.metal import MetalEvidence, find_metal
from scripts.data.online import build
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.subset import SpineRecord, SubsetOptions, why_dropped
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.jobs import CRASHED, run_jobs
from scripts.localization import films

NO_METAL = MetalEvidence(1500.0, 0.0, 0.0, False)


def release(root: Path, stem: str, **kwargs) -> Path:
    """One simulated scan in a release's layout."""
    subject = stem.split("_")[0]
    case = simulate_case(root / "work", "x", **kwargs)
    for source, kind, suffix in ((case.ct, "rawdata", "ct"), (case.mask, "derivatives", "seg-vert_msk")):
        target = root / kind / subject / f"{stem}_{suffix}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    shutil.rmtree(root / "work")
    return root / "rawdata" / subject / f"{stem}_ct.nii.gz"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_scan_in_both_years_is_used_once_under_one_patient(tmp_path: Path) -> None:
    release(tmp_path / "verse19", "sub-verse100", shift=1.0)
    release(tmp_path / "verse19", "sub-verse200", shift=7.0)
    # The same voxels under another name and in another order of axes, with another series of that patient.
    release(tmp_path / "verse20", "sub-gl500_dir-ax", axcodes="PIR", shift=1.0)
    release(tmp_path / "verse20", "sub-gl500_dir-sag", shift=3.0)
    # The same name for another scan.
    release(tmp_path / "verse20", "sub-verse200", shift=9.0)
    for path in tmp_path.rglob("*_ct.nii.gz"):  # `shift` moves the affine; the voxels must differ too
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj).copy()
        voxels.flat[0] = -round(float(np.abs(image.affine[:3, 3]).sum() * 7 % 900))
        if "gl500_dir-ax" not in path.name and "verse100" not in path.name:
            nib.save(nib.Nifti1Image(voxels, image.affine), path)
    cases, duplicates = merge_releases(find_cases(f"{tmp_path / 'verse19'},{tmp_path / 'verse20'}"))
    assert [(c.subject, c.series) for c in cases] == [
        ("gl500", "dir-ax"),
        ("gl500", "dir-sag"),
        ("verse200", ""),
        ("verse200", "in-verse20"),
    ]
    assert len(duplicates) == 1
    assert "verse100" in duplicates[0].dropped and "gl500" in duplicates[0].kept
    # One folder that holds both releases is the same thing.
    assert [c.key for c in merge_releases(find_cases(tmp_path))[0]] == [c.key for c in cases]


def test_stored_films_and_online_cases_know_releases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people of one name are two, one under two names is one and can be left out by either."""
    release(tmp_path / "verse19", "sub-verse100", levels=(20,))
    release(tmp_path / "verse20", "sub-gl500_dir-ax", levels=(20,))
    for year, level in ((19, 21), (20, 22)):
        release(tmp_path / f"verse{year}", "sub-verse200", levels=(level,), step=1.0)
        path = tmp_path / f"verse{year}" / "rawdata" / "sub-verse200" / "sub-verse200_ct.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) + np.int16(year), image.affine), path)
    jobs: list[str] = []
    monkeypatch.setattr(films, "run_jobs", lambda work, items, workers: jobs.extend(c.key for c, _ in items) or [])
    films.build_films(str(tmp_path), str(tmp_path / "films"))
    assert jobs == ["gl500_dir-ax", "verse200", "verse200_in-verse20"]
    jobs.clear()
    monkeypatch.setattr(build, "do_all", lambda job, items, workers, what: jobs.extend(c.key for c, _ in items))
    build.build(tmp_path / "online", str(tmp_path), without=("verse100",))
    assert jobs == ["verse200", "verse200_in-verse20"]
    jobs.clear()
    build.build(tmp_path / "online", str(tmp_path), subjects=("verse100",))
    assert jobs == ["gl500_dir-ax"]


@pytest.mark.parametrize(
    ("levels", "metal", "reason"),
    [
        (tuple(range(15, 25)), NO_METAL, ""),
        (tuple(range(17, 25)), NO_METAL, ""),
        (tuple(range(18, 25)), NO_METAL, "2 thoracic vertebrae"),
        ((7, *range(8, 25)), NO_METAL, "cervical vertebrae C7"),
        ((*range(15, 20), 28, 20, 21), NO_METAL, "has T13"),
        (tuple(range(15, 26)), NO_METAL, "has L6"),
        (tuple(range(15, 25)), MetalEvidence(3071.0, 9.0, 4.0, True), "metal, 4.0 cm3"),
        (tuple(range(15, 25)), MetalEvidence(3071.0, 90.0, 0.0, False), ""),
    ],
)
def test_verse_small_is_what_the_paper_says(levels: tuple[int, ...], metal: MetalEvidence, reason: str) -> None:
    spine = SpineRecord("a", "a", "", levels, metal)
    assert "; ".join(why_dropped(spine, SubsetOptions("small"))) == reason
    assert why_dropped(spine, SubsetOptions("full")) == []
    if metal.is_metal:
        assert why_dropped(spine, SubsetOptions("small", no_metal=("a",))) == []
    if not reason:
        assert why_dropped(spine, SubsetOptions("small", metal=("a",))) == ["metal"]


def test_metal_counts_only_at_the_spine() -> None:
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[25:35, 25:35, 25:35] = 20
    voxel = np.array([1.0, 1.0, 1.0])
    hu = np.where(labels > 0, 900.0, 40.0)
    assert not find_metal(hu, labels, voxel).is_metal
    far = hu.copy()
    far[0:10, 0:10, 0:10] = 3000  # 15 * sqrt(3) mm away
    evidence = find_metal(far, labels, voxel)
    assert evidence.total_cm3 == pytest.approx(1.0) and evidence.near_spine_cm3 == 0 and not evidence.is_metal
    screw = hu.copy()
    screw[28:33, 20:40, 28:31] = 3000  # 5 x 20 x 3 voxels
    evidence = find_metal(screw, labels, voxel)
    assert evidence.near_spine_cm3 == pytest.approx(0.3) and evidence.is_metal
    clipped = np.minimum(screw, 2000)  # a scan that was cut at 2000 HU shows a plateau there
    assert find_metal(clipped, labels, voxel).is_metal


def test_small_dataset_leaves_out_whole_spines_and_says_why(tmp_path: Path) -> None:
    release(tmp_path / "verse19", "sub-a", levels=(17, 18, 19))
    release(tmp_path / "verse19", "sub-b", levels=(19, 20, 21), shift=4.0)
    ct = release(tmp_path / "verse19", "sub-c", levels=(17, 18, 19), shift=8.0)
    image = nib.load(ct)
    hu = np.asanyarray(image.dataobj).copy()
    hu[36:44, 30:36, 60:70] = 3071
    nib.save(nib.Nifti1Image(hu, image.affine), ct)
    out = tmp_path / "small"
    counts = prepare_dataset(
        tmp_path / "verse19", out, PrepareOptions(), SplitOptions(0.0, 0.0), subset=SubsetOptions("small")
    )
    assert counts["training"] == 3 and counts["excluded"] == 6
    rows = {row["case"]: row for row in table(out / "subset.csv")}
    assert {key: row["reasons"].split(",")[0] for key, row in rows.items()} == {
        "a": "", "b": "1 thoracic vertebrae", "c": "metal",
    }  # fmt: skip
    document = json.loads((out / "dataset.json").read_text())
    assert {item["subject"] for item in document["training"]} == {"a"}
    kept = SubsetOptions("small", no_metal=("c",))
    counts = prepare_dataset(tmp_path / "verse19", out, PrepareOptions(), SplitOptions(0.0, 0.0), subset=kept)
    assert counts["training"] == 6
    with pytest.raises(UserError, match="no case 'z'"):
        prepare_dataset(
            tmp_path / "verse19", out, PrepareOptions(), SplitOptions(), subset=SubsetOptions("small", metal=("z",))
        )


def test_one_corrupt_case_among_twenty_loses_nothing_of_the_others(tmp_path: Path) -> None:
    original = simulate_case(tmp_path / "one", "x", levels=(20,))
    for number in range(20):
        for path, suffix in ((original.ct, "ct"), (original.mask, "vert_msk")):
            target = tmp_path / "source" / f"p{number:02d}_{suffix}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    broken = tmp_path / "source" / "p07_ct.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    counts = prepare_dataset(tmp_path / "source", tmp_path / "out", PrepareOptions(), SplitOptions(0.0, 0.0), workers=2)
    assert counts["training"] == 19 and counts["rejected"] == 1
    assert [row["case"] for row in table(tmp_path / "out" / "rejected.csv")] == ["p07"]


def square_unless_killed(job: tuple[int, str]) -> int:
    """Kills its own process where a file says so; once only if the file can be removed."""
    number, trap = job
    if trap and Path(trap).exists():
        if Path(trap).name == "once":
            Path(trap).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_a_killed_process_costs_only_its_own_job(tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    (tmp_path / "always").touch()
    jobs = [(n, {3: str(tmp_path / "once"), 9: str(tmp_path / "always")}.get(n, "")) for n in range(14)]
    results = {job[0]: result for job, result in run_jobs(square_unless_killed, iter(jobs), workers=2)}
    assert len(results) == 14
    assert str(results.pop(9)) == CRASHED
    assert results == {n: n * n for n in range(14) if n != 9}


def test_an_unreachable_scheduler_is_one_line() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UserError, match="no Dask scheduler"):
        list(run_jobs(abs, [1], scheduler="tcp://127.0.0.1:1"))


def test_dask_with_a_worker_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    original = simulate_case(tmp_path / "one", "x", levels=(20,))
    for number in range(6):
        for path, suffix in ((original.ct, "ct"), (original.mask, "vert_msk")):
            (tmp_path / "source").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "source" / f"p{number:02d}_{suffix}.nii.gz")
    prepare_dataset(tmp_path / "source", tmp_path / "here", PrepareOptions(), SplitOptions())
    killed: list[int] = []
    watched = tmp_path / "there"

    def kill_at_the_first_case(victim: int) -> None:
        while not list(watched.glob("cases/p*")):
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        threading.Thread(target=kill_at_the_first_case, args=(victim,), daemon=True).start()
        prepare_dataset(
            tmp_path / "source", watched, PrepareOptions(), SplitOptions(), scheduler=cluster.scheduler_address
        )
        assert killed
    assert checksums(watched) == checksums(tmp_path / "here")
