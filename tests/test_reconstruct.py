"""The main job as its user runs it: assembly, files, and every bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import nibabel as nib
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.cropping import CUBE_SIZE, crop_cube
from scripts.geometry.frames import Grid, resample_labels
from scripts.io.annotations import Annotations, Mark, ViewMarks, read_annotations, write_annotations
from scripts.io.atomic import atomic_folder
from scripts.io.inputs import keep_inputs
from scripts.io.nifti import read_nifti
from scripts.job.report import truth_warnings
from scripts.levels import level_name
from scripts.reconstruction.metrics.ellipsoid import best_ellipsoid
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.predictor import Predictor
from scripts.spine.assembly import assemble, largest_component, locate_vertebrae, patient_lattice
from scripts.spine.reconstruction import Reconstruction
from tests.conftest import ROOT, SAMPLE, without_films


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A copy of the sample that may be spoilt."""
    folder = tmp_path / "sample"
    shutil.copytree(SAMPLE, folder)
    return folder


def reconstruct(sample: Path, *more: str) -> int:
    return main(
        ["reconstruct", f"--ap={sample}/ap.nii.gz", f"--lat={sample}/lat.nii.gz",
         f"--annotations={sample}/annotations.json", f"--output={sample.parent}/result", *more]
    )  # fmt: skip


def test_the_mean_says_how_many_vertebrae_the_truth_has(
    sample: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film shows vertebrae that the true labelmap does not; they are no part of the mean."""
    rows = [{"level": "L1", "volume_cm3": 40.0, "dice": 0.8, "hd95_mm": 3.0}, {"level": "L2", "volume_cm3": 42.0}]
    means = dict.fromkeys(("dice", "average_dice", "ellipsoid_at_mark_dice", "ellipsoid_dice"), 0.8)
    report = {"vertebrae": rows, "warnings": [], "seconds": {}} | {f"mean_{name}": v for name, v in means.items()}
    monkeypatch.setattr("scripts.job.run.run_job", lambda *_: report)
    assert reconstruct(sample) == 0
    assert "mean Dice 0.800 over the 1 vertebrae that the truth has" in capsys.readouterr().out


def test_three_levels_of_the_sample_come_back(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, frame, levels and order; and better than an ellipsoid of the vertebra's own size and place."""
    assert reconstruct(sample, "--levels=T11,T12,L1", f"--truth={sample}/labelmap.nii.gz") == 0
    printed = capsys.readouterr().out
    assert "mean Dice" in printed and "preview.png" in printed
    folder = sample.parent / "result"
    report = json.loads((folder / "report.json").read_text())
    assert [row["level"] for row in report["vertebrae"]] == ["T11", "T12", "L1"] and report["warnings"] == []
    labels, affine = read_nifti(folder / "spine.nii.gz")
    truth, truth_affine = read_nifti(sample / "labelmap.nii.gz")
    grid = Grid(tuple(affine[:3, 3]), labels.shape)
    assert np.allclose(grid.affine, affine)
    there = resample_labels(truth.astype(np.uint8), truth_affine, grid)
    heights = []
    for row, number in zip(report["vertebrae"], (18, 19, 20), strict=True):
        mask = there == number
        assert row["dice"] == pytest.approx(vertebra_metrics(labels == number, mask).dice, abs=1e-3)
        assert row["dice"] > row["ellipsoid_at_mark_dice"] + 0.03
        mesh = trimesh.load(folder / "meshes" / f"{level_name(number)}.stl")
        assert mesh.is_watertight and mesh.volume / 1000 == pytest.approx(row["volume_cm3"], rel=0.05)
        heights.append(mesh.center_mass[2])
    assert heights == sorted(heights, reverse=True)
    assert report["mean_dice"] > report["mean_ellipsoid_dice"]
    assert list(trimesh.load(folder / "spine.glb").geometry) == ["T11", "T12", "L1"]
    assert (folder / "preview.png").stat().st_size > 50_000
    assert without_films(read_annotations(folder / "annotations.json")) == read_annotations(sample / "annotations.json")


def test_ellipsoid_knows_place_size_and_direction() -> None:
    """Of an ellipsoid it is that ellipsoid; of a vertebra it misses the processes."""
    index = np.stack(np.indices((40, 50, 60)), -1) - [20.0, 24.0, 31.0]
    turn = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]])
    true = (((index @ turn) / [8.0, 14.0, 20.0]) ** 2).sum(-1) < 1
    assert vertebra_metrics(best_ellipsoid(true), true).dice > 0.97
    labels, _ = read_nifti(SAMPLE / "labelmap.nii.gz")
    vertebra = labels == 16
    ellipsoid = best_ellipsoid(vertebra)
    assert ellipsoid.sum() == pytest.approx(vertebra.sum(), rel=0.01)
    assert vertebra_metrics(ellipsoid, vertebra).dice < 0.7
    moved = best_ellipsoid(vertebra, np.argwhere(vertebra).mean(0) + [0, 5, 0])
    assert np.argwhere(moved).mean(0)[1] - np.argwhere(ellipsoid).mean(0)[1] == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("beam", list(Beam))
def test_true_cubes_assemble_to_the_true_labelmap(beam: Beam) -> None:
    """Marks projected, brought together, cut and put back: voxel for voxel, whatever the beam."""
    truth, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    grid = Grid(tuple(affine[:3, 3]), truth.shape)
    geometry = geometry_of_grid(grid, beam)
    numbers = [8, 14, 20]
    points = np.array([grid.to_world(np.argwhere(truth == n).mean(0)) for n in numbers])
    views = [
        ViewMarks(v.shape, tuple(Mark(n, tuple(p)) for n, p in zip(numbers, pixels, strict=True)))
        for v, pixels in zip((geometry.ap, geometry.lat), geometry.project(points), strict=True)
    ]
    lattice = patient_lattice(geometry)
    found = locate_vertebrae(Annotations(*views), geometry, lattice)
    assert max(v.residual_mm for v in found) < 1e-6
    for vertebra, point in zip(found, points, strict=True):
        assert np.allclose(vertebra.cube.body_centroid_mm, point, atol=1e-6)
    offset = np.rint(grid.to_index(np.array(lattice.origin_mm))).astype(int)
    parts = []
    for vertebra in found:
        cube = replace(vertebra.cube, start=tuple(np.array(vertebra.cube.start) + offset))
        parts.append((vertebra, crop_cube((truth == vertebra.level).astype(np.float32), cube)))
    labels, place = assemble(parts)
    start = np.rint(grid.to_index(np.array(place.origin_mm))).astype(int)
    for number in numbers:
        assert (np.argwhere(labels == number) + start == np.argwhere(truth == number)).all()


def test_overlap_goes_to_the_more_probable_and_islands_go() -> None:
    grid = Grid((0.0, 0.0, 0.0), (200, 150, 150))
    geometry = geometry_of_grid(grid)
    points = grid.to_world(np.array([[80.0, 70, 70], [100.0, 70, 70]]))
    pixels = geometry.project(points)
    views = [
        ViewMarks(v.shape, tuple(Mark(n, tuple(p)) for n, p in zip((20, 21), marks, strict=True)))
        for v, marks in zip((geometry.ap, geometry.lat), pixels, strict=True)
    ]
    found = locate_vertebrae(Annotations(*views), geometry, grid)
    upper, lower = (np.zeros((CUBE_SIZE,) * 3, np.float32) for _ in range(2))
    upper[50:80, 50:60, 50:60] = 0.9  # rows 50-79 of the upper cube are rows 30-59 of the lower one
    lower[40:80, 50:60, 50:60] = 0.7
    labels, _ = assemble(zip(found, (upper, lower), strict=True))
    assert (labels == 20).sum() == 30 * 100 and (labels == 21).sum() == 20 * 100
    upper[5:8, 5:8, 5:8] = 0.99
    upper[48:50, 50:60, 50:60] = 0.3
    cleaned = largest_component(upper)
    assert (cleaned > 0.5).sum() == 3000 and (cleaned == np.float32(0.3)).sum() == 200


BAD_INPUTS = {
    "missing": "no such file",
    "truncated": "truncated or damaged",
    "volume": "a radiograph is 2D",
    "nan": "NaN",
    "blank": "blank",
    "heights": "different heights",
    "swapped": "flipped, transposed or the other view",
    "mirrored": "flipped, transposed or the other view",
    "unknown_level": "unknown vertebra level 'X9'",
    "absent_level": "L5 is not marked",
    "bad_json": "not a readable JSON",
    "schema": "$.views.ap.vertebrae[0]",
    "duplicate": "marked twice",
    "other_film": "marks were set on a film of",
    "misplaced": "miss each other",
    "weights": "truncated or damaged",
    "other_weights": "weights of another network",
    "device": "not available",
    "jpeg": "no such file",
    "unknown": "neither DICOM",
}


def spoil(sample: Path, how: str) -> list[str]:
    ap, marks = sample / "ap.nii.gz", sample / "annotations.json"
    image = nib.load(ap)
    film = image.get_fdata().astype(np.float32)
    document = json.loads(marks.read_text())
    if how == "missing":
        ap.unlink()
    elif how == "truncated":
        ap.write_bytes(ap.read_bytes()[:5000])
    elif how == "volume":
        shutil.copy(sample / "labelmap.nii.gz", ap)
    elif how == "nan":
        film[3, 4] = np.nan
        nib.save(nib.Nifti1Image(film, image.affine), ap)
    elif how == "blank":
        nib.save(nib.Nifti1Image(film * 0, image.affine), ap)
    elif how == "heights":
        nib.save(nib.Nifti1Image(film[:-40], image.affine), ap)
    elif how == "swapped":
        shutil.copy(sample / "lat.nii.gz", ap)
    elif how == "mirrored":
        affine = image.affine.copy()
        affine[:3, 1] *= -1
        nib.save(nib.Nifti1Image(film, affine), ap)
    elif how == "unknown_level":
        return ["--levels=T11,X9"]
    elif how == "absent_level":
        return ["--levels=L5"]
    elif how == "bad_json":
        marks.write_text(marks.read_text()[:100])
    elif how == "schema":
        del document["views"]["ap"]["vertebrae"][0]["centroid"]
        marks.write_text(json.dumps(document))
    elif how == "duplicate":
        document["views"]["ap"]["vertebrae"][1]["level"] = document["views"]["ap"]["vertebrae"][0]["level"]
        marks.write_text(json.dumps(document))
    elif how == "other_film":
        document["views"]["lat"]["shape"][1] += 7
        marks.write_text(json.dumps(document))
    elif how == "misplaced":
        document["views"]["lat"]["vertebrae"][-1]["centroid"][0] += 30
        marks.write_text(json.dumps(document))
    elif how == "weights":
        path = sample / "model.pt"
        path.write_bytes((ROOT / "models" / "model.pt").read_bytes()[:20000])
        return [f"--weights={path}"]
    elif how == "other_weights":
        torch.save({"layer.weight": torch.zeros(3)}, sample / "model.pt")
        return [f"--weights={sample / 'model.pt'}"]
    elif how == "device":
        return ["--device=cuda:7"]
    elif how == "jpeg":
        return [f"--ap={sample}/ap.jpg"]
    elif how == "unknown":
        return [f"--ap={sample}/README.md"]
    return []


@pytest.mark.parametrize("how", list(BAD_INPUTS))
def test_bad_input_gets_one_line_and_leaves_nothing(sample: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = spoil(sample, how)
    assert reconstruct(sample, "--levels=L1", *arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "vertebra/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and BAD_INPUTS[how] in lines[0]
    assert [p.name for p in sample.parent.iterdir()] == ["sample"]


def test_a_failing_truth_leaves_no_folder(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(sample, "--levels=L1", f"--truth={sample}/ap.nii.gz") == 1
    assert "a labelmap is 3D" in capsys.readouterr().err
    assert not (sample.parent / "result").exists()


def test_a_truth_that_does_not_meet_the_result_is_told() -> None:
    parts = [SimpleNamespace(level=level) for level in (18, 19, 20)]
    result = cast(Reconstruction, SimpleNamespace(parts=parts))
    truth: np.ndarray = np.zeros((4, 4, 4), np.uint8)
    assert truth_warnings(result, None) == []
    assert truth_warnings(result, truth) == [
        "--truth: nothing is compared, it has no vertebra where the reconstruction lies; is it in the films' frame?"
    ]
    truth[0] = 24
    assert "it has none of these levels where" in truth_warnings(result, truth)[0]
    truth[1] = 19
    assert truth_warnings(result, truth) == ["--truth: it has no T11, L1 where the reconstruction lies"]
    truth[2], truth[3] = 18, 20
    assert truth_warnings(result, truth) == []


def test_an_unrelated_output_folder_is_left_alone(sample: Path) -> None:
    (sample.parent / "result").mkdir()
    (sample.parent / "result" / "notes.txt").write_text("mine")
    assert reconstruct(sample, "--levels=L1") == 1
    assert [p.name for p in (sample.parent / "result").iterdir()] == ["notes.txt"]


def test_what_is_read_is_never_written_over(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Films in the folder of an earlier result, or named like the picture of the marks, stay what they are."""
    result = sample.parent / "result"
    result.mkdir()
    (result / "report.json").write_text("{}")
    film = shutil.copy(sample / "ap.nii.gz", result / "ap.nii.gz")
    assert reconstruct(sample, "--levels=L1", f"--ap={film}") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {film}: ") and "would be replaced" in said and Path(film).is_file()
    picture = sample / "patient.png"
    Image.fromarray(np.zeros((60, 40), np.uint8)).save(picture)
    before = picture.read_bytes()
    marks = f"--output={sample / 'patient.json'}"
    assert main(["annotate", f"--ap={picture}", "--spacing=ap:1", marks]) == 1
    assert "would be replaced" in capsys.readouterr().err
    assert main(["annotate", f"--ap={sample}/ap.nii.gz", marks]) == 1
    assert "is there already" in capsys.readouterr().err and picture.read_bytes() == before
    # The marks of an earlier result may be corrected in place.
    keep_inputs([result], [None, sample / "ap.nii.gz"])
    shutil.copy(sample / "annotations.json", result)
    Path(film).unlink()
    assert reconstruct(sample, "--levels=L1", f"--annotations={result}/annotations.json") == 0
    assert (result / "annotations.json").is_file()
    # What somebody else put there would go with the earlier result.
    (result / "notes.txt").write_text("mine")
    assert reconstruct(sample, "--levels=L1") == 1
    assert "notes.txt: is no part of the reconstruction" in capsys.readouterr().err
    assert (result / "notes.txt").read_text() == "mine" and (result / "spine.nii.gz").is_file()


def test_atomic_folder_replaces_whole_or_keeps_the_old(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target, "done") as work:
        (work / "done").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target, "done") as work:
        (work / "done").write_text("2")
        raise RuntimeError
    assert (target / "done").read_text() == "1" and len(list(tmp_path.iterdir())) == 1
    with atomic_folder(target, "done") as work:
        (work / "done").write_text("3")
    assert (target / "done").read_text() == "3" and len(list(tmp_path.iterdir())) == 1


def test_annotations_round_trip_and_schema(tmp_path: Path) -> None:
    corners = ((1.0, 2.0), (1.0, 9.0), (8.0, 9.0), (8.0, 2.0))
    marks = ViewMarks((100, 80), (Mark(28, (50.25, 40.5), corners, 0.75, "model"), Mark(19, (20.0, 41.0))))
    write_annotations(tmp_path / "a.json", Annotations(marks, marks, "case"))
    again = read_annotations(tmp_path / "a.json")
    assert again.ap.by_level() == marks.by_level() and [m.level for m in again.ap.marks] == [19, 28]
    with pytest.raises(UserError, match="no such file"):
        read_annotations(tmp_path / "b.json")


def test_torchscript_and_state_dict_predict_alike() -> None:
    torch.manual_seed(0)
    inputs = [torch.rand(4, 120, 120)]
    from_state, from_script = (
        next(iter(Predictor(ROOT / "models" / name, "cpu")(inputs))) for name in ("model.pt", "model.ts")
    )
    assert np.abs(from_state - from_script).max() < 1e-5


def test_without_its_level_a_vertebra_is_nearly_the_same(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TorchScript, ONNX and Triton answer to an image alone."""
    cut: list[tuple[torch.Tensor, int]] = []
    read = Predictor.read

    def reading(self: Predictor, inputs: list[torch.Tensor], levels: list[int], tilts: list[float]) -> np.ndarray:
        cut.extend(zip(inputs, levels, strict=True))
        return read(self, inputs, levels, tilts)

    monkeypatch.setattr(Predictor, "read", reading)
    assert reconstruct(sample, "--levels=T5,T10,L1") == 0
    # T5, T10 and L1; their neighbours are read too.
    levels, by_level = [12, 17, 20], {level: item for item, level in cut}
    inputs = [by_level[level] for level in levels]
    predictor = Predictor(device="cpu")
    for guessed, told in zip(predictor(inputs), predictor(inputs, levels), strict=True):
        ours, theirs = guessed > 0.5, told > 0.5
        assert 10_000 < theirs.sum() < 60_000
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.8


def test_half_precision_moves_the_surface_a_little(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One vertebra only: where the processor has no bfloat16, each of those that are read takes seconds.
    marks = read_annotations(sample / "annotations.json")
    few = [replace(v, marks=tuple(m for m in v.marks if m.level == 16)) for v in (marks.ap, marks.lat)]
    write_annotations(sample / "annotations.json", replace(marks, ap=few[0], lat=few[1]))
    masks = []
    for name in ("float32", "bfloat16"):
        assert reconstruct(sample, "--levels=T9", f"--precision={name}") == 0
        result = sample.parent / "result"
        assert json.loads((result / "report.json").read_text())["precision"] == name
        masks.append(read_nifti(result / "spine.nii.gz")[0] > 0)
        shutil.rmtree(result)
    assert masks[0].sum() > 10_000 and 0 < (masks[0] != masks[1]).sum() < 0.04 * masks[0].sum()
    capsys.readouterr()
    assert reconstruct(sample, "--levels=T9", "--precision=int4") == 1
    assert "precision is one of auto, float32, bfloat16, not 'int4'" in capsys.readouterr().err


def test_misspelt_and_missing_options_stop_before_any_work(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(sample, "--levles=L1") == 1
    assert "no option --levles" in capsys.readouterr().err and not (sample.parent / "result").exists()
    assert main(["reconstruct", "--ap=x"]) == 1
    assert "needs --lat, --output" in capsys.readouterr().err


def test_command_line_from_a_shell(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "scripts", "reconstruct", "--ap", "x", "--lat", "y", "--annotations", "z",
         "--output", str(tmp_path / "o")], cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1 and "Traceback" not in run.stderr and len(run.stderr.strip().splitlines()) == 1
    run = subprocess.run([sys.executable, "-m", "scripts", "--", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "reconstruct" in run.stdout + run.stderr


def test_a_batch_that_does_not_fit_is_made_smaller() -> None:
    """A GPU with room for two at a time gives the same answers in the same order; one without any says so."""
    predictor = Predictor(device="cpu", batch_size=8)
    inputs = [torch.full((4, 120, 120), float(n)) for n in range(5)]
    predictor.normalise = lambda data: data  # type: ignore[assignment]
    predictor.batch_size, room, seen = 8, 2, []

    class Small(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if len(image) > room:
                raise torch.OutOfMemoryError
            seen.append(len(image))
            return image[:, :1, :2, :2, None].expand(-1, -1, -1, -1, 2)

    predictor.network = Small()
    found = [float(torch.tensor(mask.flat[0]).logit()) for mask in predictor(inputs)]
    assert found == pytest.approx([0, 1, 2, 3, 4], abs=1e-3) and seen == [2, 2, 1]
    room = 0
    with pytest.raises(UserError, match="not enough free memory"):
        list(predictor(inputs))
