"""Every bundle command as docs/README.md writes it, from the bundle's root and from elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks import trt_compiler
from monai.transforms import Compose

from scripts.learning.loading import weights_sha256
from scripts.reconstruction.metrics.table import read_metrics_csv
from tests.bundle_command import SMALL, TINY, bundle, config, documented, fill, options, python, tiny
from tests.conftest import ROOT

SCHEMA = ROOT / "scripts" / "release" / "meta_schema_20240725.json"


def inference_overlays() -> list[str]:
    """Overlays that give training the network of inference.json; none if it is train.json's own."""
    wanted = config("inference.json")["network_def"]
    if config("train.json")["network_def"] == wanted:
        return []
    for path in sorted((ROOT / "configs").rglob("*.json")):
        name = path.relative_to(ROOT / "configs").as_posix()
        if name != "inference.json" and config(name).get("network_def") == wanted:
            return [name]
    raise AssertionError("no config trains the network of inference.json")


def with_overlays(arguments: list[str], prefix: str = "configs/") -> list[str]:
    """The documented configs, and the overlays of inference.json's network after train.json."""
    train, *more = f"'{prefix}train.json'", *(f"'{prefix}{name}'" for name in inference_overlays())
    if any(overlay in argument for overlay in more for argument in arguments):
        return arguments
    single = [f"[{','.join([train, *more])}]" if a == f"{prefix}train.json" else a for a in arguments]
    return [a.replace(f"[{train}", f"[{','.join([train, *more])}") if a.startswith("['") else a for a in single]


TINY_INFERENCE = [*options(tiny(config("inference.json")["network_def"])), *SMALL]
DISCRIMINATOR = [
    word for pair in zip(TINY[::2], TINY[1::2], strict=True) if "discriminator" in pair[0] for word in pair
]


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of adversarial training in the bundle's root."""
    output = tmp_path_factory.mktemp("trained")
    command = with_overlays(fill(documented("run", "training"), DATASET=dataset))
    bundle(
        *command, *TINY_INFERENCE, *DISCRIMINATOR, "--output_dir", str(output), "--max_epochs", "2",
        "--learning_rate", "0.01", "--loss_weights#adversarial", "0.1",
    )  # fmt: skip
    return output


def check_masks(folder: Path, dataset: Path) -> None:
    """One mask a vertebra of the test list, where its label is."""
    items = json.loads((dataset / "dataset.json").read_text())["test"]
    assert [item["level"] for item in items] == ["L1", "L2"]
    for item in items:
        (path,) = folder.rglob(f"{item['level']}_xray_pred.nii.gz")
        truth, prediction = nib.load(dataset / item["label"]), nib.load(path)
        assert prediction.shape == truth.shape and np.allclose(prediction.affine, truth.affine)


def check_evaluation(folder: Path) -> None:
    assert [row.level for row in read_metrics_csv(folder / "metrics.csv")] == ["L1", "L2"]
    assert json.loads((folder / "summary.json").read_text())["all"]["n_subjects"] == 1


def test_metadata_is_valid(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copy(SCHEMA, schema)
    command = fill(documented("verify_metadata"), **{"eval/schema.json": schema})
    bundle(*command)
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({**config("metadata.json"), "task": 3}))
    bundle(*fill(command, **{"configs/metadata.json": metadata}), ok=False)


def test_network_takes_and_gives_what_the_metadata_says(tmp_path: Path) -> None:
    command = documented("verify_net_in_out")
    bundle(*command)
    elsewhere = fill(command, **{"configs/": f"{ROOT}/configs/"})
    bundle(*elsewhere, cwd=tmp_path, path=str(ROOT))
    assert "scripts" in bundle(*elsewhere, cwd=tmp_path, ok=False)  # as documented: not without PYTHONPATH


def test_export_reproduces_the_shipped_torchscript(tmp_path: Path) -> None:
    """ckpt_export of model.pt, from elsewhere, gives the network in models/model.ts."""
    target = tmp_path / "model.ts"
    places = {"models/model.ts": target, "models/model.pt": ROOT / "models/model.pt", "configs/": f"{ROOT}/configs/"}
    bundle(*fill(documented("ckpt_export", "network_def"), **places), cwd=tmp_path, path=str(ROOT))
    image = torch.rand(1, 4, 120, 120)
    with torch.inference_mode():
        exported, shipped = (torch.jit.load(str(p)).eval()(image) for p in (target, ROOT / "models" / "model.ts"))
    assert torch.allclose(exported, shipped, atol=1e-4)


def test_onnx_export_gives_the_network(trained: Path, tmp_path: Path) -> None:
    import onnxruntime

    target = tmp_path / "model.onnx"
    weights = trained / "model.pt"
    places = {"models/model.onnx": target, "models/model.pt": weights}
    network_options = options(tiny(config("inference.json")["network_def"]))
    bundle(*fill(documented("onnx_export", "network_def"), **places), "--key_in_ckpt", "model", *network_options)
    parser = ConfigParser(config("inference.json"))
    parser.update(tiny(config("inference.json")["network_def"]))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights, weights_only=True)["model"])
    image = torch.rand(1, 4, 120, 120)
    session = onnxruntime.InferenceSession(target)
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.inference_mode():
        assert np.allclose(found, network.eval()(image), atol=1e-3)


def properties(dataset: Path, output: Path, kind: str, files: list[Path], ok: bool = True) -> str:
    """What `ConfigWorkflow.check_properties` misses, as MONAI's own tools call it, and which optional ones are absent.

    A required property that is absent ends the check with an error that names it.
    """
    options = {
        "bundle_root": str(ROOT), "dataset_dir": str(dataset), "output_dir": str(output), "num_workers": 0,
        "logging_file": None,
    }  # fmt: skip
    return python(
        "from monai.bundle import ConfigWorkflow\n"
        f"workflow = ConfigWorkflow({[str(file) for file in files]}, workflow_type={kind!r}, "
        f"meta_file={str(ROOT / 'configs' / 'metadata.json')!r}, **{options})\n"
        "workflow.initialize()\nprint('missing:', workflow.check_properties())\n"
        "print('absent:', sorted(name for name in workflow.properties if getattr(workflow, name) is None))",
        ok=ok,
    )


@pytest.mark.parametrize(
    ("kind", "names", "absent"),
    [
        ("train", ("train",), []),
        ("train", ("train", "view_encoders", "dice_focal", "recipes/fast"), []),
        # These belong to the validation of train.json, which is what evaluates.
        (
            "eval",
            ("train", "evaluate"),
            ["dataset_data", "handlers", "key_metric", "postprocessing", "preprocessing"],
        ),
        ("infer", ("inference",), ["key_metric"]),
    ],
    ids=["train", "train+fast", "train+evaluate", "inference"],
)
def test_workflows_have_what_monai_asks_of_them(
    dataset: Path, tmp_path: Path, kind: str, names: tuple[str, ...], absent: list[str]
) -> None:
    files = [ROOT / "configs" / f"{name}.json" for name in names]
    said = properties(dataset, tmp_path / "out", kind, files)
    assert "missing: []" in said and f"absent: {absent}" in said


def test_a_workflow_without_a_property_is_noticed(dataset: Path, tmp_path: Path) -> None:
    """So that the test above can fail: for one that is required, one that is referred to by another name, and one that
    is optional."""
    file = tmp_path / "inference.json"
    whole = config("inference.json")
    file.write_text(json.dumps({key: value for key, value in whole.items() if key != "evaluator"}))
    assert "'evaluator'" in properties(dataset, tmp_path / "out", "infer", [file], ok=False)
    file.write_text(json.dumps({**whole, "evaluator": {**whole["evaluator"], "postprocessing": "@preprocessing"}}))
    assert "missing: ['postprocessing']" in properties(dataset, tmp_path / "out", "infer", [file])
    file.write_text(json.dumps({**whole, "handlers": None}))
    assert "absent: ['handlers', 'key_metric']" in properties(dataset, tmp_path / "out", "infer", [file])


def test_preprocessing_needs_no_code_of_ours() -> None:
    """So that model.ts alone runs in MONAI Deploy."""
    for part in ("load_transforms", "normalise_transforms", "preprocessing", "postprocessing", "inferer"):
        assert "scripts" not in json.dumps(config("inference.json")[part])


@pytest.mark.parametrize("part", [None, np.s_[20:97, 11:]], ids=["whole film", "film that ends in the patch"])
def test_training_and_inference_normalise_alike(part: tuple[slice, slice] | None) -> None:
    """And both as if what is on the film, but for three pixels beside where it ends, were all that there is."""
    patches = torch.rand(4, 120, 120, generator=torch.Generator().manual_seed(0)).cumsum(1)
    on_film = torch.ones(120, 120, dtype=torch.bool)
    judged = on_film.clone()
    if part is not None:
        on_film[:] = False
        on_film[part] = True
        judged[:] = False
        judged[23:94, 14:] = True
        patches[[0, 2]] = patches[[0, 2]].masked_fill(~on_film, torch.nan)
    parsers = {}
    for name in ("train.json", "inference.json"):
        parsers[name] = ConfigParser()
        parsers[name].read_config(str(ROOT / "configs" / name))
    keys = ("image_ap", "image_ap_mask", "image_lat", "image_lat_mask")
    item = {key: MetaTensor(patches[i : i + 1]) for i, key in enumerate(keys)}
    steps = parsers["train.json"].get_parsed_content("load_transforms")[-1:]
    steps += parsers["train.json"].get_parsed_content("normalise_transforms")
    made = Compose(steps)({**item, "label": torch.zeros(1, 2, 2, 2)})
    assert set(made) == {"image", "label"}
    trained = made["image"]
    inferred = Compose(parsers["inference.json"].get_parsed_content("normalise_transforms"))({"image": patches})[
        "image"
    ]
    for view in (0, 2):
        seen = patches[view][on_film].numpy()
        low, high = np.percentile(patches[view][judged].numpy(), [0.5, 99.5])
        expected = np.clip((seen - low) / (high - low), 0, 1)
        for found in (trained, inferred):
            assert np.allclose(found[view][on_film].numpy(), expected, atol=1e-5)
            assert (found[view][~on_film] == 0).all() and torch.equal(
                torch.as_tensor(found[view + 1]), patches[view + 1]
            )


def test_overlays_and_bundle_describe_the_same_networks() -> None:
    assert config("level.json")["network_def"] == config("inference.json")["network_def"]
    train = config("train.json")
    written = re.sub(r'"@(\w+)"', lambda found: json.dumps(train[found[1]]), json.dumps(train["network_def"]))
    assert config("paper_network.json")["network_def"] == json.loads(written)


def test_both_views_have_encoders_of_their_own() -> None:
    """Written once, made twice."""
    for name in ("inference.json", "view_encoders.json"):
        network = ConfigParser(config(name)).get_parsed_content("network_def")
        parts = [network.lift, network.reader] if hasattr(network, "reader") else [network.lift]
        for part in parts:
            ap, lat = part.ap_encoder.state_dict(), part.lat_encoder.state_dict()
            assert {k: v.shape for k, v in ap.items()} == {k: v.shape for k, v in lat.items()}
            assert not {p.data_ptr() for p in part.ap_encoder.parameters()} & {
                p.data_ptr() for p in part.lat_encoder.parameters()
            }
        assert len(parts) == 1 or network.reader.fusion is not network.fusion


def test_training_writes_weights_and_a_log(trained: Path) -> None:
    assert {"model.pt", "model_final.pt", "training.csv"} <= {p.name for p in trained.iterdir()}
    header, *rows = (trained / "training.csv").read_text().splitlines()
    assert "loss_adversarial" in header and len(rows) == 2


def test_evaluation_and_inference_of_what_was_trained(dataset: Path, trained: Path, tmp_path: Path) -> None:
    weights = ["--ckpt_path", str(trained / "model_final.pt")]
    evaluating = with_overlays(fill(documented("run", "evaluating"), DATASET=dataset))
    evaluated = tmp_path / "evaluated"
    bundle(*evaluating, *TINY_INFERENCE, *DISCRIMINATOR, "--output_dir", str(evaluated), *weights)
    check_evaluation(evaluated)
    inference = fill(documented("run", "inference", "configs/inference.json"), DATASET=dataset)
    bundle(*inference, *TINY_INFERENCE, "--output_dir", str(tmp_path / "inferred"), *weights)
    check_masks(tmp_path / "inferred", dataset)


def test_the_whole_road_from_elsewhere(dataset: Path, tmp_path: Path) -> None:
    """Training without adversarial learning, evaluation and inference, from another folder."""
    configs = f"{ROOT}/configs/"
    common = ["--bundle_root", str(ROOT), *TINY_INFERENCE]

    def run(*words: str, more: list[str]) -> None:
        command = with_overlays(fill(documented("run", *words), DATASET=dataset, **{"configs/": configs}), configs)
        bundle(*command, *common, *more, cwd=tmp_path)

    run("training", more=[*DISCRIMINATOR, "--output_dir", f"{tmp_path}/t", "--max_epochs", "1",
                          "--loss_weights#adversarial", "0"])  # fmt: skip
    header, *rows = (tmp_path / "t" / "training.csv").read_text().splitlines()
    assert "loss_adversarial" not in header and len(rows) == 1
    weights = ["--ckpt_path", f"{tmp_path}/t/model_final.pt"]
    run("evaluating", more=[*DISCRIMINATOR, "--output_dir", f"{tmp_path}/e", *weights])
    check_evaluation(tmp_path / "e")
    run("inference", "configs/inference.json", more=["--output_dir", f"{tmp_path}/i", *weights])
    check_masks(tmp_path / "i", dataset)


def test_tensorrt_overlay_does_without_a_gpu(dataset: Path, trained: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("on a GPU the overlay compiles; see docs/README.md")
    command = fill(documented("['configs/inference.json','configs/inference_trt.json']"), DATASET=dataset)
    weights = ["--ckpt_path", str(trained / "model_final.pt")]
    assert "no effect" in bundle(*command, *TINY_INFERENCE, "--output_dir", str(tmp_path), *weights)
    check_masks(tmp_path, dataset)


def test_other_weights_get_an_engine_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI goes by modification times, and those of an archive are of 1980: it took the older weights' engine."""
    monkeypatch.setattr(trt_compiler, "trt_imported", True)
    monkeypatch.setattr(trt_compiler, "polygraphy_imported", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    weights, plans = tmp_path / "model.pt", []
    for content in (b"old", b"new", b"old"):
        weights.write_bytes(content)
        os.utime(weights, (315532800, 315532800))
        weights_sha256.cache_clear()
        parser = ConfigParser()
        parser.read_config([f"{ROOT}/configs/inference.json", f"{ROOT}/configs/inference_trt.json"])
        parser.update({"ckpt_path": str(weights), "device": "cpu", "network_def": "$torch.nn.Conv2d(1, 1, 1)"})
        plans.append(Path(parser.get_parsed_content("network")._trt_compiler.plan_path))
        plans[-1].write_bytes(content)
    assert plans[0] != plans[1] and plans[0] == plans[2]
    assert plans[1].name == f"model.pt.fp16-{hashlib.sha256(b'new').hexdigest()[:16]}.plan"
    assert all(plan.is_file() for plan in plans)


def test_inference_from_torchscript_gives_the_same_masks(dataset: Path, tmp_path: Path) -> None:
    plain = fill(documented("run", "inference", "configs/inference.json"), DATASET=dataset)
    bundle(*plain, "--output_dir", str(tmp_path / "pt"))
    bundle(*fill(documented("--load_pretrain"), DATASET=dataset), "--output_dir", str(tmp_path / "ts"))
    masks = sorted((tmp_path / "pt").rglob("*.nii.gz"))
    assert len(masks) == 2
    for path in masks:
        other = tmp_path / "ts" / path.relative_to(tmp_path / "pt")
        assert (nib.load(path).get_fdata() == nib.load(other).get_fdata()).all()


def test_evaluate_verb_agrees_with_the_bundle_workflow(dataset: Path, tmp_path: Path) -> None:
    from scripts.__main__ import main

    assert main(["evaluate", f"--dataset={dataset}", f"--output={tmp_path / 'verb'}", "--network-only"]) == 0
    evaluating = with_overlays(fill(documented("run", "evaluating"), DATASET=dataset))
    bundle(*evaluating, "--output_dir", str(tmp_path / "workflow"), "--num_workers", "0", "--amp", "False")
    rows = [read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("verb", "workflow")]
    assert [row.level for row in rows[0]] == ["L1", "L2"]
    for one, other in zip(*rows, strict=True):
        assert one.level == other.level and one.status == other.status
        assert one.dice == pytest.approx(other.dice, abs=1e-3)


def test_evaluate_counts_what_it_cannot_read(dataset: Path, tmp_path: Path) -> None:
    from scripts.__main__ import main

    spoilt = tmp_path / "dataset"
    shutil.copytree(dataset, spoilt)
    item = json.loads((spoilt / "dataset.json").read_text())["test"][0]
    (spoilt / item["image"]).write_bytes(b"no nifti")
    assert main(["evaluate", f"--dataset={spoilt}", f"--output={tmp_path / 'out'}"]) == 0
    failed = read_metrics_csv(tmp_path / "out" / "metrics.csv")[0]
    assert (
        failed.status.startswith("failed") and failed.dice == 0 and failed.hd95_mm == pytest.approx(207.846, abs=0.01)
    )
    assert main(["evaluate", f"--dataset={tmp_path}", f"--output={tmp_path / 'no'}"]) == 1
    assert main(["evaluate", f"--dataset={dataset}", f"--output={tmp_path / 'no'}", "--list=none"]) == 1
    assert not (tmp_path / "no").exists()
