"""CTs and simulated patients to datasets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from scripts.data.split import SplitOptions, empty_lists
from scripts.data.subset import SubsetOptions
from scripts.geometry.beam import Beam
from scripts.io.tables import read_csv
from scripts.levels import Numbering


def prepare(
    source: str,
    output: Path,
    subset: SubsetOptions,
    split: SplitOptions,
    labels: Numbering | None = None,
    beam: tuple[Beam, ...] = (Beam.PARALLEL,),
    variants: int = 0,
    view_angle_error_deg: float = 0.0,
    film: dict[str, Any] | None = None,
    along_spine: bool = False,
    max_border_contact_mm2: float = 10.0,
    seed: int = 0,
    workers: int = 1,
    scheduler: str = "",
) -> None:
    """Turn CT + mask cases into a prepared dataset.

    Args:
        source: folder (VerSe's release layout, or *_ct.nii.gz files with their labelmaps) or a JSON manifest, or
            several with commas between them.
        output: folder of the dataset; a stopped build goes on where it was.
        subset: which spines.
        split: which patients go where.
        labels: numbers of all labelmaps, verse or totalsegmentator; if left out, names in their headers or beside them,
            and the order along the spine, say it for each.
        beam: of the simulated radiographs: parallel, slot or cone; of several with commas between them, each patient
            gets one by chance.
        variants: random deformations to add for each training patient.
        view_angle_error_deg: largest angle by which each view of a variant may be off, unknown to all that follows.
        film: effects on the stored films, as '{"scatter_ratio": 0.2, "photons": 1e5}'; docs/drr.md lists them.
        along_spine: turn patches and labels along the spine, as reconstruct does, to train for that.
        max_border_contact_mm2: vertebrae cut by the field of view over more than this are kept out of the lists.
        seed: of the split and the variants.
        workers: processes.
        scheduler: address of a Dask scheduler, e.g. tcp://10.0.0.1:8786, whose workers do the work.
    """
    from scripts.data.prepare import prepare_dataset
    from scripts.data.variants import VariantRange
    from scripts.data.vertebrae import PrepareOptions
    from scripts.geometry.film import FilmOptions

    options = PrepareOptions(
        beams=beam,
        variants=variants,
        variant_range=VariantRange(view_angle_error_deg=view_angle_error_deg),
        film=FilmOptions.from_dict(film or {}),
        along_spine=along_spine,
        max_border_contact_mm2=max_border_contact_mm2,
        seed=seed,
    )
    counts = prepare_dataset(source, output, options, split, workers, subset, scheduler, labels or "")
    print((output / "table1.md").read_text())
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    warnings = Counter(row["warning"] for row in read_csv(output / "warnings.csv"))
    for warning, count in warnings.most_common(5):
        print(f"warning: {count} case{'s' * (count > 1)}: {warning}")
    for warning in empty_lists(counts, split):
        print(f"warning: {warning}")
    files = {"rejected": "rejected.csv", "warnings": "warnings.csv", "released twice": "duplicates.csv"}
    for name, file in files.items():
        if counts[name]:
            print(f"{name}, which and why: {output / file}")


def simulate(
    output: Path,
    count: int,
    spacing_mm: float = 1.0,
    whole_share: float = 0.25,
    donor_share: float = 0.5,
    hardware_share: float = 0.05,
    scoliosis_share: float = 0.3,
    fracture_share: float = 0.03,
    t13_share: float = 0.03,
    l6_share: float = 0.04,
    without: tuple[str, ...] = (),
    subject_weights: dict[str, Any] | None = None,
    dataset: Path | None = None,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Simulate CTs of spines from real vertebra shapes, in VerSe's layout: prepare reads them like any CT.

    Args:
        output: folder; patients that are there already are kept.
        count: number of patients.
        spacing_mm: voxel size.
        whole_share: of patients shown from skull to pelvis.
        donor_share: of patients whose body around the spine is a real CT's.
        hardware_share: of patients with screws and rods.
        scoliosis_share: of patients with a scoliosis.
        fracture_share: of vertebrae between T4 and L5.
        t13_share: of patients with a thirteenth thoracic vertebra.
        l6_share: of patients with a sixth lumbar vertebra.
        without: shape subjects not to use, comma-separated.
        subject_weights: how often shape subjects are drawn against 1 of the others, such as '{remus: 0.5}'; idealised
            ones have 0.3 unless named.
        dataset: folder to prepare the patients into right away, with prepare's own choices for all else.
        seed: the same seed gives the same patients.
        workers: processes.
    """
    from scripts.anatomy.shapes import subject_weights_with
    from scripts.simulation.deformation import DeformationOptions
    from scripts.simulation.painting import Ingredients
    from scripts.simulation.patient import SimulationOptions
    from scripts.simulation.posture import PostureOptions
    from scripts.simulation.spine import SpineOptions
    from scripts.simulation.write import simulate_dataset

    options = SimulationOptions(
        spacing_mm=spacing_mm,
        whole_share=whole_share,
        spine=SpineOptions(
            t13_share=t13_share,
            l6_share=l6_share,
            without=without,
            subject_weights=subject_weights_with(subject_weights),
            posture=PostureOptions(scoliosis_share=scoliosis_share),
            deformation=DeformationOptions(fracture_share=fracture_share),
        ),
        ingredients=Ingredients(donor_share=donor_share, hardware_share=hardware_share),
        seed=seed,
    )
    content = simulate_dataset(output, count, options, workers)
    vertebrae = sum(len(truth["levels"]) for truth in content["patients"].values())
    print(f"{len(content['patients'])} patients, {vertebrae} vertebrae -> {output}")
    if dataset:
        prepare(str(output), dataset, SubsetOptions(), SplitOptions(), seed=seed, workers=workers)
    else:
        print(f"next: python -m scripts prepare --source {output} --output DATASET")
