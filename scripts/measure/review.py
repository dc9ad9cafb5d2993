"""All that is asked of a finished reconstruction: poses, measures, shadows on the films, and what to warn of."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from scripts.films.film import Films
from scripts.levels import level_name
from scripts.measure.body import NoBodyError
from scripts.measure.morphometry import SpineMeasures, measure_spine
from scripts.measure.plausibility import kinks
from scripts.measure.pose import VertebraPose, estimate_pose, spine_directions
from scripts.measure.reprojection import Agreement, Shadow, reproject
from scripts.spine.assembly import ReconstructedVertebra
from scripts.spine.reconstruction import Reconstruction

# A part's pose does not change while a session hands out the same part: whatever lies near enough to turn the spine
# there lies near enough to make a new part.
_POSES: WeakKeyDictionary[ReconstructedVertebra, VertebraPose | str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Review:
    """What was found out about a reconstruction, by VerSe number.

    Args:
        poses: of vertebrae with a body.
        unmeasured: why others have none.
        measures: of all poses.
        shadows: on the AP and on the LAT film.
        agreements: likewise.
        flags: what disagrees, in words; levels without a complaint are missing.
    """

    poses: dict[int, VertebraPose]
    unmeasured: dict[int, str]
    measures: SpineMeasures
    shadows: dict[int, tuple[Shadow, Shadow]]
    agreements: dict[int, tuple[Agreement, Agreement]]
    flags: dict[int, list[str]] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """The flags as lines, after what concerns the whole spine."""
        lines = [f"{level_name(number)}: {text}" for number, texts in self.flags.items() for text in texts]
        return [*([self.measures.contradiction] if self.measures.contradiction else []), *lines]


def review(films: Films, result: Reconstruction) -> Review:
    """Measure a reconstruction and hold it against its films.

    Args:
        films: the radiographs.
        result: what was reconstructed from them.
    """
    poses, unmeasured = spine_poses(result.parts)
    found = [part for part in result.parts if part.found]
    shadows: dict[int, tuple[Shadow, Shadow]] = {}
    agreements: dict[int, tuple[Agreement, Agreement]] = {}
    if found:
        bodies = [poses[p.level].origin_mm if p.level in poses else None for p in found]
        cast, compared = reproject(films.geometry, films.pixels, found, bodies)
        shadows = {part.level: both for part, both in zip(found, cast, strict=True)}
        agreements = {part.level: both for part, both in zip(found, compared, strict=True)}
    flags: dict[int, list[str]] = {}
    out_of_line = kinks(result.vertebrae)
    measures = measure_spine(list(poses.values()))
    withheld = {m.level: m.withheld for m in measures.vertebrae}
    for part in result.parts:
        texts = [f"{what} withheld: {why}" for what, why in _by_reason(withheld.get(part.level, {}))]
        if part.level in out_of_line:
            texts.append(f"lies {out_of_line[part.level]:.0f} mm out of line with its neighbours; is its mark right?")
        for name, agreement in zip(("AP", "LAT"), agreements.get(part.level, ()), strict=False):
            texts.extend(f"{name} film: {complaint}" for complaint in agreement.complaints)
        if texts:
            flags[part.level] = texts
    return Review(poses, unmeasured, measures, shadows, agreements, flags)


def _by_reason(withheld: dict[str, str]) -> list[tuple[str, str]]:
    """Measurements that share a reason in one line."""
    names: dict[str, list[str]] = {}
    for name, reason in withheld.items():
        names.setdefault(reason, []).append(name.replace("_", " "))
    return [(", ".join(what), reason) for reason, what in names.items()]


def spine_poses(parts: list[ReconstructedVertebra]) -> tuple[dict[int, VertebraPose], dict[int, str]]:
    """Poses by VerSe number, and why some vertebrae have none.

    Args:
        parts: head to foot.
    """
    poses: dict[int, VertebraPose] = {}
    why: dict[int, str] = {}
    marks = np.array([part.vertebra.cube.body_centroid_mm for part in parts])
    for part, down in zip(parts, spine_directions(marks), strict=True):
        if part not in _POSES:
            _POSES[part] = _pose_or_reason(part, down)
        answer = _POSES[part]
        if isinstance(answer, str):
            why[part.level] = answer
        else:
            poses[part.level] = answer
    return poses, why


def _pose_or_reason(part: ReconstructedVertebra, down: np.ndarray | None) -> VertebraPose | str:
    if not part.found:
        return "nothing was reconstructed"
    cube = part.vertebra.cube
    try:
        return estimate_pose(part.level, part.probability, cube.grid.affine, np.array(cube.body_centroid_mm), down)
    except NoBodyError as error:
        return str(error)
