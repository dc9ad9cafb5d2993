"""The pictures of ``docs/drr.md``, from the sample patient.

python -m scripts.benchmarks.pictures --output docs/images
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.utils import set_determinism

from scripts.command import run_module
from scripts.data.normalisation import OffFilmd
from scripts.films.film import Films
from scripts.films.pair import read_films
from scripts.geometry.cropping import crop_cube, network_input
from scripts.geometry.film import FilmOptions, make_film
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_nifti
from scripts.levels import level_name
from scripts.paths import BUNDLE_ROOT
from scripts.spine.assembly import locate_vertebrae, patient_lattice

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SAMPLE = BUNDLE_ROOT / "docs" / "sample"

VARIANTS: dict[str, FilmOptions] = {
    "line integrals (what prepare stores)": FilmOptions(),
    "hardening 0.1": FilmOptions(hardening=0.1),
    "scatter 0.3, 30 mm": FilmOptions(scatter_ratio=0.3),
    "20 000 photons a pixel": FilmOptions(photons=2e4),
    "window 1.5 to 4.5": FilmOptions(window=(1.5, 4.5)),
    "linear display": FilmOptions(log_display=False),
    "collimated, MONOCHROME1": FilmOptions(field=(0.1, 0.2, 0.95, 0.8), bone_bright=False),
    "all of it": FilmOptions(0.1, 0.2, photons=1e5, readout=5.0, field=(0.05, 0.15, 1.0, 0.85), window=(1.0, 4.0)),
}


def film_variants(films: Films, path: Path) -> None:
    """One radiograph under each option."""
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.6))
    for (title, options), axis in zip(VARIANTS.items(), axes.flat, strict=True):
        image = make_film(torch.from_numpy(films.ap.pixels), options, generator=torch.Generator().manual_seed(0))
        axis.imshow(image, cmap="gray")
        axis.set_title(title, fontsize=8)
    _save(figure, axes, path)


def augmented_patches(films: Films, path: Path, seed: int) -> None:
    """Twelve training patches: clean and augmented, with the mark (cross) and the label's shadow (outline)."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE_ROOT / "configs" / name) for name in ("train.json", "augment_films.json")])
    set_determinism(seed)
    steps = parser.get_parsed_content("train#random_transforms") + [parser.get_parsed_content("normalise_patches")]
    augment = Compose(steps)
    augment.set_random_state(seed)
    figure, axes = plt.subplots(3, 6, figsize=(9, 4.9))
    items = sample_items(films)
    for column, name in enumerate(("T3", "T8", "T12")):
        item = items[name]
        for row in range(3):
            made = item if row == 0 else augment(item)
            for offset, (view, collapsed) in enumerate((("ap", 1), ("lat", 2))):
                axis = axes[row, 2 * column + offset]
                axis.imshow(np.asarray(made[f"image_{view}"])[0], cmap="gray")
                axis.contour(np.asarray(made["label"])[0].max(collapsed), [0.5], colors="tab:orange", linewidths=0.6)
                mark = np.unravel_index(int(np.asarray(made[f"image_{view}_mask"])[0].argmax()), (120, 120))
                axis.plot(mark[1], mark[0], "+", color="tab:cyan", markersize=6)
                axis.set_title(f"{name} {view.upper()}" + ("" if row else ", clean"), fontsize=7)
    _save(figure, axes, path)


def sample_items(films: Films) -> dict[str, dict[Hashable, torch.Tensor]]:
    """The sample patient's vertebrae by level, as training loads them."""
    labels, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    marks = read_annotations(SAMPLE / "annotations.json")
    lattice = patient_lattice(films.geometry)
    items: dict[str, dict[Hashable, torch.Tensor]] = {}
    pair = (torch.from_numpy(films.ap.pixels), torch.from_numpy(films.lat.pixels))
    for vertebra in locate_vertebrae(marks, films.geometry, lattice):
        image = network_input(pair, vertebra.pixels, films.geometry, vertebra.cube)
        start = np.linalg.inv(affine) @ [*vertebra.cube.grid.origin_mm, 1]
        mask = crop_cube((labels == vertebra.level).astype(np.float32), vertebra.cube)
        assert np.allclose(start[:3], vertebra.cube.start, atol=1e-3), "labelmap and films on different lattices"
        names = ("image_ap", "image_ap_mask", "image_lat", "image_lat_mask")
        item: dict[Hashable, torch.Tensor] = {name: image[i : i + 1] for i, name in enumerate(names)}
        items[level_name(vertebra.level)] = OffFilmd()({**item, "label": torch.from_numpy(mask)[None]})
    return items


def _save(figure: plt.Figure, axes: np.ndarray, path: Path) -> None:
    axis: plt.Axes
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 85})
    print(f"{path} {path.stat().st_size // 1024} kB")


def main(output: Path = Path("output"), seed: int = 0) -> None:
    """Draw both pictures.

    Args:
        output: folder.
        seed: of the augmentation.
    """
    output.mkdir(parents=True, exist_ok=True)
    films = read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")
    film_variants(films, output / "film_variants.jpg")
    augmented_patches(films, output / "augmented_patches.jpg", seed)


if __name__ == "__main__":
    run_module(main)
