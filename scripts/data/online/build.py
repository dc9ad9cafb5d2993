"""Cases for the online engine, one file a patient: real CTs, cropped CTs with a body around them, simulated patients.

    python -m scripts.data.online.build --output CASES [--source SOURCES] [--bodies N] [--without A,B] [--seed 0]
        [--factor 2] [--other-shapes N] [--simulate N] [--spacing-mm 2] [--workers 1]

``--source`` is what ``prepare`` reads. With ``--bodies N`` each CT gets N painted bodies instead of being taken as it
is. With ``--other-shapes N`` each also gets N copies with other people's vertebrae in it. A scan that two releases have
is taken once; ``--without`` and ``--subjects`` know its patient by either name. Files that are there already are kept.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from scripts.anatomy.shapes import SUBJECT_WEIGHTS, library_subjects, people_named, shape_subjects
from scripts.command import run_module
from scripts.data.cases import CaseFiles, find_cases
from scripts.data.duplicates import merge_releases, names_of
from scripts.data.online.bodies import put_body_around
from scripts.data.online.case import case_from_patient, write_case
from scripts.data.online.case import read_case as read_stored
from scripts.data.online.files import do_all
from scripts.data.online.memory import COPY
from scripts.data.online.numbers import with_numbers
from scripts.data.online.other_shapes import with_other_shapes
from scripts.data.online.pool import simulate_case
from scripts.data.patient import canonical_patient
from scripts.data.variants import VariantRange
from scripts.data.volumes import read_case
from scripts.errors import UserError
from scripts.simulation.patient import SimulationOptions
from scripts.simulation.spine import SpineOptions


def build_case(
    job: tuple[CaseFiles, int], folder: Path, factor: int, seed: int, other_shapes: int, without: tuple[str, ...]
) -> Path:
    """One real case as a file of ``folder``, and its copies.

    Args:
        job: the case, and the number of the body to be painted around it, or 0.
        folder: where to write.
        factor: how many times coarser than 1 mm.
        seed: of the bodies.
        other_shapes: copies with other people's vertebrae.
        without: people whose shapes are not used.
    """
    case, body = job
    name = f"{case.key}_body{body}" if body else case.key
    path = folder / f"{name}.npz"
    if not path.is_file():
        rng = np.random.default_rng([seed, body, *case.key.encode()])
        volumes = read_case(case, rng).without_unfit()
        for note in volumes.notes:
            print(f"{case.key}: {note}")
        if body:
            volumes = put_body_around(volumes, rng)
        patient = canonical_patient(volumes, 1.0, VariantRange(), None)
        # A crop to the mask's own box touches every vertebra; which are whole is the manifest's to say.
        contact = {} if body else volumes.border_contact_mm2
        origin = case.label_origin or "truth"
        write_case(path, with_numbers(case_from_patient(name, patient, contact, origin, factor, case.unlabelled_mm)))
    copies = [(number, folder / f"{name}{COPY}shapes{number}.npz") for number in range(1, other_shapes + 1)]
    missing = [(number, copy) for number, copy in copies if not copy.is_file()]
    if missing:
        original = read_stored(path)
        own = (*without, *library_subjects(case.subject))
        subjects = {s: SUBJECT_WEIGHTS.get(s, 1.0) for s in shape_subjects() if s not in own}
        for number, copy in missing:
            write_case(copy, with_other_shapes(original, number, subjects))
    return path


def build(
    output: Path,
    source: str = "",
    bodies: int = 0,
    without: tuple[str, ...] = (),
    subjects: tuple[str, ...] = (),
    seed: int = 0,
    factor: int = 2,
    other_shapes: int = 0,
    simulate: int = 0,
    spacing_mm: float = 2.0,
    workers: int = 1,
) -> None:
    """Write one file for each patient; those that are there already are kept.

    Args:
        output: folder for them.
        source: CTs, as for prepare.
        bodies: to paint around each CT.
        without: subjects to leave out, comma-separated; nobody gets their shapes either.
        subjects: to take, comma-separated; all if left out.
        seed: of bodies and simulated patients.
        factor: how many times coarser than 1 mm real CTs are kept.
        other_shapes: copies of each CT in which the whole vertebrae have the shapes of other people.
        simulate: number of simulated patients.
        spacing_mm: of these.
        workers: processes.

    Raises:
        UserError: nothing is asked for, or a case cannot be used.
    """
    if not source and not simulate:
        raise UserError("nothing to build: give --source or --simulate")
    output.mkdir(parents=True, exist_ok=True)
    found = find_cases(source) if source else []
    cases, twins = merge_releases(found)
    names = names_of(found, cases, twins)
    # However their files spell them.
    cases = [c for c in cases if not any(people_named(name, without) for name in names[c.subject])]
    cases = [c for c in cases if not subjects or not names[c.subject].isdisjoint(subjects)]
    jobs = [(case, number) for case in cases for number in (range(1, bodies + 1) if bodies else [0])]
    job = partial(build_case, folder=output, factor=factor, seed=seed, other_shapes=other_shapes, without=without)
    do_all(job, jobs, workers, "CTs")
    options = SimulationOptions(spacing_mm=spacing_mm, seed=seed, spine=SpineOptions(without=without))
    do_all(partial(simulate_case, options=options, folder=output), range(simulate), workers, "simulated")


if __name__ == "__main__":
    run_module(build)
