"""Whether a reconstructed vertebra may be used: good, check, or do not use, with the reasons in words.

Report, exports and viewer show this one judgement. It rests on the confidence, on the measures that cannot be true
(`scripts.measure.credible`), on the line through the neighbours (`scripts.measure.plausibility`) and on the films
(`scripts.measure.reprojection`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from scripts.levels import level_number
from scripts.measure.credible import TILT
from scripts.measure.reprojection import Agreement
from scripts.measure.vertebrae import VertebraMeasures
from scripts.spine.assembly import RESIDUAL_SCALE_MM, ReconstructedVertebra
from scripts.spine.session import MAX_CONTESTED

# Confidences below these. On LIDC-IDRI-0001, verse083 and five simulated patients none of 123 called good has a
# Dice below 0.6, with 0.7 two of 131. Below the second, the marks of the two views miss each other by 3 mm.
CHECK_BELOW, DO_NOT_USE_BELOW = 0.75, 0.5
C1 = level_number("C1")


class Use(str, Enum):
    """What a vertebra is good for."""

    GOOD = "good"
    CHECK = "check"
    NOT = "do not use"


@dataclass(frozen=True)
class Status:
    """The judgement about one vertebra.

    Args:
        use: what it is good for.
        reasons: why not for everything; empty if it is good.
    """

    use: Use
    reasons: tuple[str, ...] = ()


def by_reason(withheld: dict[str, str]) -> list[tuple[str, str]]:
    """Measurements with the same reason together.

    Args:
        withheld: name of a measurement -> why it is withheld.

    Returns:
        names that share a reason, and the reason.
    """
    names: dict[str, list[str]] = {}
    for name, reason in withheld.items():
        names.setdefault(reason, []).append(name.replace("_", " "))
    return [(", ".join(what), reason) for reason, what in names.items()]


def flag_texts(
    measures: VertebraMeasures | None, out_of_line_mm: float | None, agreements: Sequence[Agreement]
) -> list[str]:
    """What disagrees about a vertebra, in words: the ``flags`` of the report.

    Args:
        measures: of the vertebra; None if it has no body.
        out_of_line_mm: how far it lies off the line of its neighbours, if that is too far.
        agreements: with the AP and the LAT film; empty if nothing was found.
    """
    texts = [f"{what} withheld: {why}" for what, why in by_reason(measures.withheld if measures else {})]
    if out_of_line_mm is not None:
        texts.append(f"lies {out_of_line_mm:.0f} mm out of line with its neighbours; is its mark right?")
    for name, agreement in zip(("AP", "LAT"), agreements, strict=False):
        texts.extend(f"{name} film: {complaint}" for complaint in agreement.complaints)
    return texts


def judge(
    part: ReconstructedVertebra,
    measures: VertebraMeasures | None,
    unmeasured: str | None,
    out_of_line_mm: float | None,
    agreements: Sequence[Agreement],
) -> Status:
    """The status of one vertebra.

    Args:
        part: the vertebra.
        measures, out_of_line_mm, agreements: see `flag_texts`.
        unmeasured: why it has no measures, if it has none.
    """
    if not part.found:
        return Status(Use.NOT, ("nothing was reconstructed at its marks",))
    reasons = flag_texts(measures, out_of_line_mm, agreements)
    if part.contested > MAX_CONTESTED:
        reasons.append(f"neighbours claim {100 * part.contested:.0f} % of it; are two marks on one vertebra?")
    # The ring of C1 has no body to measure; any other vertebra has one.
    bodiless = unmeasured is not None and part.level != C1
    if bodiless:
        reasons.append(f"not measured: {unmeasured}")
    # A confidence that is no number is none.
    if not part.confidence >= CHECK_BELOW:
        reasons.append(_doubt(part))
    wrong = (
        not part.confidence >= DO_NOT_USE_BELOW
        or part.contested > MAX_CONTESTED
        or bodiless
        or out_of_line_mm is not None
        or (measures is not None and TILT in measures.withheld)
        or any(agreement.drifted for agreement in agreements)
    )
    use = Use.NOT if wrong else Use.CHECK if reasons else Use.GOOD
    return Status(use, tuple(reasons))


def _doubt(part: ReconstructedVertebra) -> str:
    """A low confidence, and what lowers it most."""
    vertebra = part.vertebra
    agreement = math.exp(-0.5 * (vertebra.residual_mm / RESIDUAL_SCALE_MM) ** 2)
    causes = {
        f"its marks in the two views miss each other by {vertebra.residual_mm:.1f} mm": agreement,
        f"its marks are uncertain ({vertebra.confidence:.2f})": vertebra.confidence,
        "its shape is uncertain": part.shape_confidence,
    }
    limit = DO_NOT_USE_BELOW if part.confidence < DO_NOT_USE_BELOW else CHECK_BELOW
    shown = f"{part.confidence:.2f}"
    # Rounded up to the limit it would look as if it were high enough.
    shown = f"just below {limit:.2f}" if float(shown) >= limit else shown
    return f"confidence {shown}: {min(causes, key=lambda cause: causes[cause])}"
