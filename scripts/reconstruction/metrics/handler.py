"""The evaluation handler: one row of metrics a vertebra."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from scripts.geometry.cropping import CUBE_SIZE
from scripts.learning.distributed import gathered, rank
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import MetricsRow, metrics_row, write_metrics_csv, write_summary_json


class VertebraMetricsHandler:
    """Writes ``metrics.csv`` and ``summary.json`` of an evaluation: a row a vertebra, and means.

    Cubes are 120 mm wide, whatever their voxels (``configs/half_resolution.json``).

    Of several processes that share the vertebrae, the first writes the rows of all, in the order of the data list.

    Args:
        output_dir: where to.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)
        self.rows: list[MetricsRow] = []
        self.started = 0.0
        self.seconds = 0.0

    def attach(self, engine: Engine) -> None:
        """Called by MONAI."""
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_STARTED, self._start_clock)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._stop_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start_clock(self, engine: Engine) -> None:
        self.started = time.perf_counter()

    def _stop_clock(self, engine: Engine) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started

    def _measure(self, engine: Engine) -> None:
        outputs: list[dict[str, Any]] = engine.state.output
        items: list[dict[str, Any]] = engine.state.batch
        for item, output in zip(items, outputs, strict=True):
            prediction = np.asarray(output["pred"].cpu())[0] > 0.5
            truth = np.asarray(output["label"].cpu())[0] > 0.5
            status = "ok" if prediction.any() else "empty"
            voxel_mm = CUBE_SIZE / truth.shape[0]
            metrics = vertebra_metrics(prediction, truth, (voxel_mm, voxel_mm, voxel_mm))
            self.rows.append(metrics_row(item, metrics, self.seconds / len(outputs), status))

    def _write(self, engine: Engine) -> None:
        rows = gathered(self.rows)
        if rank() > 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_metrics_csv(rows, self.output_dir / "metrics.csv")
        write_summary_json(rows, self.output_dir / "summary.json")
