"""What is wrong with a workflow's input is one line, and nothing is written."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import monai
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle

from scripts.errors import UserError
from scripts.learning import distributed
from scripts.learning.inputs import check_own_images, check_settings, load_items
from scripts.learning.overrides import refuse_unread
from tests.conftest import ROOT

EVALUATE = "['configs/train.json','configs/evaluate.json']"


def workflow(name: str, config: str, output: Path, *options: str) -> list[str]:
    """What `python -m monai.bundle run` of a fresh interpreter says but for MONAI's log."""
    words = [sys.executable, "-m", "monai.bundle", "run", name, "--config_file", config, "--output_dir", str(output)]
    ended = subprocess.run([*words, *options], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1 and not output.exists()
    lines = [line for line in ended.stderr.splitlines() if "error: " in line or "Traceback" in line]
    assert len(ended.stderr.splitlines()) < 15, ended.stderr
    return lines


@pytest.mark.parametrize(("name", "config"), [("training", "configs/train.json"), ("evaluating", EVALUATE)])
def test_a_missing_dataset_and_an_empty_list_are_one_line(tmp_path: Path, name: str, config: str) -> None:
    (line,) = workflow(name, config, tmp_path / "out", "--dataset_dir", str(tmp_path / "none"))
    assert line == f"error: {tmp_path}/none/dataset.json: no such file; is {tmp_path}/none a prepared dataset?"
    (tmp_path / "dataset.json").write_text('{"training": [], "test": []}')
    (line,) = workflow(name, config, tmp_path / "out", "--dataset_dir", str(tmp_path))
    assert line.endswith(f"its list '{'training' if name == 'training' else 'test'}' is empty or missing")


def test_a_wrong_type_and_patients_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    (line,) = workflow("training", "configs/train.json", tmp_path / "out", "--batch_size", "many")
    assert line == "error: --batch_size is a whole number from 1 on, not 'many'"
    patients = ["--patients", str(tmp_path / "none")]
    (line,) = workflow("training", "configs/train_localization.json", tmp_path / "out", *patients)
    assert line == f"error: {tmp_path / 'none'}: no file of a patient (*.npz) in it"


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("batch_size", 8, True), ("batch_size", 0, False), ("batch_size", 1.5, False), ("batch_size", True, False),
        ("num_workers", 0, True), ("num_workers", -1, False), ("num_workers", None, False),
        ("learning_rate", 1e-4, True), ("learning_rate", 0, True),
        ("learning_rate", "1", False), ("learning_rate", float("nan"), False),
        ("init_weights", "", True), ("init_weights", __file__, True), ("init_weights", "none.pt", False),
        ("init_weights", 5, False), ("resume", "yes", False),
        ("ckpt_path", None, True), ("ckpt_path", __file__, True), ("ckpt_path", "", False),
        ("ckpt_path", "none.pt", False),
        ("device", "cpu", True), ("device", torch.device("cpu"), True), ("device", "cuda:99", False),
        ("device", "gpu", False), ("device", None, False),
        ("output_dir", "out", True), ("output_dir", 5, False), ("dataset_dir", "", False),
    ],
)  # fmt: skip
def test_settings_are_of_their_kind(name: str, value: object, good: bool) -> None:
    if good:
        check_settings(**{name: value})
    else:
        with pytest.raises(UserError, match=f"--{name} is "):
            check_settings(**{name: value})


@pytest.mark.parametrize(
    ("config", "option", "said"),
    [
        ("train", "max_epoch", "nothing in this run's configs reads it; did you mean --max_epochs?"),
        ("train", "loss_weights#adversaril", "did you mean --loss_weights#adversarial?"),
        ("train", "train::cache_rate", "nothing in this run's configs reads it"),
        ("train", "logging_fil", "did you mean --logging_file?"),
        ("train", "ckpt_path", "nothing"),
        ("train_localization", "dataset_dir", "nothing"),
    ],
)
def test_options_that_nothing_reads_are_refused(config: str, option: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^--{option}: .*{re.escape(said)}"):
        refuse_unread(str(ROOT / "configs" / f"{config}.json"), {option: 3})


@pytest.mark.parametrize(
    ("config", "options"),
    [
        # A name of one's own that another option refers to, MONAI's arguments and its entries, arguments of objects,
        # what is taken whole, and what is there.
        ("train", {"mine": {"_target_": "X"}, "mine#gamma": 1, "lr_scheduler": "@mine"}),
        ("train", {"mine": 2, "max_epochs": "$@mine * 2"}),
        (
            "train",
            {"meta_file": "m.json", "workflow_type": "train", "finalize": [], "imports": [], "_meta_#version": 1},
        ),
        ("train", {"optimizer#weight_decay": 0.1, "train#dataset#data#first": 4, "discriminator_def#act": "RELU"}),
        ("train", {"train#trainer#amp_kwargs#cache_enabled": True, "train#key_metric#other": {}}),
        ("train", {"validate#sampler": "X", "validate#dataloader#sampler": "@validate#sampler"}),
        ("train_localization", {"loss_weights#other": 1}),
        ("train", {"loss_weights#dice": 1, "train#random_transforms#0": "@noise", "resume": True}),
    ],
)
def test_options_that_something_reads_are_not_refused(config: str, options: dict) -> None:
    refuse_unread(str(ROOT / "configs" / f"{config}.json"), options)


def test_a_command_line_is_searched_for_what_nothing_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls from Python are not: a benchmark gives all its networks the same options."""
    config = tmp_path / "a.json"
    config.write_text('{"size": 1, "run": [{"_target_": "scripts.learning.inputs.check_settings"}]}')
    (tmp_path / "arguments.json").write_text(json.dumps({"config_file": str(config), "logging_file": False}))
    arguments = {"args_file": str(tmp_path / "arguments.json")}
    monkeypatch.setattr(sys, "path", [*sys.path])
    run_bundle(**arguments, siz=2)
    monkeypatch.setitem(
        sys.modules, "__main__", SimpleNamespace(__spec__=SimpleNamespace(name="monai.bundle.__main__"))
    )
    run_bundle(**arguments, size=2)
    with pytest.raises(RuntimeError) as caught:
        run_bundle(**arguments, siz=2)
    assert str(caught.value.__cause__) == "--siz: nothing in this run's configs reads it; did you mean --size?"


CLOCK = ("train", "dice_cross_entropy", "online", "minutes", "level", "recipes/gpu_minutes")
POSE = ("train", "online", "minutes", "level", "pose", "recipes/pose_cpu")
CLASSIFIER = ("train", "online", "minutes", "level", "level_classifier", "recipes/pose_cpu")
FILMS = ("train_localization", "recipes/films_minutes")


def configured(stack: tuple[str, ...], **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([ROOT / "configs" / f"{name}.json" for name in stack])
    parser.update({"output_dir": "none", "device": "cpu", **overrides})
    return parser


@pytest.mark.parametrize(
    ("stack", "option", "value", "said"),
    [
        (CLOCK, "resume", True, "--resume True has no effect in a training by the clock: begin with --init_weights"),
        (POSE, "resume", True, "by the clock"),
        (FILMS, "resume", True, "by the clock"),
        (POSE, "accumulate", 2, "--accumulate 2 has no effect in this training: take a larger --batch_size"),
        (CLASSIFIER, "accumulate", 2, "no effect"),
        (FILMS, "accumulate", 2, "no effect"),
        (FILMS[:1], "accumulate", 2, "no effect"),
        (CLASSIFIER, "amp_dtype", "$torch.float16", "--amp_dtype torch.float16 needs a gradient scaler"),
        (POSE, "amp_dtype", "$torch.float16", "gradient scaler"),
        (FILMS[:1], "amp_dtype", "$torch.float16", "gradient scaler"),
    ],
)
def test_options_that_a_training_is_without_are_refused(
    stack: tuple[str, ...], option: str, value: object, said: str
) -> None:
    assert configured(stack)["run"][0] == "@settings"
    configured(stack).get_parsed_content("settings")
    with pytest.raises(RuntimeError) as caught:
        configured(stack, **{option: value}).get_parsed_content("settings")
    assert isinstance(caught.value.__cause__, UserError) and said in str(caught.value.__cause__)


def test_a_training_by_the_clock_is_refused_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(RuntimeError) as caught:
        configured((*POSE, "multi_gpu_train")).get_parsed_content("settings")
    assert "--nproc_per_node 2 cannot train by the clock" in str(caught.value.__cause__)


def test_what_a_training_has_is_not_refused() -> None:
    configured(("train",), accumulate=4, resume=True, amp_dtype="$torch.float16").get_parsed_content("settings")
    configured(FILMS[:1], resume=True).get_parsed_content("settings")


@pytest.mark.parametrize("stack", [("train",), CLOCK, FILMS[:1], FILMS])
def test_a_training_takes_the_fastest_kernels_unless_told_otherwise(
    stack: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fixing the seed had switched cuDNN's choice of kernels off without a word."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", False)
    monkeypatch.setattr(cudnn, "deterministic", True)
    for deterministic in (False, True):
        parser = configured(stack, deterministic=deterministic)
        (parser["step"],) = [step for step in parser["run"] if "kernels" in str(step)]
        parser.get_parsed_content("step")
        assert (cudnn.benchmark, cudnn.deterministic) == (not deterministic, deterministic)
        monai.utils.set_determinism(0)
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)


@pytest.mark.parametrize(("stack", "part"), [(CLOCK, "part"), (POSE, "part"), (FILMS, "network")])
def test_what_is_trained_is_compiled(stack: tuple[str, ...], part: str) -> None:
    for compiles in (False, True):
        parser = configured(stack, compile=compiles)
        (parser["step"],) = [step for step in parser["run"] if "compile" in step]
        parser.get_parsed_content("step")
        trained = parser.get_parsed_content(part)
        assert (trained._compiled_call_impl is not None) == compiles
    assert type(trained).__name__ == {CLOCK: "LevelGenerator", POSE: "PoseReader", FILMS: "SpineLocalizer"}[stack]


def test_items_have_full_paths_and_files_that_are_there(dataset: Path, tmp_path: Path) -> None:
    items = load_items(str(dataset), "training")
    assert len(items) == 2 and all(Path(item["image"]).is_file() for item in items)
    assert load_items(str(dataset), "training", first=1) == items[:1]
    shutil.copy(dataset / "dataset.json", tmp_path)
    with pytest.raises(UserError, match="item 1 of 'training' has no file image"):
        load_items(str(tmp_path), "training")
    for wrong in ([], {"training": {"a": 1}}, {"training": "p1"}, {"training": ["p1"]}):
        (tmp_path / "dataset.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"empty or missing|no list of items"):
            load_items(str(tmp_path), "training")


def test_words_of_an_item_stay_as_they_are(dataset: Path, tmp_path: Path) -> None:
    """An empty series became the folder's name in ``metrics.csv``; so did any word that names something there."""
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    document = json.loads((folder / "dataset.json").read_text())
    words = {"subject": "cases", "series": "", "source": "dataset.json", "excluded": ""}
    document["training"] = [item | words for item in document["training"]]
    (folder / "dataset.json").write_text(json.dumps(document))
    for item, written in zip(load_items(str(folder), "training"), document["training"], strict=True):
        files = {name: str(folder / written[name]) for name in ("image", "label")}
        assert item == written | files


def test_inference_needs_no_labels(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    lists = json.loads((folder / "dataset.json").read_text())
    wanted = [str(folder / item["image"]) for item in lists["test"]]
    for item in lists["test"]:
        (folder / item.pop("label")).unlink()
    (folder / "dataset.json").write_text(json.dumps(lists))
    parser = configured(("inference",), dataset_dir=str(folder))
    assert [item["image"] for item in parser.get_parsed_content("dataset#data")] == wanted
    with pytest.raises(UserError, match="item 1 of 'test' has no file label"):
        load_items(str(folder), "test")


def test_every_item_is_looked_at_before_any_work(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    last = Path(load_items(str(folder), "training", read_images=True)[-1]["image"])
    last.write_bytes(last.read_bytes()[:1000])
    load_items(str(folder), "training")
    with pytest.raises(UserError, match=last.name):
        load_items(str(folder), "training", read_images=True)
    last.unlink()
    with pytest.raises(UserError, match=f"item 2 of 'training' has no file image: .*{last.name}"):
        load_items(str(folder), "training")
    for place in (folder / "dataset.json", folder / "dataset.json" / "out"):
        with pytest.raises(UserError, match=r"dataset\.json.*: there is a file where a folder is due"):
            check_settings(output_dir=str(place))


WEIGHTS = ("ckpt_path", "none.pt", "--ckpt_path is an existing file, not 'none.pt'")
DEVICE = ("device", "cuda:99", "--device is cpu or a device that is there")


@pytest.mark.parametrize(
    ("stack", "step", "wrong"),
    [
        (("inference",), "run::0", WEIGHTS), (("inference",), "run::0", DEVICE),
        (("train", "evaluate"), "run::0", WEIGHTS), (("train", "evaluate"), "run::0", DEVICE),
        (("train_localization", "evaluate_localization"), "run::0", WEIGHTS),
        (("train",), "settings", DEVICE), (FILMS[:1], "settings", DEVICE),
    ],
)  # fmt: skip
def test_workflows_check_their_weights_and_their_device(
    stack: tuple[str, ...], step: str, wrong: tuple[str, str, str]
) -> None:
    option, value, said = wrong
    with pytest.raises(RuntimeError) as caught:
        configured(stack, bundle_root=str(ROOT), **{option: value}).get_parsed_content(step)
    assert isinstance(caught.value.__cause__, UserError) and said in str(caught.value.__cause__)


def test_a_run_that_ends_by_an_error_of_the_user_logs_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI's `StatsHandler` logged its trace, before the line."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    make = logging.getLogRecordFactory()
    try:
        check_settings()
        for error, traced in ((UserError("no room"), False), (ValueError("ours"), True)):
            caplog.clear()
            wrapped = RuntimeError("MONAI's")
            wrapped.__cause__ = error
            logging.getLogger("handler").error(f"Exception: {error}", exc_info=wrapped)
            assert str(error) in caplog.text and ("RuntimeError: " in caplog.text) is traced
    finally:
        logging.setLogRecordFactory(make)


def test_inference_reads_every_image_before_any_work() -> None:
    dataset = ConfigParser.load_config_file(ROOT / "configs" / "inference.json")["dataset"]
    assert dataset["data"]["read_images"] is True


def test_masks_of_a_mixed_list_are_not_written_into_its_datasets(tmp_path: Path) -> None:
    """Results lie where their image does in the dataset: above it that is no folder of ours."""
    for name, good in (("cases/p/a.nii.gz", True), ("../one/a.nii.gz", False), (str(tmp_path / "one" / "a"), False)):
        folder = tmp_path / "mix"
        folder.mkdir(exist_ok=True)
        (folder / "dataset.json").write_text(json.dumps({"test": [{"image": name}]}))
        if good:
            check_own_images(str(folder), "test")
        else:
            with pytest.raises(UserError, match=r"mix/dataset.json: its list 'test' points to .*/one/a"):
                check_own_images(str(folder), "test")
    steps = json.loads((ROOT / "configs" / "inference.json").read_text())["run"]
    assert [step.get("_target_", "").split(".")[-1] for step in steps[:-1]] == ["check_settings", "check_own_images"]
