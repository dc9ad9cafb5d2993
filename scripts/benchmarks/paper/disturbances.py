"""What goes wrong at the clinic, on purpose and in known amounts: marks, film noise, the angle between the views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.data.building import inputs_of, read_stamp
from scripts.data.cases import find_cases
from scripts.data.duplicates import merge_releases
from scripts.data.patient import canonical_patient
from scripts.data.variants import VariantRange
from scripts.data.volumes import read_case
from scripts.errors import UserError
from scripts.geometry.biplanar import Beam, BiplanarGeometry, geometry_of_grid
from scripts.geometry.cropping import network_input, place_cube
from scripts.geometry.projector import project_pair
from scripts.io.atomic import atomic_folder
from scripts.io.nifti import write_quantised
from scripts.levels import level_number


@dataclass(frozen=True)
class Disturbance:
    """One point of a curve.

    Args:
        kind: ``centroid`` (mm), ``noise`` (share of the patch's range) or ``angle`` (degrees).
        amount: of it.
    """

    kind: str
    amount: float

    @property
    def name(self) -> str:
        """Name of the folder of its results."""
        return f"{self.kind}_{self.amount:g}"


AXES = {
    "angle": "error of the angle between the views (degrees)",
    "centroid": "error of the marked centroid (mm)",
    "noise": "noise (standard deviation, share of the patch's range)",
}
CURVES = [
    *(Disturbance("angle", a) for a in (2.0, 5.0, 10.0)),
    *(Disturbance("centroid", a) for a in (2.0, 5.0, 10.0)),
    *(Disturbance("noise", a) for a in (0.05, 0.1, 0.2)),
]


def disturb(
    image: torch.Tensor, truth: np.ndarray, kind: Disturbance, seed: Sequence[int]
) -> tuple[torch.Tensor, np.ndarray]:
    """A vertebra as it would be seen.

    A wrong centroid moves patches and cube with it: here the patches and the truth move the other way under marks that
    stay, by whole voxels in a random direction; a strip at the border repeats the patch's edge, and what leaves the
    cube is not asked for.

    Args:
        image: (4, N, N) before normalisation.
        truth: (N, N, N) bool.
        kind: ``centroid`` or ``noise``; films at a wrong angle are made by `write_tilted_films`.
        seed: of the direction or the noise.
    """
    rng = np.random.default_rng(seed)
    image = image.clone()
    if kind.kind == "centroid":
        direction = rng.normal(size=3)
        step = np.rint(kind.amount * direction / np.linalg.norm(direction)).astype(int)
        rows, behind, left = (np.clip(np.arange(len(truth)) + s, 0, len(truth) - 1) for s in step)
        image[0] = image[0][rows][:, left]
        image[2] = image[2][rows][:, behind]
        return image, _shifted(truth, step)
    if kind.kind == "noise":
        for channel in (0, 2):
            span = float(np.ptp(np.nanpercentile(image[channel].numpy(), [0.5, 99.5])))
            noise = rng.standard_normal(image[channel].shape, np.float32)
            image[channel] += kind.amount * span * torch.from_numpy(noise)
    return image, truth


def _shifted(mask: np.ndarray, step: np.ndarray) -> np.ndarray:
    """``out[i] = mask[i + step]``, empty where that lies outside."""
    out = np.zeros_like(mask)
    size = len(mask)
    target = tuple(slice(max(-s, 0), size - max(s, 0)) for s in step)
    source = tuple(slice(max(s, 0), size - max(-s, 0)) for s in step)
    out[target] = mask[source]
    return out


def write_tilted_films(
    source: str, dataset: Path, items: Sequence[dict[str, Any]], angle_deg: float, folder: Path
) -> None:
    """Radiographs of a data list's vertebrae with a lateral view at a wrong angle that the geometry does not contain.

    The lateral view is turned about the patient's long axis. Marks are where the films show the centroid; everything
    else assumes orthogonal views, as in `scripts.data.vertebrae.prepare_case`. Kept while the dataset stays the same.

    Args:
        source: what the dataset was prepared from.
        dataset: prepared.
        items: of one of its lists.
        angle_deg: of the turn.
        folder: gets ``<case>/<level>_xray.nii.gz``.

    Raises:
        UserError: the dataset's images cannot be made at an angle (`check_tiltable`), a case of the list is not in the
            source, or another one than the dataset was prepared from.
    """
    stamps = check_tiltable(dataset, items)
    made_from = json.dumps([angle_deg, sorted([item["case"], item["level"]] for item in items), stamps], indent=1)
    if (folder / "done").is_file() and (folder / "done").read_text() == made_from:
        return
    cases = {case.key: case for case in merge_releases(find_cases(source))[0]}
    missing = [key for key in stamps if key not in cases]
    if missing:
        raise UserError(f"{source}: has no case {', '.join(missing)} that the test list holds")
    with atomic_folder(folder, "done") as work:
        for key, stamp in stamps.items():
            case = replace(cases[key], labels=cases[key].labels or stamp["case"]["labels"])
            if inputs_of(case) != {name: stamp[name] for name in ("files", "case")}:
                raise UserError(f"{source}: its case {key} is not what {dataset} was prepared from")
            rng = np.random.default_rng([stamp["options"]["seed"], 0, *key.encode()])
            patient = canonical_patient(read_case(case, rng), stamp["options"]["bone_gain"], VariantRange(), None)
            nominal = geometry_of_grid(patient.grid)
            taken = BiplanarGeometry(nominal.ap, nominal.lat.turned(angle_deg, 0.0))
            films = project_pair(patient.attenuation, patient.grid.affine, taken)
            (work / key).mkdir()
            for item in items:
                if item["case"] != key:
                    continue
                marked = patient.centroids[level_number(item["level"])]
                pixels = taken.project(marked)
                believed = nominal.back_project(*pixels)[0][0]
                seen = place_cube(believed, patient.grid)
                image = network_input(films, (pixels[0][0], pixels[1][0]), nominal, seen)
                path = work / key / f"{item['level']}_xray.nii.gz"
                write_quantised(path, image.permute(1, 2, 0)[:, :, None].numpy(), seen.grid.affine)
        (work / "done").write_text(made_from)


def check_tiltable(dataset: Path, items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The stamps of a data list's cases by their keys, if `write_tilted_films` can make their images at an angle.

    Raises:
        UserError: they were cut along the spine, have effects of films, or were taken by another beam than a parallel
            one; or were prepared by another version.
    """
    folders = {str(item["case"]): (dataset / item["label"]).parent for item in items}
    stamps = {key: read_stamp(folder) for key, folder in sorted(folders.items())}
    for stamp in stamps.values():
        options = stamp["options"]
        unlike = [f"--{name.replace('_', '-')}" for name in ("along_spine", "film") if name in options]
        unlike += ["--beam"] if options["beams"] != [Beam.PARALLEL.value] else []
        if unlike:
            raise UserError(
                f"{dataset}: was prepared with {', '.join(unlike)}; films at a wrong angle are made without: leave "
                "--source out, or prepare a dataset without"
            )
    return stamps
