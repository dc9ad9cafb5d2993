"""CTs and simulated patients to datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.cli.arguments import split_words
from scripts.errors import UserError


def prepare(
    source: str,
    output: str,
    subset: str = "full",
    beam: Any = "parallel",
    variants: int = 0,
    view_angle_error_deg: float = 0.0,
    film: Any = None,
    along_spine: bool = False,
    test: Any = (),
    validation: Any = (),
    training: Any = (),
    test_share: float = 0.2,
    validation_share: float = 0.1,
    max_border_contact_mm2: float = 10.0,
    metal: Any = (),
    no_metal: Any = (),
    seed: int = 0,
    workers: int = 1,
    scheduler: str = "",
) -> None:
    """Turn CT + mask cases into a prepared dataset.

    Args:
        source: folder (VerSe's release layout, or *_ct.nii.gz files with their labelmaps) or a JSON manifest, or
            several with commas between them.
        output: folder of the dataset; a stopped build goes on where it was.
        subset: full, or small: the paper's VerSe-small (no cervical vertebra, T13, L6 or metal; three thoracic ones).
        beam: of the simulated radiographs: parallel, slot or cone; of several with commas between them, each patient
            gets one by chance.
        variants: random deformations to add for each training patient.
        view_angle_error_deg: largest angle by which each view of a variant may be off, unknown to all that follows.
        film: effects on the stored films, as '{"scatter_ratio": 0.2, "photons": 1e5}'; see docs/drr.md.
        along_spine: turn patches and labels along the spine, as reconstruct does, to train for that.
        test: patients that belong to the test list, comma-separated.
        validation: likewise for validation.
        training: likewise for training.
        test_share: share of patients drawn for the test list.
        validation_share: share of the rest drawn for validation.
        max_border_contact_mm2: vertebrae cut by the field of view over more than this are kept out of the lists.
        metal: cases that have metal whatever their CT says, comma-separated; see subset.csv.
        no_metal: cases that have none whatever their CT says.
        seed: of the split and the variants.
        workers: processes.
        scheduler: address of a Dask scheduler, e.g. tcp://10.0.0.1:8786, whose workers do the work.
    """
    from scripts.data.prepare import SplitOptions, prepare_dataset
    from scripts.data.subset import SubsetOptions
    from scripts.data.variants import VariantRange
    from scripts.data.vertebrae import PrepareOptions
    from scripts.geometry.biplanar import Beam
    from scripts.geometry.film import FilmOptions

    if film is not None and not isinstance(film, dict):
        raise UserError(f"--film is a dictionary of effects, not {film!r}")
    try:
        beams = tuple(Beam(word) for word in split_words(beam))
    except ValueError as error:
        raise UserError(f"unknown beam '{beam}'; use {', '.join(b.value for b in Beam)}") from error
    options = PrepareOptions(
        beams=beams,
        variants=int(variants),
        variant_range=VariantRange(view_angle_error_deg=float(view_angle_error_deg)),
        film=FilmOptions.from_dict(film or {}),
        along_spine=bool(along_spine),
        max_border_contact_mm2=float(max_border_contact_mm2),
        seed=int(seed),
    )
    split = SplitOptions(
        test_share, validation_share, split_words(test), split_words(validation), split_words(training)
    )
    chosen = SubsetOptions(str(subset), split_words(metal), split_words(no_metal))
    places = ",".join(split_words(source))
    counts = prepare_dataset(places, Path(str(output)), options, split, int(workers), chosen, str(scheduler))
    folder = Path(str(output))
    print((folder / "table1.md").read_text())
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    for count, file in ((counts["rejected"], "rejected.csv"), (counts["released twice"], "duplicates.csv")):
        if count:
            print(f"which and why: {folder / file}")


def simulate(
    output: str,
    count: int,
    spacing_mm: float = 1.0,
    whole_share: float = 0.25,
    donor_share: float = 0.5,
    hardware_share: float = 0.05,
    scoliosis_share: float = 0.3,
    fracture_share: float = 0.03,
    t13_share: float = 0.03,
    l6_share: float = 0.04,
    without: Any = (),
    subject_weights: Any = None,
    dataset: str = "",
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
        dataset: folder to prepare the patients into right away; see prepare.
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
        spacing_mm=float(spacing_mm),
        whole_share=float(whole_share),
        spine=SpineOptions(
            t13_share=float(t13_share),
            l6_share=float(l6_share),
            without=split_words(without),
            subject_weights=subject_weights_with(subject_weights),
            posture=PostureOptions(scoliosis_share=float(scoliosis_share)),
            deformation=DeformationOptions(fracture_share=float(fracture_share)),
        ),
        ingredients=Ingredients(donor_share=float(donor_share), hardware_share=float(hardware_share)),
        seed=int(seed),
    )
    content = simulate_dataset(Path(str(output)), int(count), options, int(workers))
    vertebrae = sum(len(truth["levels"]) for truth in content["patients"].values())
    print(f"{len(content['patients'])} patients, {vertebrae} vertebrae -> {output}")
    if dataset:
        prepare(str(output), dataset, seed=seed, workers=workers)
    else:
        print(f"next: python -m scripts prepare --source {output} --output DATASET")
