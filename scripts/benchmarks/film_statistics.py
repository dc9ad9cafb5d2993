"""How patches look to the network, by numbers, so that simulated films can be compared with those of real CTs.

    python -m scripts.benchmarks.film_statistics --dataset real=DIR,simulated=DIR --output DIR
        [--samples 10] [--effects NAME]

Of every vertebra of prepared datasets, in both views, on patches as the network sees them
(`scripts.data.normalisation`), off-film pixels left out:

- contrast: mean inside the vertebra's shadow minus the mean of a ring around it, 2 to 10 mm away;
- gradient: mean magnitude of the gradient inside (after a Gaussian of 1 pixel), per pixel;
- detail: standard deviation, inside, of what a Gaussian of 1.5 pixels takes away.

Writes ``vertebrae.csv``, ``table.md`` (10th, 50th, 90th percentile by region, view and dataset) and, for each region,
``<region>.png``: vertebrae of each dataset side by side, AP above LAT. ``--effects`` names datasets that are shown a
second time, with the film effects of `configs/online.json`, as training on samples drawn anew has them; all but the
tube voltage, for which a dataset's patches do not tell bone from the rest.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from scripts.command import run_module
from scripts.data.datalist import read_document
from scripts.data.film_effects import FilmEffectOptions, apply_film_effects
from scripts.data.items import read_patches
from scripts.data.normalisation import normalise_film
from scripts.data.online.sheet import read_options
from scripts.drawing import BACKGROUND, TEXT, font
from scripts.errors import UserError
from scripts.io.atomic import write_text
from scripts.io.nifti import read_nifti
from scripts.io.tables import markdown_table, write_csv
from scripts.levels import level_number, region

RING_MM = (2, 10)
VIEWS = ("AP", "LAT")
# Axis of the cube (I, P, L) that each view looks along.
LOOKS_ALONG = (1, 2)
REGIONS = ("cervical", "thoracic", "lumbar")
EFFECTS = " + effects"


@dataclass(frozen=True)
class FilmStatistics:
    """Brightness and sharpness of one vertebra in one view."""

    contrast: float
    gradient: float
    detail: float


@dataclass(frozen=True)
class Row:
    """One line of ``vertebrae.csv``."""

    dataset: str
    subject: str
    level: str
    region: str
    view: str
    contrast: float
    gradient: float
    detail: float


def film_statistics(patch: np.ndarray, shadow: np.ndarray) -> FilmStatistics | None:
    """Numbers of one patch.

    Args:
        patch: (rows, columns) in the film's units, NaN off the film; pixels of 1 mm.
        shadow: (rows, columns) bool, where the vertebra's shadow is.

    Returns:
        the numbers; None if too little of the shadow or its surroundings is on the film.
    """
    on_film = np.isfinite(patch)
    normal = normalise_film(torch.from_numpy(np.asarray(patch, np.float32))).numpy()
    # Not the film's own edge, which no vertebra has.
    sure = ndimage.binary_erosion(on_film, iterations=4, border_value=1)
    inside = shadow & sure
    away = ndimage.distance_transform_edt(~shadow)
    ring = (away > RING_MM[0]) & (away <= RING_MM[1]) & sure
    if inside.sum() < 100 or ring.sum() < 100:
        return None
    gradient = ndimage.gaussian_gradient_magnitude(normal, 1.0)
    detail = normal - ndimage.gaussian_filter(normal, 1.5)
    return FilmStatistics(
        float(normal[inside].mean() - normal[ring].mean()), float(gradient[inside].mean()), float(detail[inside].std())
    )


def region_of(level: str) -> str:
    """``cervical``, ``thoracic`` or ``lumbar``, from a level's name."""
    return region(level_number(level))


def main(dataset: tuple[str, ...], output: Path, samples: int = 8, effects: tuple[str, ...] = ()) -> None:
    """Measure the patches of prepared datasets and write the statistics.

    Args:
        dataset: prepared datasets, comma-separated, each with a name and ``=`` before it if its folder's is not enough.
        output: folder.
        samples: vertebrae of each dataset in the pictures.
        effects: names of datasets to measure once more with film effects, comma-separated.

    Raises:
        UserError: a dataset is missing or has no vertebra.
    """
    folders = dict(_named(word) for word in dataset)
    rows: list[Row] = []
    pictures: dict[str, dict[str, list[Image.Image]]] = {where: defaultdict(list) for where in REGIONS}
    if unknown := set(effects) - set(folders):
        raise UserError(f"--effects {', '.join(sorted(unknown))}: not a name of a dataset")
    options = read_options().effects
    names = [n for name in folders for n in ((name, name + EFFECTS) if name in effects else (name,))]
    for name in names:
        folder = folders[name.removesuffix(EFFECTS)]
        items = _items(folder)
        wanted = _evenly(items, samples)
        for number, item in enumerate(items):
            patches, label = _read(folder, item)
            where = region_of(item["level"])
            if name not in folders:
                patches = _with_effects(patches, where, options, number)
            for view, patch, axis in zip(VIEWS, patches, LOOKS_ALONG, strict=True):
                found = film_statistics(patch, np.asarray(label.any(axis)))
                if found is not None:
                    rows.append(Row(name, item["subject"], item["level"], where, view, **asdict(found)))
            if item["image"] in wanted:
                pictures[where][name].append(_picture(patches, label, item))
    write(rows, names, output)
    for where, by_dataset in pictures.items():
        if by_dataset:
            _sheet(by_dataset).save(output / f"{where}.png")


def write(rows: list[Row], names: list[str], output: Path) -> None:
    """``vertebrae.csv`` and ``table.md``.

    Args:
        rows: all vertebrae.
        names: of the datasets, in the table's order.
        output: folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    cells_of = ([f"{v:.5f}" if isinstance(v, float) else v for v in asdict(row).values()] for row in rows)
    write_csv(output / "vertebrae.csv", [f.name for f in fields(Row)], cells_of)
    numbers = [f.name for f in fields(FilmStatistics)]
    table = []
    for where in REGIONS:
        for view in VIEWS:
            for name in names:
                here = [r for r in rows if (r.region, r.view, r.dataset) == (where, view, name)]
                if here:
                    cells = [_spread([getattr(r, number) for r in here]) for number in numbers]
                    table.append([f"{where} {view}", name, len(here), *cells])
    lines = markdown_table(["region, view", "dataset", "vertebrae", *numbers], table)
    title = "Median (10th to 90th percentile) over vertebrae, patches as the network sees them."
    text = "\n".join([title, "", *lines, ""])
    write_text(output / "table.md", text)
    print(text)


def _with_effects(
    patches: tuple[np.ndarray, np.ndarray], where: str, options: FilmEffectOptions, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    films = [torch.from_numpy(patch)[None] for patch in patches]
    inside = films[0].isfinite(), films[1].isfinite()
    ap, lat = (film.nan_to_num(0.0) for film in films)
    generator = torch.Generator().manual_seed(seed)
    regions = torch.tensor([REGIONS.index(where)])
    made = apply_film_effects(ap, lat, 1.0, options, generator, regions=regions, inside=inside)
    ap, lat = (film.masked_fill(~mask, torch.nan)[0] for film, mask in zip(made[:2], made[2:], strict=True))
    return ap.numpy(), lat.numpy()


def _named(word: str) -> tuple[str, Path]:
    """``NAME=FOLDER`` or ``FOLDER``."""
    before, _, after = word.partition("=")
    return (before, Path(after)) if after else (Path(before).name, Path(before))


def _spread(values: list[float]) -> str:
    low, middle, high = (float(np.percentile(values, share)) for share in (10, 50, 90))
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _items(folder: Path) -> list[dict[str, Any]]:
    document = read_document(folder)
    items = [item for name in ("training", "validation", "test") for item in document.get(name, [])]
    if not items:
        raise UserError(f"{folder / 'dataset.json'}: has no vertebra in its lists")
    return items


def _evenly(items: list[dict[str, Any]], samples: int) -> set[str]:
    """Images of the vertebrae to show: as many of each region, spread over the list."""
    chosen: set[str] = set()
    for where in REGIONS:
        here = [item["image"] for item in items if region_of(item["level"]) == where]
        places = np.linspace(0, len(here) - 1, min(samples, len(here))).round().astype(int)
        chosen |= {here[place] for place in places}
    return chosen


def _read(folder: Path, item: dict[str, Any]) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    ap, _, lat, _ = read_patches(folder / item["image"]).numpy()
    return (ap, lat), read_nifti(folder / item["label"])[0] > 0


def _picture(patches: tuple[np.ndarray, np.ndarray], label: np.ndarray, item: dict[str, Any]) -> Image.Image:
    """AP above LAT, each with the shadow's outline in dots, so that what lies under it is seen."""
    shown = []
    for patch, axis in zip(patches, LOOKS_ALONG, strict=True):
        normal = normalise_film(torch.from_numpy(np.asarray(patch, np.float32))).numpy()
        grey = np.repeat((255 * normal).astype(np.uint8)[..., None], 3, axis=2)
        shadow = label.any(axis)
        outline = shadow & ~ndimage.binary_erosion(shadow)
        outline[:, ::2] = outline[::2] = False
        grey[outline] = (255, 176, 64)
        shown.append(grey)
    image = Image.fromarray(np.concatenate(shown)).resize((180, 360), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).text((4, 2), f"{item['level']} {item['subject'][-9:]}", font=font(12), fill=TEXT)
    return image


def _sheet(by_dataset: dict[str, list[Image.Image]]) -> Image.Image:
    columns = max(len(images) for images in by_dataset.values())
    sheet = Image.new("RGB", (184 * columns, 384 * len(by_dataset)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(by_dataset.items()):
        draw.text((4, 384 * row + 3), name, font=font(14), fill=TEXT)
        for column, image in enumerate(images):
            sheet.paste(image, (184 * column, 384 * row + 22))
    return sheet


if __name__ == "__main__":
    run_module(main)
