"""``python -m scripts.data.labelling VERB``: a CT without masks becomes a labelled case. See docs/labelling.md."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fire

from scripts.errors import UserError


def picture(ct: str, output: str, marks: str = "") -> None:
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

    volume = read_ct(Path(str(ct)))
    line = find_spine(volume)
    known = read_marks(Path(str(marks))).centroids() if marks else {}
    draw_spine(volume, line, known, Path(str(ct)).name).save(str(output))


def propose(
    ct: str, output: str, disc: str, discs: Any = (), case: str = "", source: str = "", licence: str = ""
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
    from scripts.levels import LEVEL_ORDER, level_number

    name, _, arc = str(disc).partition("=")
    try:
        anchor = Anchor(level_number(name), float(arc))
        given = [float(v) for v in discs] if isinstance(discs, list | tuple) else [float(discs)]
    except ValueError as error:
        raise UserError(f"--disc {disc}: give a level and an arc length in mm, e.g. C2=68") from error
    volume = read_ct(Path(str(ct)))
    line = find_spine(volume)
    if given:
        first = LEVEL_ORDER.index(anchor.below)
        levels = [n for n in LEVEL_ORDER[first:] if n not in (28, 25)]
        found = dict(zip(levels, given, strict=False))
    else:
        ordinary = tuple(n for n in LEVEL_ORDER if n not in (28, 25))
        found = propose_discs(disc_response(volume, line), anchor, ordinary)
    if len(found) < 2:
        raise UserError(f"{ct}: fewer than two discs; look at the picture and give --discs")
    places = centred(volume, line, bodies_between(found))
    by = "by eye" if given else "proposed"
    vertebrae = tuple(VertebraMark(n, (float(p[0]), float(p[1]), float(p[2])), by) for n, p in places.items())
    stem = str(case) or Path(str(ct)).name.removesuffix(".nii.gz").removesuffix("_ct")
    write_marks(Path(str(output)), CaseMarks(stem, Path(str(ct)).name, vertebrae, str(source), str(licence)))


def fit(ct: str, marks: str, output: str, without: Any = (), spacing_mm: float = 2.0) -> None:
    """Fit library shapes to the bone around the marks; writes a case and its sheet, and manifest.json for prepare.

    Args:
        ct: NIfTI in HU; a folder if ``marks`` is one.
        marks: JSON of marks, or a folder of them: each names its CT.
        output: folder; every case gets one in it. A case that is there is fitted again only if its marks are newer.
        without: library subjects not to use, comma-separated.
        spacing_mm: of the written CT and labelmap.
    """
    from scripts.data.labelling.job import fit_cases

    names = without if isinstance(without, list | tuple) else [w for w in str(without).split(",") if w]
    done = fit_cases(Path(str(ct)), Path(str(marks)), Path(str(output)), tuple(map(str, names)), float(spacing_mm))
    print(f"{done} cases; next: look at the sheets, decide, fit again, then prepare --source {output}/manifest.json")


def decide(marks: str, accept: Any = (), reject: Any = (), reason: str = "") -> None:
    """Write into the marks which fitted vertebrae are good.

    Args:
        marks: JSON of marks.
        accept: levels, comma-separated, or all.
        reject: levels, comma-separated, or all; wins over accept.
        reason: of the rejection.
    """
    from scripts.data.labelling.marks import read_marks, write_marks
    from scripts.levels import level_number

    path = Path(str(marks))
    stored = read_marks(path)
    every = [mark.level for mark in stored.vertebrae]

    def numbers(value: Any) -> list[int]:
        words = [str(v) for v in value] if isinstance(value, list | tuple) else [w for w in str(value).split(",") if w]
        return every if words == ["all"] else [level_number(w) for w in words]

    decisions = {n: ("accepted", "") for n in numbers(accept)}
    decisions |= {n: ("rejected", str(reason)) for n in numbers(reject)}
    write_marks(path, replace(stored.decided(decisions)))


def check(source: str, output: str = "", without: Any = (), noise_mm: float = 1.5, seed: int = 0) -> None:
    """How good the fit is: CTs that have masks, marks from the masks plus an error, Dice of fit against mask.

    Args:
        source: as for prepare.
        output: JSON file for the numbers, none if empty.
        without: library subjects not to use beside each case's own subject.
        noise_mm: standard deviation of the marks' error along each axis.
        seed: of the error.
    """
    from scripts.data.labelling.check import check_fit

    names = without if isinstance(without, list | tuple) else [w for w in str(without).split(",") if w]
    rows = check_fit(str(source), tuple(map(str, names)), float(noise_mm), int(seed))
    if output:
        Path(str(output)).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    try:
        fire.Fire({"picture": picture, "propose": propose, "fit": fit, "decide": decide, "check": check})
    except UserError as error:
        sys.exit(f"error: {error}")
