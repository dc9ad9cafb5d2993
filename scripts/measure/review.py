"""All that is asked of a finished reconstruction: poses, measures, shadows on the films, and what to warn of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from scripts.films.film import Films
from scripts.io.annotations import EndVertebrae
from scripts.levels import level_name
from scripts.measure.body import NoBodyError
from scripts.measure.credible import TILT
from scripts.measure.morphometry import SpineMeasures, measure_spine
from scripts.measure.plausibility import kinks
from scripts.measure.pose import VertebraPose, estimate_pose, spine_directions
from scripts.measure.reprojection import Agreement, Shadow, reproject
from scripts.measure.spine_angles import SpineAngle, spine_angles
from scripts.measure.status import Status, Use, flag_texts, judge
from scripts.measure.vertebrae import measure_vertebrae
from scripts.spine.assembly import ReconstructedVertebra
from scripts.spine.reconstruction import Reconstruction
from scripts.threads import map_in_threads

# A part's pose does not change while a session hands out the same part: whatever lies near enough to turn the spine
# there lies near enough to make a new part.
_POSES: WeakKeyDictionary[ReconstructedVertebra, VertebraPose | str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Review:
    """What was found out about a reconstruction, by VerSe number.

    Args:
        poses: of vertebrae with a body.
        unmeasured: why others have none.
        measures: of all poses; those of the spine without what is not to be used.
        shadows: on the AP and on the LAT film.
        agreements: likewise.
        statuses: whether each vertebra may be used, see `scripts.measure.status`.
        flags: what disagrees, in words; levels without a complaint are missing.
    """

    poses: dict[int, VertebraPose]
    unmeasured: dict[int, str]
    measures: SpineMeasures
    shadows: dict[int, tuple[Shadow, Shadow]]
    agreements: dict[int, tuple[Agreement, Agreement]]
    statuses: dict[int, Status]
    flags: dict[int, list[str]] = field(default_factory=dict)

    @property
    def usable(self) -> dict[int, VertebraPose]:
        """Poses whose endplates can be true, by VerSe number."""
        return {m.level: self.poses[m.level] for m in self.measures.vertebrae if TILT not in m.withheld}

    @property
    def doubted(self) -> dict[int, str]:
        """Why vertebrae are not to be used, by VerSe number; no angle of the spine rests on them."""
        return {n: f"{s.use.value}, {'; '.join(s.reasons)}" for n, s in self.statuses.items() if s.use is Use.NOT}

    @property
    def marked(self) -> frozenset[int]:
        """Vertebrae whose names get an exclamation mark in pictures."""
        return frozenset({*self.flags, *self.doubted})

    def angles(self, chosen: Sequence[EndVertebrae]) -> tuple[SpineAngle, ...]:
        """The spine's angles, see `spine_angles`.

        Args:
            chosen: end vertebrae that the user chose.
        """
        withheld = {m.level: m.withheld[TILT] for m in self.measures.vertebrae if TILT in m.withheld}
        unusable = {**self.doubted, **self.unmeasured, **withheld}
        return spine_angles({n: pose for n, pose in self.poses.items() if n not in unusable}, unusable, chosen)

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
    statuses: dict[int, Status] = {}
    out_of_line = kinks(result.vertebrae)
    measured = {m.level: m for m in measure_vertebrae(list(poses.values()))}
    for part in result.parts:
        level = part.level
        evidence = measured.get(level), out_of_line.get(level), agreements.get(level, ())
        texts = flag_texts(*evidence)
        if texts:
            flags[level] = texts
        statuses[level] = judge(part, evidence[0], unmeasured.get(level), *evidence[1:])
    doubted = [level for level, status in statuses.items() if status.use is Use.NOT]
    measures = measure_spine(list(poses.values()), doubted)
    return Review(poses, unmeasured, measures, shadows, agreements, statuses, flags)


def spine_poses(parts: list[ReconstructedVertebra]) -> tuple[dict[int, VertebraPose], dict[int, str]]:
    """Poses by VerSe number, and why some vertebrae have none.

    Args:
        parts: head to foot.
    """
    poses: dict[int, VertebraPose] = {}
    why: dict[int, str] = {}
    marks = np.array([part.vertebra.cube.body_centroid_mm for part in parts])
    new = [(p, down) for p, down in zip(parts, spine_directions(marks), strict=True) if p not in _POSES]
    answers = map_in_threads(lambda both: _pose_or_reason(*both), new)
    _POSES.update(zip((p for p, _ in new), answers, strict=True))
    for part in parts:
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
