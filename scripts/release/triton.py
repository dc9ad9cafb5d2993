"""A model repository for NVIDIA Triton: the networks of a bundle behind a server that batches over callers and GPUs."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.release.bundle import Bundle, NetworkFiles

MAX_BATCH = 16
QUEUE_DELAY_US = 2000
# Triton's names of TorchScript tensors, which have none of their own: order is what counts.
TORCHSCRIPT_NAMES = ("INPUT__0", "OUTPUT__0")


def write_model_repository(bundle: Bundle, models: Path, output: Path) -> list[str]:
    """``<network>_torchscript/`` and ``<network>_onnx/``, each with ``config.pbtxt`` and version 1.

    Args:
        bundle: its networks.
        models: folder of their exports.
        output: the repository's folder.

    Returns:
        names of the models.
    """
    names = []
    for network in bundle.networks():
        (image,), (pred,) = network.data_format["inputs"], network.data_format["outputs"]
        for ending, backend, file, tensors in (
            ("ts", "pytorch", "model.pt", TORCHSCRIPT_NAMES),
            ("onnx", "onnxruntime", "model.onnx", (image, pred)),
        ):
            kind = "torchscript" if ending == "ts" else ending
            name = f"{bundle.name}_{network.weights.stem}_{kind}"
            folder = output / name
            (folder / "1").mkdir(parents=True)
            shutil.copyfile(models / f"{network.weights.stem}.{ending}", folder / "1" / file)
            (folder / "config.pbtxt").write_text(_config(name, backend, network, tensors), encoding="utf-8")
            names.append(name)
    return names


def _config(name: str, backend: str, network: NetworkFiles, tensors: tuple[str, str]) -> str:
    def tensor(title: str, tensor_name: str, shape: list[int]) -> str:
        dims = ", ".join(str(n) for n in shape)
        return f'{title} [\n  {{ name: "{tensor_name}" data_type: TYPE_FP32 dims: [ {dims} ] }}\n]\n'

    # TorchScript profiles its first runs and then compiles, which stalls the first callers of every batch size.
    quick_start = 'parameters: { key: "DISABLE_OPTIMIZED_EXECUTION" value: { string_value: "true" } }\n'
    return (
        f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: {MAX_BATCH}\n'
        + tensor("input", tensors[0], network.input_shape(1)[1:])
        + tensor("output", tensors[1], network.output_shape(1)[1:])
        + f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}\n"
        + (quick_start if backend == "pytorch" else "")
    )
