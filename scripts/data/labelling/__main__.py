"""``python -m scripts.data.labelling VERB``: a CT without masks becomes a labelled case. See docs/labelling.md."""

from __future__ import annotations

from pathlib import Path

from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.documents import write_json


def picture(ct: Path, output: Path, marks: Path | None = None) -> None:
    """The spine made straight, sagittal and coronal, with a scale of arc lengths in mm to read discs off.

    Args:
        ct: NIfTI in HU.
        output: PNG file.
        marks: JSON of marks to draw in it.
    """
    from scripts.data.labelling.marks import read_marks
    from scripts.data.labelling.slices import draw_spine
    from scripts.data.labelling.spine_line import find_spine
    from scripts.data.labelling.volume import read_ct

    volume = read_ct(ct)
    line = find_spine(volume)
    known = read_marks(marks).centroids() if marks else {}
    draw_spine(volume, line, known, ct.name).save(output)


def propose(
    ct: Path,
    output: Path,
    disc: str,
    discs: tuple[float, ...] = (),
    case: str = "",
    source: str = "",
    licence: str = "",
) -> None:
    """Marks from one disc that was read off the picture, or from all of them.

    Args:
        ct: NIfTI in HU.
        output: JSON of marks.
        disc: the vertebra above a disc and the disc's arc length, e.g. C2=68 or L5=396; the others are looked for.
        discs: arc lengths in mm of that disc and of all below it, one after another: nothing is looked for then.
        case: name of the case, the file's name if not given.
        source: of the CT, with its citation.
        licence: of the CT.
    """
    from scripts.data.labelling.marks import CaseMarks, VertebraMark, write_marks
    from scripts.data.labelling.propose import Anchor, bodies_between, disc_response, propose_discs
    from scripts.data.labelling.refine import centred
    from scripts.data.labelling.spine_line import find_spine
    from scripts.data.labelling.volume import read_ct
    from scripts.levels import LEVEL_ORDER, USUAL_LEVELS, level_number

    name, _, arc = disc.partition("=")
    try:
        anchor = Anchor(level_number(name), float(arc))
    except ValueError as error:
        raise UserError(f"--disc {disc}: give a level and an arc length in mm, e.g. C2=68") from error
    volume = read_ct(ct)
    line = find_spine(volume)
    if discs:
        first = LEVEL_ORDER.index(anchor.below)
        levels = [n for n in LEVEL_ORDER[first:] if n in USUAL_LEVELS]
        found = dict(zip(levels, discs, strict=False))
    else:
        found = propose_discs(disc_response(volume, line), anchor, USUAL_LEVELS)
    if len(found) < 2:
        raise UserError(f"{ct}: fewer than two discs; look at the picture and give --discs")
    places = centred(volume, line, bodies_between(found))
    by = "by eye" if discs else "proposed"
    vertebrae = tuple(VertebraMark(n, (float(p[0]), float(p[1]), float(p[2])), by) for n, p in places.items())
    stem = case or ct.name.removesuffix(".nii.gz").removesuffix("_ct")
    write_marks(output, CaseMarks(stem, ct.name, vertebrae, source, licence))


def fit(ct: Path, marks: Path, output: Path, without: tuple[str, ...] = (), spacing_mm: float = 2.0) -> None:
    """Fit library shapes to the bone around the marks; writes a case and its sheet, and manifest.json for prepare.

    Args:
        ct: NIfTI in HU; a folder if ``marks`` is one.
        marks: JSON of marks, or a folder of them: each names its CT.
        output: folder; every case gets one in it. A case that is there is fitted again only if its marks are newer.
        without: library subjects not to use, comma-separated.
        spacing_mm: of the written CT and labelmap.
    """
    from scripts.data.labelling.job import fit_cases

    done = fit_cases(ct, marks, output, without, spacing_mm)
    print(f"{done} cases; next: look at the sheets, decide, fit again, then prepare --source {output}/manifest.json")


def decide(marks: Path, accept: tuple[str, ...] = (), reject: tuple[str, ...] = (), reason: str = "") -> None:
    """Write into the marks which fitted vertebrae are good.

    Args:
        marks: JSON of marks.
        accept: levels, comma-separated, or all.
        reject: levels, comma-separated, or all; wins over accept.
        reason: of the rejection.
    """
    from scripts.data.labelling.marks import read_marks, write_marks
    from scripts.levels import level_number

    stored = read_marks(marks)
    every = [mark.level for mark in stored.vertebrae]

    def numbers(names: tuple[str, ...]) -> list[int]:
        return every if names == ("all",) else [level_number(name) for name in names]

    decisions = {n: ("accepted", "") for n in numbers(accept)}
    decisions |= {n: ("rejected", reason) for n in numbers(reject)}
    write_marks(marks, stored.decided(decisions))


def check(
    source: str,
    output: Path | None = None,
    without: tuple[str, ...] = (),
    noise_mm: float = 1.5,
    seed: int = 0,
) -> None:
    """How good the fit is: CTs that have masks, marks from the masks plus an error, Dice of fit against mask.

    Args:
        source: folder of CTs with labelmaps, manifest (.json), or several with commas between them.
        output: JSON file for the numbers, none if empty.
        without: library subjects not to use beside each case's own subject.
        noise_mm: standard deviation of the marks' error along each axis.
        seed: of the error.
    """
    from scripts.data.labelling.check import check_fit

    rows = check_fit(source, without, noise_mm, seed)
    if output:
        write_json(output, rows)


if __name__ == "__main__":
    run_module({"picture": picture, "propose": propose, "fit": fit, "decide": decide, "check": check})
