"""A session with one pair of films: what was reconstructed is kept, and only what changed is done again.

The command line and the viewer both use it::

    session = Session(films, predictor)
    first = session.reconstruct(annotations, progress=print)
    second = session.reconstruct(annotations_with_one_mark_moved)  # one vertebra goes through the network
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from scripts.anatomy.placement import from_mark
from scripts.errors import UserError
from scripts.films.film import Films
from scripts.films.mark_order import check_order
from scripts.films.scale_check import check_scale
from scripts.geometry.cropping import network_input, smooth_for_pitch, turned_back
from scripts.geometry.frames import IPL_AXES
from scripts.geometry.leaning import Lean
from scripts.io.annotations import Annotations
from scripts.levels import level_name
from scripts.reconstruction.predictor import Predictor
from scripts.reconstruction.steady import USUAL, steady_numbers
from scripts.spine.assembly import (
    LocatedVertebra,
    ReconstructedVertebra,
    assemble,
    locate_vertebrae,
    patient_lattice,
    resolve_overlaps,
)
from scripts.spine.reconstruction import Reconstruction, residual_warnings

# A vertebra of which a neighbour took more than this is reported: two marks on one vertebra look like that.
MAX_CONTESTED = 0.3
# Level, its two marks, (row, column) each, and how it leans.
Marked = tuple[int, tuple[float, float], tuple[float, float], Lean]
# And how its mean shape lies, as it and its neighbours are read; nothing of networks that do not read it.
Key = tuple[Marked, tuple[float, ...]]


class CancelledError(Exception):
    """The caller no longer wants the result; what was finished is kept for the next call."""


@dataclass(frozen=True)
class Progress:
    """How far a reconstruction is.

    Args:
        stage: ``network`` (a vertebra at a time) or ``assemble``.
        done: steps of the stage that are over.
        total: all of them.
        level: VerSe number of the vertebra that is ready, if one is.
    """

    stage: str
    done: int
    total: int
    level: int | None = None


def smoothed_views(films: Films) -> list[torch.Tensor]:
    """AP and LAT (rows, columns), smoothed for patches of the networks' pixel size."""
    return [torch.from_numpy(smooth_for_pitch(v.film.pixels, v.view.pixel_mm)) for v in films.views]


class Session:
    """Reconstructions of one film pair by one network. Calls may come from several threads; they take turns.

    Args:
        films: the radiographs.
        predictor: the network; sessions may share one.
        capacity: probability cubes to keep, 3.5 MB each; the least recently used go first.
    """

    def __init__(self, films: Films, predictor: Predictor, capacity: int = 80) -> None:
        self.films, self.predictor, self.capacity = films, predictor, capacity
        self._lattice = patient_lattice(films.geometry)
        self._cubes: OrderedDict[Key, np.ndarray] = OrderedDict()
        self._read: dict[Marked, np.ndarray] = {}
        self._cropped: dict[Marked, torch.Tensor] = {}
        self._parts: dict[int, tuple[tuple[object, ...], ReconstructedVertebra]] = {}
        self._smooth: list[torch.Tensor] | None = None
        self._lock = threading.Lock()

    def reconstruct(
        self,
        annotations: Annotations,
        levels: list[int] | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Reconstruction:
        """The marked vertebrae. Those whose marks are as in an earlier call do not go through the network again.

        Args:
            annotations: the marks.
            levels: VerSe numbers to reconstruct; all that are marked in both views if None.
            progress: told of every step, in the caller's thread.
            cancelled: asked before every vertebra.

        Raises:
            UserError: the marks do not belong to these films or run the wrong way, or a level cannot be found.
            CancelledError: ``cancelled`` said so.
        """
        tell = progress or (lambda step: None)
        with self._lock:
            started = time.perf_counter()
            self.films.check_marks(annotations)
            order = check_order(annotations)
            vertebrae = locate_vertebrae(annotations, self.films.geometry, self._lattice, levels)
            spine = locate_vertebrae(annotations, self.films.geometry, self._lattice) if levels else vertebrae
            scale = check_scale(self.films, annotations)
            warnings = [*self.films.warnings, *order, *residual_warnings(vertebrae), *scale]
            keys = self._keys(vertebrae, spine)
            missing = [(v, key) for v, key in zip(vertebrae, keys, strict=True) if key not in self._cubes]
            outputs = self._outputs(missing) if missing else iter(())
            cropped = time.perf_counter()
            self._predict(missing, outputs, len(keys), tell, cancelled or (lambda: False))
            predicted = time.perf_counter()
            tell(Progress("assemble", 0, 1))
            parts = self._resolve(vertebrae, keys)
            self._limit()
            labels, grid = assemble((p.vertebra, p.probability) for p in parts)
            tell(Progress("assemble", 1, 1))
            for part in parts:
                warnings.extend(_shape_warnings(part))
            seconds = {
                "crop": cropped - started,
                "network": predicted - cropped,
                "assemble": time.perf_counter() - predicted,
            }
            return Reconstruction(parts, labels, grid, seconds, warnings, len(missing))

    def made_from(self, annotations: Annotations, levels: list[int]) -> dict[int, tuple[float, ...]]:
        """What reconstructions depend on besides films and network, by VerSe number.

        Two calls that give the same numbers for a level get the same vertebra, but for what neighbours overlap.

        Args:
            annotations: the marks.
            levels: VerSe numbers that are marked in both views.

        Returns:
            level, its marks' pixels and their confidence, its lean, and how its mean shape lies.

        Raises:
            UserError: the marks do not belong to these films or run the wrong way, or a level cannot be found.
        """
        with self._lock:
            self.films.check_marks(annotations)
            check_order(annotations)
            spine = locate_vertebrae(annotations, self.films.geometry, self._lattice)
            wanted = [v for v in spine if v.level in levels]
            keys = self._keys(wanted, spine)
        return {
            v.level: (level, *ap, *lat, v.confidence, lean.frontal_deg, lean.sagittal_deg, *lies)
            for v, ((level, ap, lat, lean), lies) in zip(wanted, keys, strict=True)
        }

    def read_bodies(self, annotations: Annotations) -> dict[int, np.ndarray]:
        """Where the network sees the body of each vertebra that both views mark: VerSe number -> world mm (3,).

        Args:
            annotations: the marks, at least one pair.

        Raises:
            UserError: the marks do not belong to these films, or none is a pair.
        """
        with self._lock:
            self.films.check_marks(annotations)
            spine = locate_vertebrae(annotations, self.films.geometry, self._lattice)
            keys = self._keys(spine, spine)
        bodies = {}
        for v, (_, lies) in zip(spine, keys, strict=True):
            away = from_mark(np.array(lies) - USUAL, v.lean.left_over_deg())
            bodies[v.level] = v.cube.body_centroid_mm + v.lean.rotation() @ away @ IPL_AXES
        return bodies

    def _keys(self, wanted: list[LocatedVertebra], spine: list[LocatedVertebra]) -> list[Key]:
        """What each reconstruction depends on; reads how the spine's vertebrae lie, where that is not known yet."""
        marked = [_marked(v) for v in spine]
        # Marks that were moved since are not asked for again.
        self._cropped = {m: self._cropped[m] for m in marked if m in self._cropped}
        if not self.predictor.takes_level:
            return [(_marked(v), ()) for v in wanted]
        new = [(v, m) for v, m in zip(spine, marked, strict=True) if m not in self._read]
        if new:
            inputs = self._inputs([v for v, _ in new])
            tilts = [v.lean.left_over_deg() for v, _ in new]
            read = self.predictor.read(inputs, [v.level for v, _ in new], tilts)
            self._read.update(zip((m for _, m in new), read, strict=True))
        self._read = {m: self._read[m] for m in marked}
        read = np.stack(list(self._read.values()))
        numbers = steady_numbers(read, [v.level for v in spine], [v.automatic for v in spine])
        lies = {m: tuple(row) for m, row in zip(marked, numbers.tolist(), strict=True)}
        return [(_marked(v), lies[_marked(v)]) for v in wanted]

    def _outputs(self, missing: list[tuple[LocatedVertebra, Key]]) -> Iterator[np.ndarray]:
        """What the network makes of each, as it comes."""
        vertebrae = [v for v, _ in missing]
        inputs = self._inputs(vertebrae)
        tilts = [v.lean.left_over_deg() for v in vertebrae]
        numbers = [key[1] for _, key in missing] if self.predictor.takes_level else None
        return self.predictor(inputs, [v.level for v in vertebrae], tilts, numbers)

    def _inputs(self, vertebrae: list[LocatedVertebra]) -> list[torch.Tensor]:
        """Network inputs, each cropped once."""
        if self._smooth is None:
            self._smooth = smoothed_views(self.films)
        ap, lat = self._smooth
        for v in vertebrae:
            if _marked(v) not in self._cropped:
                self._cropped[_marked(v)] = network_input((ap, lat), v.pixels, self.films.geometry, v.cube, v.lean)
        return [self._cropped[_marked(v)] for v in vertebrae]

    def _predict(
        self,
        missing: list[tuple[LocatedVertebra, Key]],
        outputs: Iterator[np.ndarray],
        total: int,
        tell: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Fill in the missing cubes."""
        kept = total - len(missing)
        tell(Progress("network", kept, total))
        for done, (vertebra, key) in enumerate(missing, start=kept + 1):
            if cancelled():
                raise CancelledError
            probability = next(outputs)
            if not np.isfinite(probability).all():
                raise UserError(f"{level_name(vertebra.level)}: the network answers NaN; its weights are damaged")
            # Half precision holds a probability to 0.0005 in half the memory.
            self._cubes[key] = turned_back(probability, vertebra.lean).astype(np.float16)
            tell(Progress("network", done, total, vertebra.level))
        if cancelled():
            raise CancelledError

    def _resolve(self, vertebrae: list[LocatedVertebra], keys: list[Key]) -> list[ReconstructedVertebra]:
        """Parts, the same objects as before where neither they nor a vertebra that reaches into them changed."""
        for key in keys:
            self._cubes.move_to_end(key)
        reach = [[j for j, other in enumerate(vertebrae) if _meet(vertebra, other)] for vertebra in vertebrae]
        signatures = [(v.confidence, keys[i], *(keys[j] for j in reach[i])) for i, v in enumerate(vertebrae)]
        known = [self._parts.get(v.level, ((), None)) for v in vertebrae]
        changed = [i for i, signature in enumerate(signatures) if known[i][0] != signature]
        around = sorted({j for i in changed for j in reach[i]})
        fresh = resolve_overlaps([(vertebrae[j], self._cubes[keys[j]]) for j in around]) if around else []
        for i, part in zip(around, fresh, strict=True):
            if i in changed:
                self._parts[vertebrae[i].level] = (signatures[i], part)
        return [self._parts[v.level][1] for v in vertebrae]

    def _limit(self) -> None:
        while len(self._cubes) > self.capacity:
            self._cubes.popitem(last=False)


def reconstruct_films(
    films: Films, annotations: Annotations, predictor: Predictor, levels: list[int] | None = None
) -> Reconstruction:
    """All marked vertebrae of two films, once, with a progress bar.

    Args:
        films: in one frame and with a scale.
        annotations: their marks.
        predictor: the network.
        levels: VerSe numbers to reconstruct; all that are marked in both views if None.

    Raises:
        UserError: the marks do not belong to these films, or a level cannot be found.

    >>> from scripts.films.options import ReadingOptions
    >>> from scripts.films.pair import read_films
    >>> from scripts.io.annotations import read_annotations
    >>> from scripts.paths import BUNDLE_ROOT
    >>> sample = BUNDLE_ROOT / "docs" / "sample"
    >>> films = read_films(sample / "ap.nii.gz", sample / "lat.nii.gz", ReadingOptions())
    >>> found = reconstruct_films(films, read_annotations(sample / "annotations.json"), Predictor(), [20])
    >>> [part.level for part in found.parts], round(found.parts[0].probability.sum() / 1000) in range(20, 60)  # L1, cm3
    ([20], True)
    """
    with tqdm(desc="vertebrae", unit="vertebra", delay=0.1) as bar:

        def show(step: Progress) -> None:
            if step.stage == "network":
                bar.total = step.total
                bar.update(step.done - bar.n)

        return Session(films, predictor).reconstruct(annotations, levels, show)


def _marked(vertebra: LocatedVertebra) -> Marked:
    ap, lat = ((float(pixel[0]), float(pixel[1])) for pixel in vertebra.pixels)
    return vertebra.level, ap, lat, vertebra.lean


def _meet(a: LocatedVertebra, b: LocatedVertebra) -> bool:
    """Whether two cubes overlap."""
    size = a.cube.grid.shape[0]
    return bool(np.all(np.abs(np.array(a.cube.start) - b.cube.start) < size))


def _shape_warnings(part: ReconstructedVertebra) -> list[str]:
    name = level_name(part.level)
    if not part.found:
        return [f"{name}: the network found no vertebra at its mark"]
    if part.contested > MAX_CONTESTED:
        return [f"{name}: neighbours claim {100 * part.contested:.0f} % of it; are two marks on one vertebra?"]
    return []
