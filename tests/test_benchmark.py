"""The benchmark: statistics against hand-made cases, disturbances against geometry, a matrix that fails and goes on."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.__main__ import main
from scripts.benchmarks.paper import matrix
from scripts.benchmarks.paper.comparison import half_interval, holm, paired_p, read_scores
from scripts.benchmarks.paper.disturbances import CURVES, Disturbance, disturb, write_tilted_films
from scripts.benchmarks.paper.job import train_and_score, training_options
from scripts.benchmarks.paper.models import MODELS, PRINTED_SECONDS, REFERENCE, chosen
from scripts.benchmarks.paper.overrides import check_overrides
from scripts.benchmarks.paper.plan import Plan, run_folder, write_plan
from scripts.benchmarks.paper.report import write_report
from scripts.benchmarks.paper.run import run_benchmark
from scripts.benchmarks.paper.scoring import Reconstructor, score
from scripts.benchmarks.paper.speed import speed_table
from scripts.benchmarks.paper.tables import timing_table
from scripts.data.building import dataset_digest
from scripts.data.datalist import read_datalist
from scripts.data.prepare import SplitOptions, prepare_dataset
from scripts.data.vertebrae import PrepareOptions
from scripts.errors import UserError
from scripts.geometry.cropping import CUBE_SIZE
from scripts.io.nifti import read_nifti
from scripts.reconstruction.metrics.table import MetricsRow, read_metrics_csv, write_metrics_csv
from tests.conftest import ROOT, SimulatedCase

HALF = ("configs/half_resolution.json", "configs/small_network.json", "configs/recipes/transfer.json")


def rows(dice: dict[str, list[float]], status: str = "ok") -> list[MetricsRow]:
    levels = ("L1", "L2", "L3")
    return [
        MetricsRow(subject, "s", levels[i], value, 5 - value, 2.0, value, value, 0.0, 0.1, status)
        for subject, values in dice.items()
        for i, value in enumerate(values)
    ]


def written(folder: Path, table: list[MetricsRow]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_metrics_csv(table, folder / "metrics.csv")
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulatedCase]:
    """Two crude patients, one to train on and one to test on."""
    from tests.conftest import simulate_case

    folder = tmp_path_factory.mktemp("benchmark")
    for name, shift in (("patient1", 0.0), ("patient2", 3.0)):
        case = simulate_case(folder / "source", name, shift=shift)
    split = SplitOptions(test=("patient2",), training=("patient1",))
    prepare_dataset(folder / "source", folder / "dataset", PrepareOptions(), split)
    return folder, case


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1 and never falling: 0.03, 0.06, 0.06."""
    assert holm([0.03, None, 0.01, 0.04]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_pairs_are_patients_where_there_are_six(tmp_path: Path) -> None:
    """Six patients, all better by different amounts: p = 2 / 2^6, whatever their number of vertebrae."""
    base = {f"p{i}": [0.5, 0.6, 0.7][: 1 + i % 3] for i in range(6)}
    better = {name: [v + 0.01 * (i + 1) for v in values] for i, (name, values) in enumerate(base.items())}
    a = read_scores({0: written(tmp_path / "a", rows(better))})
    b = read_scores({0: written(tmp_path / "b", rows(base))})
    p, unit = paired_p(a, b, "dice")
    assert unit == "patients" and p == pytest.approx(2 / 64)
    assert paired_p(b, b, "dice") == (None, "patients")
    few = {name: values for name, values in base.items() if name in ("p0", "p1")}
    c = read_scores({0: written(tmp_path / "c", rows(few))})
    assert paired_p(c, c, "dice") == (None, "vertebrae")
    with pytest.raises(UserError, match="different vertebrae"):
        paired_p(a, c, "dice")


def test_seeds_are_averaged_vertebra_by_vertebra_and_failures_stay(tmp_path: Path) -> None:
    first = written(tmp_path / "0", rows({"p": [0.2, 0.8], "q": [0.5]}))
    second = written(tmp_path / "1", rows({"p": [0.4, 0.8], "q": [0.7]}, status="empty"))
    scores = read_scores({0: first, 1: second})
    assert scores.bad == 3
    assert [row.dice for row in scores.rows] == pytest.approx([0.3, 0.8, 0.6])
    assert {row.status for row in scores.rows} == {"empty"}
    # Means of the seeds: 0.5 and 0.6333.
    assert scores.spread["dice"] == pytest.approx(np.std([0.5, 1.9 / 3], ddof=1))
    assert half_interval(scores.summary["all"], "dice") == pytest.approx(0.025, abs=1e-4)


def test_what_could_not_be_read_took_no_time(tmp_path: Path) -> None:
    """The mean is that of the others, also where only one seed could not read it; the note counts the rest."""
    good = [replace(row, seconds=0.2) for row in rows({"p": [0.5, 0.5], "q": [0.5]})]
    failed = replace(good[1], seconds=0.0, status="failed: truncated")
    late = replace(good[2], seconds=0.0, status="failed: gone")
    seeds = {0: [good[0], failed, good[2]], 1: [good[0], failed, late]}
    scores = read_scores({seed: written(tmp_path / str(seed), table) for seed, table in seeds.items()})
    table = timing_table(scores, "a machine")
    ours = {row[0]: row[1] for row in table.rows}
    assert ours["L1"] == ours["mean"] == "0.2000" and ours["L2"] == "-" and ours["whole spine"].startswith("5.2000 ")
    assert table.notes[-1].endswith("left out: 1.")
    assert len(timing_table(read_scores({0: written(tmp_path / "good", good)}), "a machine").notes) == 1


def test_centroid_error_moves_the_vertebra_and_leaves_the_marks() -> None:
    """What is seen and what is asked for move together: projections of the truth stay those of the patches."""
    truth = np.zeros((40, 40, 40), bool)
    truth[15:22, 18:30, 10:17] = True
    image = torch.rand(4, 40, 40)
    image[0], image[2] = (torch.from_numpy(truth.any(axis).astype(np.float32)) for axis in (1, 2))
    moved, moved_truth = disturb(image, truth, Disturbance("centroid", 5.0), (3,))
    assert moved_truth.sum() == truth.sum()
    shift = np.argwhere(moved_truth).mean(0) - np.argwhere(truth).mean(0)
    assert np.linalg.norm(shift) == pytest.approx(5.0, abs=1.0)
    assert np.array_equal(moved[0].numpy() > 0, moved_truth.any(1))
    assert np.array_equal(moved[2].numpy() > 0, moved_truth.any(2))
    assert torch.equal(moved[[1, 3]], image[[1, 3]])


def test_noise_has_the_amount_it_says() -> None:
    image = torch.linspace(0, 10, 4 * 100 * 100).reshape(4, 100, 100)
    noisy, _ = disturb(image, np.zeros(1, bool), Disturbance("noise", 0.1), (1,))
    span = float(image[0].max() - image[0].min()) * 0.99
    assert float((noisy - image)[0].std()) == pytest.approx(0.1 * span, rel=0.03)
    assert torch.equal(noisy[[1, 3]], image[[1, 3]])


def test_tilted_by_nothing_is_the_prepared_image(dataset: tuple[Path, SimulatedCase], tmp_path: Path) -> None:
    """Ten degrees change the lateral patch and leave the frontal one."""
    folder, _ = dataset
    items = read_datalist(folder / "dataset", "test")
    images = {}
    for angle in (0.0, 10.0):
        write_tilted_films(str(folder / "source"), folder / "dataset", items, angle, tmp_path / str(angle))
        path = tmp_path / str(angle) / items[0]["case"] / f"{items[0]['level']}_xray.nii.gz"
        images[angle] = np.nan_to_num(read_nifti(path)[0][:, :, 0])
    # Beyond the film there are no values.
    prepared = np.nan_to_num(read_nifti(folder / "dataset" / items[0]["image"])[0][:, :, 0])
    assert np.abs(images[0.0] - prepared).max() < 1e-3 * prepared.max()
    change = np.abs(images[10.0] - prepared).mean((0, 1))
    assert change[2] > 20 * change[0]
    with pytest.raises(UserError, match="has no case"):
        other = [{**items[0], "case": "other"}]
        write_tilted_films(str(folder / "source"), folder / "dataset", other, 1.0, tmp_path / "x")


class Box(torch.nn.Module):
    """Whatever it is shown, a box where the simulated bodies lie."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        size = image.shape[-1]
        logits = torch.full((1, 1, size, size, size), -1.0)
        low, high = size * 2 // 5, size * 3 // 5
        logits[:, :, low:high, size // 4 : size // 2, size // 3 : size * 2 // 3] = 1.0
        return logits


@pytest.mark.parametrize("overlays", [(), HALF])
def test_every_resolution_is_scored_on_the_full_grid(
    dataset: tuple[Path, SimulatedCase], tmp_path: Path, overlays: tuple[str, ...]
) -> None:
    """The same box seen at 60 and at 120 has the same distances in mm; an unreadable image is a row."""
    folder, _ = dataset
    parser = Plan(str(folder / "dataset"), overlays).parser(MODELS[REFERENCE])
    reconstruct = Reconstructor(Box(), parser, torch.device("cpu"))
    items = read_datalist(folder / "dataset", "test")
    items[1] = {**items[1], "image": "gone.nii.gz"}
    score(reconstruct, folder / "dataset", items, tmp_path)
    table = read_metrics_csv(tmp_path / "metrics.csv")
    assert [row.status.split(":")[0] for row in table] == ["ok", "failed", "ok"]
    assert table[1].dice == 0 and table[1].hd95_mm == pytest.approx(CUBE_SIZE * 3**0.5)
    box = np.zeros((CUBE_SIZE,) * 3, bool)
    box[48:72, 30:60, 40:80] = True
    truth = read_nifti(folder / "dataset" / items[0]["label"])[0] > 0
    assert table[0].dice == pytest.approx(2 * (box & truth).sum() / (box.sum() + truth.sum()), abs=0.02)
    with (tmp_path / "clinical.csv").open(newline="") as stream:
        clinical = list(csv.DictReader(stream))
    # The simulated bodies are 19 voxels of 2 mm wide, the box has no arch and the second vertebra no image.
    assert [float(row["width_mm:true"]) for row in clinical] == pytest.approx([38.0] * 3, abs=0.5)
    assert {row["canal_depth_mm:found"] for row in clinical} == {"nan"} == {clinical[1]["width_mm:found"]}


def test_half_resolution_sees_what_its_training_sees(dataset: tuple[Path, SimulatedCase]) -> None:
    """The benchmark prepares an image as the config's own transforms do."""
    from monai.transforms import Compose

    folder, _ = dataset
    item = read_datalist(folder / "dataset", "test")[0]
    patches = torch.from_numpy(
        np.ascontiguousarray(read_nifti(folder / "dataset" / item["image"])[0][:, :, 0].transpose(2, 0, 1))
    )
    for overlays in ((), HALF):
        parser = Plan(str(folder / "dataset"), overlays).parser(MODELS[REFERENCE])
        transforms = parser.get_parsed_content("load_transforms") + parser.get_parsed_content("normalise_transforms")
        files = {key: str(folder / "dataset" / item[key]) for key in ("image", "label")}
        expected = Compose(transforms)(files)["image"]
        found = Reconstructor(Box(), parser, torch.device("cpu")).prepare(patches.float())
        assert torch.allclose(found[0], torch.as_tensor(expected), atol=1e-5)


def test_a_failing_model_stops_nothing_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs are stood in for; each GPU gets its share, and the next call tries only what failed."""
    plan = Plan("dataset")
    write_plan(tmp_path / "out", plan)
    started: list[tuple[str, str]] = []
    broken = {"unet"}

    def run(command: list[str], env: dict[str, str], stdout: object, **_: object) -> object:
        name, seed = command[command.index("--model") + 1], command[command.index("--seed") + 1]
        started.append((name, env["CUDA_VISIBLE_DEVICES"]))
        if name in broken:
            stdout.write("Traceback\nRuntimeError: out of memory\n\rtraining:   0%|          | 0/3\n")  # type: ignore[attr-defined]
        else:
            folder = run_folder(tmp_path / "out", name, int(seed))
            for part in ("plain", *(d.name for d in CURVES)):
                written(folder / part, rows({f"p{i}": [0.1 * i + 0.05] for i in range(7)}))
            (folder / "plain" / "clinical.csv").touch()
        return type("Run", (), {"returncode": int(name in broken)})()

    monkeypatch.setattr(matrix.subprocess, "run", run)
    models = chosen(["unet", "bx2s", REFERENCE])
    failed = matrix.run_matrix(tmp_path / "out", models, [0, 1], ["0", "3"])
    assert failed == {f"unet, seed {s}": "exit status 1: RuntimeError: out of memory" for s in (0, 1)}
    assert len(started) == 6 and {gpu for _, gpu in started} <= {"0", "3"}
    started.clear()
    broken.clear()
    assert not matrix.run_matrix(tmp_path / "out", models, [0, 1], ["0"])
    assert [name for name, _ in started] == ["unet", "unet"]


def test_report_shows_failures_and_marks_the_paper_s_numbers(
    dataset: tuple[Path, SimulatedCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = dataset
    plan = Plan(str(folder / "dataset"), HALF)
    write_plan(tmp_path / "out", plan)
    facts = {"parameters": 1e6, "gflop": 2.0, "inference_memory_mib": 3, "device": "cpu", "patch_size": 60}
    monkeypatch.setattr("scripts.benchmarks.paper.report.measure_costs", lambda *_: facts)
    written(tmp_path / "out" / "average", rows({f"p{i}": [0.1, 0.1] for i in range(7)}))
    for name, offset in ((REFERENCE, 0.3), ("bx2s", 0.1)):
        table = rows({f"p{i}": [0.02 * i + offset, offset] for i in range(7)})
        written(run_folder(tmp_path / "out", name, 0) / "plain", table)
    written(run_folder(tmp_path / "out", REFERENCE, 0) / "noise_0.1", rows({f"p{i}": [0.2, 0.1] for i in range(7)}))
    run_folder(tmp_path / "out", "unet", 0).mkdir(parents=True)
    (run_folder(tmp_path / "out", "unet", 0) / "failed.txt").write_text("exit status 1: out of memory\n")
    models = chosen(["bx2s", "unet", "without_dice", REFERENCE])
    text = write_report(tmp_path / "out", plan, models, [0], "COMMAND").read_text()
    assert "failed: exit status 1: out of memory" in text and "not run" in text
    # Seven patients, the same sign: p = 2 / 2^7 of one rival.
    line = next(line for line in text.splitlines() if line.startswith("| BX2S-Net | 0.130"))
    assert "(p 0.016)" in line and "0.7558 / 6.2984 / 0.6345" in line
    assert "paper, VerSe-full" in text and "0.0756" in text
    report = tmp_path / "out" / "report"
    assert {"table2.csv", "table3.tex", "table4.md", "costs.csv", "figure8.png", "curves.png"} <= {
        path.name for path in report.iterdir()
    }
    latex = (report / "table2.tex").read_text()
    assert r"$\pm$" in latex and "±" not in latex
    body = latex[latex.index("ReVerteR (this") :].splitlines()[0]
    assert body.count("&") == latex[latex.index("model &") :].splitlines()[0].count("&")
    written(run_folder(tmp_path / "out", "unet", 0) / "plain", rows({f"q{i}": [0.1, 0.1] for i in range(7)}))
    with pytest.raises(UserError, match="average vertebra and unet were scored on different vertebrae"):
        write_report(tmp_path / "out", plan, models, [0], "COMMAND")


def test_a_dataset_without_validation_list_trains(dataset: tuple[Path, SimulatedCase], tmp_path: Path) -> None:
    """With a seed of its own and no validation, whatever the settings say."""
    folder, _ = dataset
    assert json.loads((folder / "dataset" / "dataset.json").read_text())["validation"] == []
    plan = Plan(str(folder / "dataset"), HALF, {"max_epochs": 1, "val_interval": 1, "seed": 7})
    parser = plan.parser(MODELS[REFERENCE])
    parser.update(training_options(plan, 3, tmp_path))
    assert len(parser.get_parsed_content("train#dataset")) > 0
    parser.get_parsed_content("train#trainer")
    assert [parser[key] for key in ("max_epochs", "val_interval", "seed")] == [1, 10**9, 3]


def test_a_job_notes_what_stopped_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error and not the one that MONAI makes of it, nor the progress bar that ends the output."""
    monkeypatch.setattr("scripts.benchmarks.paper.job.check_content", lambda *_: None)
    write_plan(tmp_path / "out", Plan("dataset"))

    def stop(error: Exception) -> None:
        def bundle(**_: object) -> None:
            try:
                raise error
            except Exception as first:
                raise RuntimeError("Failed to evaluate ConfigExpression") from first

        monkeypatch.setattr("scripts.benchmarks.paper.job.run_bundle", bundle)

    def run(command: list[str], stdout: object, **_: object) -> object:
        stdout.write("training:   0%|          | 0/3 [00:03<?, ?batch/s]\n")  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="Failed to evaluate"):
            train_and_score(tmp_path / "out", "unet", 0)
        return type("Run", (), {"returncode": 1})()

    monkeypatch.setattr(matrix.subprocess, "run", run)
    for error, line in (
        (ValueError("Expected more\n than 1"), "ValueError: Expected more than 1"),
        (UserError("dataset.json: item 3 has no file"), "dataset.json: item 3 has no file"),
    ):
        stop(error)
        assert matrix.run_matrix(tmp_path / "out", chosen(["unet"]), [0], []) == {"unet, seed 0": line}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"seed": 7}, "'seed' cannot be set here: give --seeds"),
        ({"resume": False}, "'resume' cannot be set here"),
        ({"validate#dataset#data#data_list": "test"}, "cannot be set here: a benchmark does not validate"),
        ({"learning_rat": 5}, "no config of the benchmark has 'learning_rat'; did you mean 'learning_rate'?"),
        ({"loss_weights#dise": 1}, "did you mean 'loss_weights#dice'?"),
        ({"logging_file": "x"}, "no config of the benchmark has 'logging_file'"),
        ({"": 1}, "no config of the benchmark has ''"),
        # One model's own, another model's name for it; what an object takes it says itself.
        ({"x2ct_widths#0": 8}, "the config of unet has no place for 'x2ct_widths#0'"),
        ({"norm": "batch", "optimizer#weight_decay": 0.1, "train#handlers#3#_disabled_": True}, ""),
    ],
)
def test_overrides_that_change_nothing_are_refused(
    dataset: tuple[Path, SimulatedCase], tmp_path: Path, overrides: dict[str, object], words: str
) -> None:
    folder, _ = dataset
    models = chosen(["unet"])

    def start() -> None:
        run_benchmark(tmp_path / "out", str(folder / "dataset"), models, [0], ["report"], HALF, overrides)

    if words:
        with pytest.raises(UserError, match=re.escape(words)):
            start()
    else:
        check_overrides(Plan("dataset", HALF, overrides))
    assert not (tmp_path / "out").exists()


def test_a_report_alone_has_all_finished_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is told which; a training without seeds is that of seed 0."""
    write_plan(tmp_path, Plan("dataset"))
    for model, seed in (("unet", 2), ("unet", 0), ("bx2s", 1)):
        written(run_folder(tmp_path, model, seed) / "plain", rows({"p": [0.5]}))
    seen: list[list[int]] = []
    monkeypatch.setattr("scripts.benchmarks.paper.run.check_content", lambda *_: None)
    monkeypatch.setattr("scripts.benchmarks.paper.run.write_report", lambda *a: seen.append([*a[3]]))
    monkeypatch.setattr("scripts.benchmarks.paper.run.run_matrix", lambda *_: {})
    words = ["benchmark", "--output", str(tmp_path), "--models", "unet,bx2s", "--steps"]
    for more in (["report"], ["report", "--seeds", "2"], ["matrix,report"], ["report", "--models", "x2ct"]):
        assert main([*words, *more]) == 0
    assert seen == [[0, 1, 2], [2], [0], [0]]


def test_another_plan_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path / "out", Plan("a"))
    write_plan(tmp_path / "out", Plan("a"))
    with pytest.raises(UserError, match="other dataset"):
        write_plan(tmp_path / "out", Plan("b"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match="no benchmark"):
        write_plan(tmp_path / "other", Plan("a"))


def test_a_dataset_prepared_anew_at_its_place_is_refused(tmp_path: Path) -> None:
    """By the lists or by what a case was made from, whatever step is asked for."""
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "cases" / "p").mkdir(parents=True)
    item = {"subject": "p", "label": "cases/p/L1_mask.nii.gz"}

    def prepare(stamp: str, *items: dict) -> None:
        (data / "cases" / "p" / "built_from.txt").write_text(stamp)
        (data / "dataset.json").write_text(json.dumps({"training": [item, *items], "test": [item]}))

    def report(dataset: str) -> None:
        run_benchmark(out, dataset, chosen(["unet"]), [0], ["report"])

    prepare("a")
    write_plan(out, Plan(str(data), content=dataset_digest(data)))
    for stamp, *items in (("b",), ("a", item)):
        prepare(stamp, *items)
        for dataset in (str(data), ""):
            with pytest.raises(UserError, match=r"out: .*data was prepared anew since it was started; choose another"):
                report(dataset)
        with pytest.raises(UserError, match="prepared anew"):
            train_and_score(out, "unet", 0)
    (out / "benchmark.json").write_text(json.dumps({"dataset": str(data), "overlays": []}))
    with pytest.raises(UserError, match="older version"):
        report(str(data))
    assert [path.name for path in out.iterdir()] == ["benchmark.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "nonsense"], "unknown model 'nonsense'"),
        (["--steps", "dance"], "unknown step 'dance'"),
        (["--seeds", "x"], "takes a whole number"),
        (["--dataset", "nowhere"], "no such file"),
        ([], "needs --dataset"),
        (["--overrides", "3"], "dictionary"),
    ],
)
def test_bad_arguments_get_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "--output", str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_overrides_are_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr("scripts.benchmarks.paper.run.run_benchmark", lambda *a, **k: seen.update(k) or (None, {}))
    words = '{"amp": false, "lr_scheduler": {"_target_": "X", "gamma": 0.1}, "deep": [true, null, "a"], "n": 3}'
    assert main(["benchmark", "--output", str(tmp_path / "out"), "--dataset", "d", "--overrides", words]) == 0
    assert seen["overrides"] == json.loads(words)


def test_what_is_timed_with_random_weights_is_named(dataset: tuple[Path, SimulatedCase], tmp_path: Path) -> None:
    """The bundle's weights do not fit the paper's network, and do fit the shipped one."""
    folder, _ = dataset
    for overlays, named in (((*HALF,), True), (("configs/level.json",), False)):
        plan = Plan(str(folder / "dataset"), overlays)
        notes = speed_table(tmp_path, plan, [MODELS[REFERENCE]], 0, "a machine", runtimes=()).notes
        assert any("random weights" in note and MODELS[REFERENCE].title in note for note in notes) is named


def test_models_are_the_paper_s_and_have_their_files() -> None:
    assert len([m for m in MODELS.values() if m.printed]) == 8 + 5 + 1
    assert all((ROOT / m.config).is_file() for m in MODELS.values() if m.config)
    names = {path.stem for kind in ("baselines", "ablations") for path in (ROOT / "configs" / kind).glob("*.json")}
    assert names == set(MODELS) - {REFERENCE}
    assert len(PRINTED_SECONDS) == 26 and sum(PRINTED_SECONDS.values()) == pytest.approx(2.0474, abs=0.01)
    for path in (ROOT / "configs/baselines").glob("*.json"):
        assert json.loads(path.read_text())["original_inputs"] is False


@pytest.mark.parametrize(
    "runtime", ["PyTorch bfloat16", "TorchScript", "ONNX Runtime", "ONNX Runtime int8", "OpenVINO int8"]
)
def test_every_runtime_computes_the_same_network(runtime: str, tmp_path: Path) -> None:
    """Within what its precision allows, on a small generator; int8's ranges come from the same inputs."""
    if runtime.startswith("OpenVINO"):
        pytest.importorskip("openvino")
    from scripts.benchmarks.paper.speed import RUNTIMES, Subject
    from scripts.reconstruction.networks.fusion import CentroidFusion
    from scripts.reconstruction.networks.generator import Generator
    from scripts.reconstruction.networks.lifting import ReplicateLift
    from scripts.reconstruction.networks.resunet import ResUNet

    torch.manual_seed(0)
    network = Generator(CentroidFusion(key_stride=2), ReplicateLift(), ResUNet(4, 1, (4, 8, 8), (2, 2))).eval()
    inputs = [torch.rand(1, 4, 24, 24) for _ in range(2)]
    subject = Subject(network, inputs, [], tmp_path)
    with torch.inference_mode():
        expected = network(inputs[0])
        found = RUNTIMES[runtime](subject)(inputs[0]).float()
    exact = runtime in ("TorchScript", "ONNX Runtime")
    error = (found - expected).abs()
    assert error.max() < 1e-4 if exact else error.mean() < 0.2 * expected.std()
    assert exact or not torch.equal(found, expected)
