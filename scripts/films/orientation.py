"""Which view a DICOM film is, and how its pixels are turned into the display convention."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from pydicom import Dataset

from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.header import text, texts

FRONTAL, LATERAL = Projection.FRONTAL, Projection.LATERAL

# View Position (0018,5101): the standard's terms and what is written instead.
POSITIONS = {"AP": FRONTAL, "PA": FRONTAL} | dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT"), LATERAL)
# Of them, whether the source stood behind or on the right.
SIDES = {"PA": True, "LL": True, "LLAT": True, "AP": False, "RL": False, "RLAT": False}
# View Code Sequence (0054,0220), SNOMED CT and, until 2019, SNOMED RT as in DICOM's context group 4010 and pydicom's
# dictionaries: the view, and whether the source stood behind or on the right; None if the code does not say. R-10214 is
# what the standard had for postero-anterior before R-40888.
CODES: dict[str, tuple[Projection, bool | None]] = {
    **dict.fromkeys(("399348003", "R-10206"), (FRONTAL, False)),  # antero-posterior
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), (FRONTAL, True)),  # postero-anterior
    **dict.fromkeys(("399067008", "R-102CD"), (LATERAL, None)),  # lateral
    **dict.fromkeys(("399198007", "R-10232"), (LATERAL, False)),  # right lateral
    **dict.fromkeys(("399173006", "R-10236"), (LATERAL, True)),  # left lateral
}
WORDS = {FRONTAL: r"\b(AP|PA|FRONTAL|FACE|CORONAL)\b", LATERAL: r"\b(LAT|LATERAL|LL|RL|PROFILE?|SAGITTAL)\b"}
OBLIQUES = ("LPO", "RPO", "LAO", "RAO", "LLO", "RLO", "OBL", "OBLIQUE")
OBLIQUE_WORDS = rf"\b({'|'.join(OBLIQUES)}|OBLIQUES)\b"
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
# What the columns and the rows of a displayed film grow towards.
DISPLAY = {FRONTAL: ("L", "F"), LATERAL: ("P", "F")}
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
ANGLE_TOLERANCE_DEG = 30.0


@dataclass(frozen=True)
class ViewEvidence:
    """What a header says about its view.

    Args:
        claims: attribute -> the view it speaks for, the most trustworthy first.
        sides: attribute -> PA, or left lateral, of those that say it, the most trustworthy first.
        oblique: attribute that says that the film was taken obliquely, whatever the others say; empty if none does.
    """

    claims: dict[str, Projection]
    sides: dict[str, bool] = field(default_factory=dict)
    oblique: str = ""

    @property
    def reversed(self) -> bool | None:
        """PA, or left lateral; None if the header is silent."""
        return next(iter(self.sides.values()), None)

    @property
    def projection(self) -> Projection | None:
        """What the most trustworthy attribute says; None of an oblique view."""
        return None if self.oblique else next(iter(self.claims.values()), None)


def view_evidence(header: Dataset) -> ViewEvidence:
    """View Position, View Code, Patient Orientation, positioner angle and descriptions, in this order."""
    claims: dict[str, Projection] = {}
    sides: dict[str, bool] = {}
    position = text(header, "ViewPosition")
    oblique = "ViewPosition" if position in OBLIQUES else ""
    if position in POSITIONS:
        claims["ViewPosition"] = POSITIONS[position]
        sides |= {"ViewPosition": SIDES[position]} if position in SIDES else {}
    for item in header.get("ViewCodeSequence") or []:
        code = text(item, "CodeValue")
        if code in CODES:
            claims["ViewCodeSequence"], side = CODES[code]
            if side is not None:
                sides.setdefault("ViewCodeSequence", side)
    letters = orientation_letters(header)
    if letters:
        claims["PatientOrientation"] = FRONTAL if set(letters) & {"L", "R"} else LATERAL
    angle = header.get("PositionerPrimaryAngle")
    if angle is not None:
        # 0 and 180 look along the sagittal plane, +-90 across it.
        off_frontal = abs((float(angle) + 90) % 180 - 90)
        if off_frontal < ANGLE_TOLERANCE_DEG:
            claims["PositionerPrimaryAngle"] = FRONTAL
        elif off_frontal > 90 - ANGLE_TOLERANCE_DEG:
            claims["PositionerPrimaryAngle"] = LATERAL
        else:
            oblique = oblique or "PositionerPrimaryAngle"
    for name in DESCRIPTIONS:
        words = re.sub(r"[^A-Z]+", " ", " ".join(texts(header, name)))
        found = [view for view, pattern in WORDS.items() if re.search(pattern, words)]
        if len(found) == 1:
            claims[name] = found[0]
        # A protocol of all views names the others too.
        elif not found and re.search(OBLIQUE_WORDS, words):
            oblique = oblique or name
    return ViewEvidence(claims, sides, oblique)


def check_view(evidence: ViewEvidence, wanted: Projection, where: str) -> list[str]:
    """Refuse a film that is the other view by all that its header says.

    Returns:
        warnings.

    Raises:
        UserError: the views are swapped, or its view position is an oblique one.
    """
    if evidence.oblique == "ViewPosition":
        raise UserError(
            f"{where}: given as the {wanted.value} view but ViewPosition says oblique; give the {wanted.value} film"
        )
    if evidence.oblique:
        return [
            f"{wanted.value}: {evidence.oblique} says that this film is oblique; shapes and measures from an oblique "
            "film are wrong"
        ]
    against = [name for name, view in evidence.claims.items() if view is not wanted]
    if not evidence.claims:
        return [f"{wanted.value}: no attribute says which view this is; taken as given"]
    if len(against) == len(evidence.claims):
        other = FRONTAL if wanted is LATERAL else LATERAL
        raise UserError(
            f"{where}: given as the {wanted.value} view but {against[0]} says {other.value}; "
            "are --ap and --lat swapped?"
        )
    lines = [f"{wanted.value}: {', '.join(against)} contradict(s) the view; taken as given"] if against else []
    if len(set(evidence.sides.values())) > 1:
        first, second = evidence.sides
        lines.append(
            f"{wanted.value}: {second} contradicts {first} on the side on which the X-ray source stood, ignored"
        )
    return lines


def orientation_letters(header: Dataset) -> tuple[str, str] | None:
    """Main directions that columns and rows grow towards (Patient Orientation), or None if it does not say."""
    words = texts(header, "PatientOrientation")
    if len(words) != 2:
        return None
    first, second = (word[:1] for word in words)
    axes = {frozenset(pair): i for i, pair in enumerate((("L", "R"), ("A", "P"), ("H", "F")))}
    kinds = [next((i for axis, i in axes.items() if letter in axis), None) for letter in (first, second)]
    return (first, second) if None not in kinds and 2 in kinds and kinds[0] != kinds[1] else None


def to_display(pixels: np.ndarray, letters: tuple[str, str], wanted: Projection) -> np.ndarray:
    """Pixels turned and mirrored into the display convention.

    Args:
        pixels: (rows, columns) as stored.
        letters: what its columns and rows grow towards.
        wanted: the view.

    Raises:
        ValueError: these letters do not belong to the view.
    """
    if letters[0] in "HF":
        pixels, letters = pixels.T, (letters[1], letters[0])
    for axis, (letter, target) in enumerate(zip(letters, DISPLAY[wanted], strict=True)):
        if letter == OPPOSITE[target]:
            pixels = np.flip(pixels, 1 - axis)
        elif letter != target:
            raise ValueError(f"{letters} is no {wanted.value} view")
    return pixels
