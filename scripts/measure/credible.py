"""Which measured values can be true: what no vertebra can be is withheld, with its reason."""

from __future__ import annotations

import numpy as np

from scripts.levels import region
from scripts.measure.pose import VertebraPose

# A vertebra turns by 40 to 45 degrees at the apex of the worst scolioses.
MAX_ROTATION_DEG = 50.0
# True vertebrae lie within 31 degrees of the line through the bodies (88 vertebrae, docs/measurements.md).
MAX_FROM_LINE_DEG = 45.0
# A value that is known no better than this says nothing.
MAX_SD_DEG = 15.0
# Least and most width, depth and height of a body, mm; those of the same 88 vertebrae lie well inside.
SIZES_MM: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "cervical": ((9.0, 38.0), (8.0, 28.0), (5.0, 26.0)),
    "thoracic": ((15.0, 58.0), (11.0, 48.0), (5.0, 40.0)),
    "lumbar": ((24.0, 75.0), (18.0, 58.0), (8.0, 45.0)),
}
# What depends on the directions of endplates, and what does not.
TILT, ROTATION, WEDGE, HEIGHTS, WIDTH, DEPTH = "tilt", "axial_rotation", "wedge", "heights", "width", "depth"


def withheld_reasons(pose: VertebraPose, rotation_deg: float, spine_down: np.ndarray | None) -> dict[str, str]:
    """Why some of a vertebra's measurements are not to be shown.

    Args:
        pose: of the vertebra.
        rotation_deg: its axial rotation in the patient's transverse plane.
        spine_down: (3,) world direction of the line through the bodies there; None for a single vertebra.

    Returns:
        name of the measurement (`TILT` and so on) -> reason; empty if all can be true.
    """
    reasons: dict[str, str] = {}
    plates = [plate for plate in (pose.upper, pose.lower) if plate is not None]
    worst_sd = max(sd for plate in plates for sd in plate.sd_deg)
    if spine_down is not None:
        along = float(-pose.axes[2] @ spine_down / np.linalg.norm(spine_down))
        away = float(np.degrees(np.arccos(np.clip(along, -1, 1))))
        if away > MAX_FROM_LINE_DEG:
            reasons[TILT] = f"endplates {away:.0f}° askew to the line through the bodies"
    if not 0 < worst_sd <= MAX_SD_DEG:
        reasons[TILT] = f"endplates uncertain by {worst_sd:.0f}°"
    if TILT in reasons:
        # Everything else is measured along axes that follow from the endplates.
        reasons |= dict.fromkeys((ROTATION, WEDGE, HEIGHTS, WIDTH, DEPTH), reasons[TILT])
        return reasons
    if abs(rotation_deg) > MAX_ROTATION_DEG:
        reasons[ROTATION] = f"{abs(rotation_deg):.0f}° is more than a vertebra turns"
    elif not 0 < pose.axial_sd_deg <= MAX_SD_DEG:
        reasons[ROTATION] = f"uncertain by {pose.axial_sd_deg:.0f}°"
    if not pose.canal_found:
        # The back wall was placed by the width, and heights are read at places that follow from it.
        reasons |= dict.fromkeys((DEPTH, HEIGHTS), "the spinal canal was not found behind the body")
    for name, values, (least, most) in zip(
        (WIDTH, DEPTH, HEIGHTS),
        ((pose.width_mm,), (pose.depth_mm,), pose.heights_mm or ()),
        SIZES_MM[region(pose.level)],
        strict=True,
    ):
        for value in values:
            if not least <= value <= most:
                reasons[name] = f"{value:.0f} mm is no {name.removesuffix('s')} of a {region(pose.level)} body"
    return reasons
