"""A picture of fresh samples, to be looked at: both patches with mark and the shadow's outline, level by level.

python -m scripts.data.online.sheet --cases CASES --output FILE.jpg [--count 20] [--seed 0]
    [--config configs/train.json,configs/online.json,configs/online_cases.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigParser

from scripts.command import run_module
from scripts.data.online.pool import CasePool, load_cases
from scripts.data.online.samples import SampleOptions, make_samples
from scripts.levels import level_name
from scripts.paths import BUNDLE_ROOT

CONFIG = ("configs/train.json", "configs/online.json", "configs/online_cases.json")


def read_options(config: tuple[str, ...] = CONFIG) -> SampleOptions:
    """How samples are made, as configs merged from left to right say it."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE_ROOT / name) for name in config])
    options = parser.get_parsed_content("samples")
    assert isinstance(options, SampleOptions)
    return options


def draw_sheet(
    cases: tuple[str, ...], output: Path, count: int = 20, seed: int = 0, config: tuple[str, ...] = CONFIG
) -> None:
    """Draw.

    Args:
        cases: folders of online cases, with commas.
        output: picture.
        count: of samples.
        seed: of everything.
        config: that says how samples are made, several with commas.
    """
    options = read_options(config)
    pool = CasePool(load_cases(cases))
    rng = np.random.default_rng(seed)
    # One of each level before any comes again.
    picks = [pool.pick(rng) for _ in range(4 * count)]
    first = {vertebra.level: (case, vertebra) for case, vertebra in picks}
    chosen = [*first.values(), *picks][:count]
    chosen.sort(key=lambda pick: pick[1].level)
    batch = make_samples(chosen, options, torch.Generator().manual_seed(seed))
    columns = min(count, 10)
    rows = -(-count // columns)
    figure = Figure((1.7 * columns, 3.7 * rows), layout="constrained")
    axes: Any = figure.subplots(2 * rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for number, (case, vertebra) in enumerate(chosen):
        image, label = batch["image"][number], batch["label"][number, 0]
        for view, (channel, along) in enumerate(((0, 1), (2, 2))):
            place = axes[2 * (number // columns) + view, number % columns]
            place.imshow(image[channel], cmap="gray", vmin=0, vmax=1)
            place.contour(label.amax(along), [0.5], colors="#ff5252", linewidths=0.8)
            place.contour(image[channel + 1], [0.5], colors="#40c4ff", linewidths=0.8)
            if view == 0:
                place.set_title(f"{level_name(vertebra.level)}, {case.origin}", fontsize=7)
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    run_module(draw_sheet)
