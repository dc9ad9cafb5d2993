"""One trained network over a test list: every model the same way, always in mm on the 1 mm grid."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.benchmarks.paper.clinical import FILE as CLINICAL_FILE
from scripts.benchmarks.paper.clinical import clinical_row, write_clinical
from scripts.benchmarks.paper.disturbances import Disturbance, disturb
from scripts.data.items import read_patches
from scripts.errors import UserError
from scripts.io.nifti import read_nifti
from scripts.reconstruction.metrics.surface import vertebra_metrics
from scripts.reconstruction.metrics.table import MetricsRow, metrics_row, write_metrics_csv


class Reconstructor:
    """A network of any resolution as a function from raw patches to a mask on their own grid.

    Coarser networks get pooled patches, and their logits are interpolated back, so that all are scored on the
    same truth.

    Args:
        network: (1, 4, n, n) -> (1, 1, n, n, n).
        parser: the config that it comes from.
        device: where it runs.
    """

    def __init__(self, network: torch.nn.Module, parser: ConfigParser, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device
        self.patch_size = int(parser.get_parsed_content("patch_size"))
        self.normalise = Compose(parser.get_parsed_content("normalise_transforms"))

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Raw patches (4, N, N) -> the network's input (1, 4, n, n)."""
        pooled = F.adaptive_avg_pool2d(image, self.patch_size)
        channels = {name: MetaTensor(pooled[i : i + 1]) for i, name in enumerate(("ap", "ap_mask", "lat", "lat_mask"))}
        item = self.normalise({f"image_{name}": channel for name, channel in channels.items()})
        return item["image"].as_tensor()[None].to(self.device)

    @torch.inference_mode()
    def __call__(self, image: torch.Tensor) -> np.ndarray:
        """Raw patches (4, N, N) -> mask (N, N, N) bool."""
        logits = self.network(self.prepare(image)).float()
        if logits.shape[-1] != image.shape[-1]:
            logits = F.interpolate(logits, image.shape[-1:] * 3, mode="trilinear", align_corners=False)
        return (logits[0, 0] > 0).cpu().numpy()


@dataclass(frozen=True)
class TestVertebra:
    """One item of a test list, read.

    Args:
        item: its row.
        image: (4, N, N), or None if it cannot be read, with the reason.
        truth: (N, N, N) bool.
        reason: why there is no image.
    """

    __test__ = False

    item: dict[str, Any]
    image: torch.Tensor | None
    truth: np.ndarray
    reason: str = ""


def read_vertebrae(dataset: Path, items: list[dict[str, Any]], images: Path | None = None) -> Iterator[TestVertebra]:
    """The vertebrae of a test list, one by one; images from another folder if one is given (`tilted_images`)."""
    for item in items:
        path = images / str(item["case"]) / f"{item['level']}_xray.nii.gz" if images else dataset / item["image"]
        truth = read_nifti(dataset / item["label"])[0] > 0
        try:
            yield TestVertebra(item, read_patches(path), truth)
        except UserError as error:
            yield TestVertebra(item, None, truth, str(error))


def score(
    reconstruct: Reconstructor,
    dataset: Path,
    items: list[dict[str, Any]],
    folder: Path,
    disturbance: Disturbance | None = None,
    images: Path | None = None,
) -> None:
    """Write ``metrics.csv``: one row a vertebra, failures too; undisturbed also ``clinical.csv``.

    Args:
        reconstruct: the network.
        dataset: prepared.
        items: of its test list.
        folder: for the files; finished ones are kept.
        disturbance: done to each vertebra.
        images: folder of other images of the same vertebrae (`tilted_images`); the dataset's own if None.
    """
    measured = disturbance is None
    if (folder / "metrics.csv").is_file() and (not measured or (folder / CLINICAL_FILE).is_file()):
        return
    rows: list[MetricsRow] = []
    clinical: list[dict[str, str]] = []
    for index, vertebra in enumerate(read_vertebrae(dataset, items, images)):
        image, truth = vertebra.image, vertebra.truth
        found, seconds, status = None, 0.0, f"failed: {vertebra.reason}"
        if image is not None:
            if disturbance is not None and images is None:
                image, truth = disturb(image, truth, disturbance, (index, round(100 * disturbance.amount)))
            if index == 0:
                reconstruct(image)  # libraries and kernels are loaded by the first call
            started = time.perf_counter()
            found = reconstruct(image)
            seconds = time.perf_counter() - started
            status = "ok" if found.any() else "empty"
        rows.append(metrics_row(vertebra.item, vertebra_metrics(found, truth), seconds, status))
        if measured:
            clinical.append(clinical_row(vertebra.item, found, truth))
    folder.mkdir(parents=True, exist_ok=True)
    if measured:
        write_clinical(clinical, folder / CLINICAL_FILE)
    write_metrics_csv(rows, folder / "metrics.csv")
