"""How fast every network is, through every runtime that takes it, in one run on one machine.

    python -m scripts benchmark --output BENCHMARK --steps speed

Per vertebra: the least of a few passes of one vertebra, patches normalised to logits. Per spine: 24 vertebrae, one
after the other. ``mask Dice`` is against PyTorch's float32 masks of the same vertebrae; ``Dice`` is against the truth,
where the network has been trained. Runtimes that are not installed, or do not take a network, are rows with the reason.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from scripts.benchmarks.paper.models import REFERENCE, Model
from scripts.benchmarks.paper.plan import Plan, run_folder
from scripts.benchmarks.paper.scoring import Reconstructor, read_vertebrae
from scripts.benchmarks.paper.table import Table
from scripts.data.datalist import read_datalist
from scripts.errors import UserError
from scripts.paths import BUNDLE_ROOT

Run = Callable[[torch.Tensor], torch.Tensor]
SPINE = 24
REPEATS = 3


@dataclass(frozen=True)
class Subject:
    """A network and what it is shown.

    Args:
        network: in evaluation mode, on the device.
        inputs: (1, 4, n, n) each.
        truths: (N, N, N) bool of the same vertebrae.
        folder: for exported files.
    """

    network: torch.nn.Module
    inputs: list[torch.Tensor]
    truths: list[np.ndarray]
    folder: Path

    @property
    def onnx(self) -> Path:
        """The network as ONNX, exported when first asked for."""
        path = self.folder / "network.onnx"
        if not path.is_file():
            image = self.inputs[0].cpu()
            network = self.network.cpu()
            torch.onnx.export(
                network, (image,), path, input_names=["image"], output_names=["pred"], dynamo=True, external_data=False
            )
        return path

    @property
    def int8(self) -> Path:
        """The ONNX file with 8-bit weights and activations, whose ranges come from the inputs."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        path = self.folder / "int8.onnx"
        if not path.is_file():
            inputs = [{"image": x.cpu().numpy()} for x in self.inputs]

            class Reader(CalibrationDataReader):
                def __init__(self) -> None:
                    self.items = iter(inputs)

                def get_next(self) -> dict[str, np.ndarray] | None:
                    return next(self.items, None)

            ready = self.folder / "ready.onnx"
            quant_pre_process(self.onnx, ready, skip_symbolic_shape=True)
            operations = ["Conv", "MatMul", "Gemm"]
            quantize_static(
                ready,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                # OpenVINO has no kernel for signed activations.
                activation_type=QuantType.QUInt8,
                per_channel=True,
                op_types_to_quantize=operations,
            )
        return path


def pytorch(subject: Subject) -> Run:
    """The network as it is."""
    return subject.network


def pytorch_bfloat16(subject: Subject) -> Run:
    """Products in bfloat16."""
    device = subject.inputs[0].device.type

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return subject.network(image)

    return run


def torchscript(subject: Subject) -> Run:
    """Traced and frozen."""
    traced = torch.jit.trace(subject.network, subject.inputs[0], check_trace=False)
    frozen: Run = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return frozen


def onnx_runtime(subject: Subject) -> Run:
    """Exported, on the CPU, or on the GPU where that build of it is installed."""
    return _onnx_session(subject.onnx)


def onnx_runtime_int8(subject: Subject) -> Run:
    """Quantised."""
    return _onnx_session(subject.int8)


def openvino(subject: Subject) -> Run:
    """Exported, on the CPU."""
    return _openvino(subject.onnx, "f32")


def openvino_bfloat16(subject: Subject) -> Run:
    """Exported, products in bfloat16."""
    return _openvino(subject.onnx, "bf16")


def openvino_int8(subject: Subject) -> Run:
    """Quantised."""
    return _openvino(subject.int8, "f32")


RUNTIMES: dict[str, Callable[[Subject], Run]] = {
    "PyTorch": pytorch,
    "PyTorch bfloat16": pytorch_bfloat16,
    "TorchScript": torchscript,
    "ONNX Runtime": onnx_runtime,
    "ONNX Runtime int8": onnx_runtime_int8,
    "OpenVINO": openvino,
    "OpenVINO bfloat16": openvino_bfloat16,
    "OpenVINO int8": openvino_int8,
}


def _onnx_session(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    return lambda image: torch.from_numpy(session.run(None, {"image": image.cpu().numpy()})[0])


def _openvino(path: Path, precision: str) -> Run:
    try:
        import openvino as ov
    except ImportError as error:
        raise UserError("OpenVINO is not installed") from error
    # Left alone, it computes in bfloat16 where the processor can.
    hints = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = ov.Core().compile_model(path, "CPU", hints)
    return lambda image: torch.from_numpy(compiled([image.cpu().numpy()])[0])


def speed_table(
    output: Path,
    plan: Plan,
    models: Sequence[Model],
    seed: int,
    machine: str,
    runtimes: Sequence[str] = tuple(RUNTIMES),
) -> Table:
    """Time every model in every runtime.

    Args:
        output: the benchmark's folder; trained weights are taken where there are.
        plan: of the benchmark.
        models: rows.
        seed: whose weights.
        machine: in words.
        runtimes: which.
    """
    rows, random = [], []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in tqdm(models, desc="speed", unit="network"):
        parser = plan.parser(model)
        network = parser.get_parsed_content("network_def")
        trained = _load(network, model, run_folder(output, model.name, seed) / "training" / "model_final.pt")
        random += [] if trained else [model.title]
        reconstruct = Reconstructor(network, parser, device)
        items = read_datalist(Path(plan.dataset), "test")[:8]
        vertebrae = [v for v in read_vertebrae(Path(plan.dataset), items) if v.image is not None]
        inputs = [reconstruct.prepare(v.image) for v in vertebrae if v.image is not None]
        with tempfile.TemporaryDirectory() as folder:
            subject = Subject(reconstruct.network, inputs, [v.truth for v in vertebrae], Path(folder))
            rows += _rows(model, subject, runtimes, trained)
    notes = [
        f"{machine}, one run; a spine is {SPINE} vertebrae one by one. The paper: 7.72 s per spine on an RTX 4090.",
        "'mask Dice' compares with PyTorch's masks, 'Dice' with the true masks, over the first 8 test vertebrae, which "
        "also calibrate int8.",
    ]
    if random:
        notes.append(f"Not trained, timed with random weights, whose masks mean nothing: {', '.join(random)}.")
    columns = ["model", "runtime", "ms per vertebra", "s per spine", "mask Dice", "Dice"]
    return Table("speed", "Inference speed", columns, rows, notes)


def _load(network: torch.nn.Module, model: Model, weights: Path) -> bool:
    """A run's weights; for the reference without a run the bundle's own, if they fit. Returns whether there are any."""
    shipped = BUNDLE_ROOT / "models" / "model.pt"
    if weights.is_file():
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["model"])
        return True
    if model.name != REFERENCE or not shipped.is_file():
        return False
    state = torch.load(shipped, map_location="cpu", weights_only=True)
    fits = {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in network.state_dict().items()}
    if fits:
        network.load_state_dict(state)
    return fits


def _rows(model: Model, subject: Subject, runtimes: Sequence[str], trained: bool) -> list[list[str]]:
    rows, reference = [], None
    with torch.inference_mode():
        for name in runtimes:
            subject.network.to(subject.inputs[0].device)
            try:
                run = RUNTIMES[name](subject)
                found = [_mask(run(x), truth) for x, truth in zip(subject.inputs, subject.truths, strict=True)]
                vertebra = min(_seconds(run, subject.inputs[:1]) for _ in range(REPEATS))
                spine = _seconds(run, (subject.inputs * SPINE)[:SPINE])
            except Exception as error:  # a runtime may raise anything; the row says what
                words = str(error).strip().splitlines() or [type(error).__name__]
                rows.append([model.title, name, f"failed: {words[-1][:90]}", "", "", ""])
                continue
            reference = found if name == "PyTorch" else reference
            same = "-"
            if reference and any(mask.any() for mask in reference):
                same = f"{np.mean([_dice(a, b) for a, b in zip(found, reference, strict=True)]):.4f}"
            right = np.mean([_dice(a, b) for a, b in zip(found, subject.truths, strict=True)])
            right_text = f"{right:.4f}" if trained else "-"
            rows.append([model.title, name, f"{1000 * vertebra:.1f}", f"{spine:.2f}", same, right_text])
    return rows


def _seconds(run: Run, inputs: Sequence[torch.Tensor]) -> float:
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    for image in inputs:
        run(image)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _mask(logits: torch.Tensor, like: np.ndarray) -> np.ndarray:
    logits = logits.float()
    if logits.shape[-1] != like.shape[-1]:
        logits = F.interpolate(logits, like.shape, mode="trilinear", align_corners=False)
    return (logits[0, 0] > 0).cpu().numpy()


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
