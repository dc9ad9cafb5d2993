"""Networks as TorchScript and ONNX, the same bytes from the same weights on any machine.

``python -m scripts.release.export --output models`` writes the files of every network that a config describes, and the
annotation network's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from scripts.command import run_module
from scripts.errors import UserError
from scripts.paths import BUNDLE_ROOT
from scripts.release.bundle import Bundle, NetworkFiles

# The difference of logits between a network and its export that rounding may explain.
TOLERANCE = 1e-3
# The annotation network, of which there are no inputs and outputs in the metadata: TorchScript alone.
ANNOTATION, ANNOTATION_CONFIGS = "localization", ("train_localization.json", "evaluate_localization.json")


def export_networks(bundle: Bundle, output: Path, formats: tuple[str, ...] = ("ts", "onnx")) -> list[Path]:
    """Export every network of a bundle and, to TorchScript, the annotation network, in a process of its own.

    TorchScript lists a module's constants in the order of a Python set, which the hash seed of a process decides.

    Args:
        bundle: its networks' files keep their stems: model.pt becomes model.ts and model.onnx.
        output: an existing folder.
        formats: of ``ts`` and ``onnx``.

    Raises:
        UserError: a network does not fit its weights or cannot be exported.
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "scripts.release.export", f"--output={output.resolve()}",
         f"--formats={','.join(formats)}"],
        cwd=bundle.root, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode:
        reason = (run.stderr.strip() or run.stdout.strip()).splitlines()[-1:]
        raise UserError(f"export of the networks failed: {' '.join(reason)}")
    return [output / f"{network.weights.stem}.{ending}" for network in bundle.networks() for ending in formats]


def strip_torchscript(source: Path, target: Path) -> None:
    """Copy a TorchScript archive without what differs from machine to machine: source positions and time stamps.

    Source positions hold absolute paths of the machine that exported. The weights are those of a file in half
    precision, so that deflating them halves them again; torch reads such archives too.
    """
    with (
        zipfile.ZipFile(source) as archive,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as copy,
    ):
        for name in archive.namelist():
            if name.endswith((".debug_pkl", "/.data/serialization_id")):
                continue
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            copy.writestr(entry, archive.read(name))


def strip_onnx(source: Path, target: Path) -> None:
    """Copy an ONNX model without stack traces and remarks."""
    import onnx

    model = onnx.load(source)
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    target.write_bytes(model.SerializeToString(deterministic=True))


def main(output: Path, formats: tuple[str, ...] = ("ts", "onnx")) -> None:
    """Export every network of this bundle, and the annotation network, in this process, into an existing folder."""
    bundle = Bundle(BUNDLE_ROOT)
    for network in bundle.networks():
        if "ts" in formats:
            _torchscript(
                network.weights, network.config, output,
                input_shape=network.input_shape(1), converter_kwargs={"verify": True, "atol": TOLERANCE},
            )  # fmt: skip
        if "onnx" in formats:
            _onnx(network, output)
    annotation = BUNDLE_ROOT / "models" / f"{ANNOTATION}.pt"
    if "ts" in formats and annotation.is_file():
        configs = [BUNDLE_ROOT / "configs" / name for name in ANNOTATION_CONFIGS]
        _torchscript(annotation, configs, output, key_in_ckpt="model")


def _torchscript(weights: Path, config: Path | list[Path], output: Path, **options: Any) -> None:
    from monai.bundle import ckpt_export

    with tempfile.TemporaryDirectory() as folder:
        # The archive's top folder is the file's stem, and MONAI Deploy expects it to stay so.
        raw = Path(folder) / f"{weights.stem}.ts"
        ckpt_export(filepath=str(raw), **_described(weights, config), **options)
        strip_torchscript(raw, output / raw.name)


def _onnx(network: NetworkFiles, output: Path) -> None:
    from monai.bundle import onnx_export

    (image,), (pred,) = network.data_format["inputs"], network.data_format["outputs"]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / f"{network.weights.stem}.onnx"
        # A batch of two: a dimension of one would be taken for a constant.
        onnx_export(
            filepath=str(raw),
            input_shape=network.input_shape(2),
            converter_kwargs={
                "verify": True, "use_ort": True, "atol": TOLERANCE,
                "input_names": [image], "output_names": [pred],
                "dynamic_axes": {image: {0: "batch"}, pred: {0: "batch"}},
            },
            **_described(network.weights, network.config),
        )  # fmt: skip
        strip_onnx(raw, output / raw.name)


def _described(weights: Path, config: Path | list[Path]) -> dict[str, Any]:
    return {
        "net_id": "network_def",
        "ckpt_file": str(weights),
        "meta_file": str(BUNDLE_ROOT / "configs" / "metadata.json"),
        "config_file": [str(path) for path in config] if isinstance(config, list) else str(config),
    }


if __name__ == "__main__":
    run_module(main)
